"""The admin client of generation 3."""

import pytest
from conftest import wait_until
from kafka import TopicPartition
from kafka.admin import ConfigResource, OffsetSpec
from kafka.errors import (
    InvalidConfigurationError,
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    InvalidTopicError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)


def test_the_cluster_tells_brokers_controller_and_id(broker):
    cluster = broker.admin.describe_cluster()
    assert cluster["cluster_id"]
    assert cluster["controller_id"] in [b["broker_id"] for b in cluster["brokers"]]


def test_a_topic_is_created_described_and_deleted(broker):
    topic = broker.unused_name()
    wanted = {topic: {"num_partitions": 3, "replication_factor": 1, "configs": {"max.message.bytes": "20000"}}}
    broker.admin.create_topics(wanted, validate_only=True)
    assert topic not in broker.admin.list_topics()

    (created,) = broker.admin.create_topics(wanted, wait_for_metadata=True)["topics"]
    assert (created["num_partitions"], created["replication_factor"]) == (3, 1)
    assert created["configs"]["max.message.bytes"]["value"] == "20000"
    assert topic in broker.admin.list_topics()
    (described,) = broker.admin.describe_topics([topic])
    assert described["topic_id"] == created["topic_id"]
    assert sorted(p["partition_index"] for p in described["partitions"]) == [0, 1, 2]
    assert all(p["leader_id"] in p["isr_nodes"] for p in described["partitions"])

    broker.admin.delete_topics([topic])
    wait_until(lambda: topic not in broker.admin.list_topics(), "the topic is gone")


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("not a name", {}, InvalidTopicError),
        (None, {"num_partitions": 0, "replication_factor": 1}, InvalidPartitionsError),
        (None, {"num_partitions": 1, "replication_factor": 3}, InvalidReplicationFactorError),
        (None, {"configs": {"no.such.config": "1"}}, InvalidConfigurationError),
    ],
)
def test_a_refused_topic_says_why(broker, name, options, error):
    with pytest.raises(error):
        broker.admin.create_topics({name or broker.unused_name(): options})


def test_a_topic_is_created_once_and_deleted_once(broker):
    topic = broker.create_topic()
    with pytest.raises(TopicAlreadyExistsError):
        broker.admin.create_topics([topic])
    with pytest.raises(UnknownTopicOrPartitionError):
        broker.admin.delete_topics([broker.unused_name("nobody")])


def test_a_topic_gets_more_partitions(broker):
    topic = broker.create_topic(partitions=2)
    broker.admin.create_partitions({topic: 4})
    wait_until(lambda: len(broker.admin.describe_topics([topic])[0]["partitions"]) == 4, "there are four")
    broker.wait_for_leaders(topic, 4)
    assert broker.produce(topic, [{"value": b"x", "partition": 3}])[0].offset == 0
    with pytest.raises(InvalidPartitionsError):
        broker.admin.create_partitions({topic: 3})


def config_of(broker, topic, key):
    described = broker.admin.describe_configs(
        [ConfigResource("topic", topic)], include_synonyms=True, config_filter="all"
    )
    return described["topic"][topic][key]


def test_topic_configs_are_altered_and_reset(broker):
    topic = broker.create_topic()

    def limit_is(value, source):
        config = config_of(broker, topic, "max.message.bytes")
        return (config["value"], config["config_source"]) == (value, source)

    assert limit_is("1048588", "DEFAULT_CONFIG")
    assert config_of(broker, topic, "max.message.bytes")["synonyms"][0]["name"] == "message.max.bytes"
    broker.admin.alter_configs([ConfigResource("topic", topic, {"max.message.bytes": "5000"})])
    wait_until(lambda: limit_is("5000", "DYNAMIC_TOPIC_CONFIG"), "the config is altered")
    broker.admin.reset_configs([ConfigResource("topic", topic, ["max.message.bytes"])])
    wait_until(lambda: limit_is("1048588", "DEFAULT_CONFIG"), "the config is reset")

    # The old request, which replaces all configs of the topic.
    only = {"message.timestamp.type": "LogAppendTime"}
    broker.admin.alter_configs([ConfigResource("topic", topic, only)], incremental=False)
    wait_until(
        lambda: config_of(broker, topic, "message.timestamp.type")["value"] == "LogAppendTime", "the config is replaced"
    )


def test_broker_configs_are_described(broker):
    (node, *_) = [b["broker_id"] for b in broker.admin.describe_cluster()["brokers"]]
    described = broker.admin.describe_configs([ConfigResource("broker", str(node))], config_filter="all")
    assert {"message.max.bytes", "num.partitions"} <= set(described["broker"][str(node)])


def test_offsets_are_listed_by_end_and_time(broker):
    topic = broker.create_topic()
    for timestamp in (1000, 3000, 2000):
        broker.produce(topic, [{"value": b"x", "timestamp_ms": timestamp}])
    partition = TopicPartition(topic, 0)

    def listed(spec):
        found = broker.admin.list_partition_offsets({partition: spec})[partition]
        return found.offset, found.timestamp

    assert listed(OffsetSpec.EARLIEST) == (0, -1)
    assert listed(OffsetSpec.LATEST) == (3, -1)
    assert listed(OffsetSpec.MAX_TIMESTAMP) == (1, 3000)
    assert listed(1001) == (1, 3000)


def test_the_broker_tells_its_apis(broker):
    names = {key.name for key in broker.admin.api_versions()}
    assert {"Produce", "Fetch", "ListOffsets", "Metadata", "CreateTopics"} <= names
