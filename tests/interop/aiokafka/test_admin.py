"""The admin client, which leaves most errors to be read from the answers."""

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    InvalidConfigurationError,
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    InvalidTopicError,
    NoError,
    OffsetOutOfRangeError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from conftest import numbered, wait_until


async def created(admin, *topics, **options):
    """The error class for each topic of one request."""
    answer = await admin.create_topics(list(topics), **options)
    return [for_code(error[1]) for error in answer.topic_errors]


async def test_the_cluster_tells_brokers_controller_and_id(broker):
    cluster = await (await broker.admin()).describe_cluster()
    assert cluster["cluster_id"]
    assert cluster["controller_id"] in [b["node_id"] for b in cluster["brokers"]]


async def test_a_topic_is_created_described_and_deleted(broker):
    admin, topic = await broker.admin(), broker.unused_name()
    assert await created(admin, NewTopic(topic, 3, 1), validate_only=True) == [NoError]
    assert topic not in await admin.list_topics()

    assert await created(admin, NewTopic(topic, 3, 1)) == [NoError]
    await broker.wait_for_leaders(topic, 3)
    assert topic in await admin.list_topics()
    (described,) = await admin.describe_topics([topic])
    assert sorted(p["partition"] for p in described["partitions"]) == [0, 1, 2]
    assert all(p["leader"] in p["isr"] for p in described["partitions"])

    answer = await admin.delete_topics([topic])
    assert answer.topic_error_codes == [(topic, 0)]

    async def is_gone():
        return topic not in await admin.list_topics()

    await wait_until(is_gone, "the topic is gone")


@pytest.mark.parametrize(
    ("name", "partitions", "replicas", "config", "error"),
    [
        ("not a name", 1, 1, {}, InvalidTopicError),
        (None, 0, 1, {}, InvalidPartitionsError),
        (None, 1, 3, {}, InvalidReplicationFactorError),
        (None, 1, 1, {"no.such.config": "1"}, InvalidConfigurationError),
    ],
)
async def test_a_refused_topic_says_why(broker, name, partitions, replicas, config, error):
    topic = NewTopic(name or broker.unused_name(), partitions, replicas, topic_configs=config)
    assert await created(await broker.admin(), topic) == [error]


async def test_a_topic_is_created_once_and_deleted_once(broker):
    admin, topic, unknown = await broker.admin(), await broker.create_topic(), broker.unused_name("nobody")
    assert await created(admin, NewTopic(topic, 1, 1)) == [TopicAlreadyExistsError]
    answer = await admin.delete_topics([unknown])
    assert answer.topic_error_codes == [(unknown, UnknownTopicOrPartitionError.errno)]


async def test_a_topic_gets_more_partitions(broker):
    admin, topic = await broker.admin(), await broker.create_topic(partitions=2)
    await admin.create_partitions({topic: NewPartitions(4)})
    await broker.wait_for_leaders(topic, 4)
    (acknowledged,) = await broker.produce(topic, [{"value": b"x", "partition": 3}])
    assert acknowledged.offset == 0
    with pytest.raises(InvalidPartitionsError):
        await admin.create_partitions({topic: NewPartitions(3)})


async def test_topic_configs_are_altered_as_a_whole(broker):
    admin = await broker.admin()
    topic = await broker.create_topic(config={"message.timestamp.type": "LogAppendTime"})

    async def configs():
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        ((error, _, _, _, entries),) = answer.resources
        assert error == 0
        return {entry[0]: entry[1] for entry in entries}

    assert (await configs())["max.message.bytes"] == "1048588"
    wanted = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "5000"})
    (answer,) = await admin.alter_configs([wanted])
    assert answer.resources[0][0] == 0

    async def are_altered():
        now = await configs()
        return (now["max.message.bytes"], now["message.timestamp.type"]) == ("5000", "CreateTime")

    await wait_until(are_altered, "one is set, the other is its default again")


async def test_broker_configs_are_described(broker):
    admin = await broker.admin()
    node = (await admin.describe_cluster())["brokers"][0]["node_id"]
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, str(node))])
    assert {"message.max.bytes", "num.partitions"} <= {entry[0] for entry in answer.resources[0][4]}


async def test_deleted_records_are_gone(broker):
    admin, topic = await broker.admin(), await broker.create_topic()
    partition = TopicPartition(topic, 0)
    await broker.produce(topic, numbered(20))
    assert await admin.delete_records({partition: RecordsToDelete(before_offset=7)}) == {partition: 7}
    assert [r.offset for r in await broker.read(topic, 13)] == list(range(7, 20))
    with pytest.raises(OffsetOutOfRangeError):
        await admin.delete_records({partition: RecordsToDelete(before_offset=21)})
