"""Topics and the cluster, through the admin client."""

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import NewTopic
from conftest import result, wait_until


def error_of(futures):
    with pytest.raises(KafkaException) as raised:
        result(futures)
    return raised.value.args[0].code()


def test_a_created_topic_is_listed_with_its_partitions(broker):
    topic = broker.create_topic(partitions=5)
    metadata = broker.admin.list_topics(topic, timeout=10)
    partitions = metadata.topics[topic].partitions
    assert sorted(partitions) == [0, 1, 2, 3, 4]
    for partition in partitions.values():
        assert partition.error is None
        assert partition.leader in metadata.brokers
        assert partition.leader in partition.replicas
        assert partition.leader in partition.isrs


def test_several_topics_are_created_and_deleted_in_one_request(broker):
    names = [broker.unused_name() for _ in range(5)]
    for future in broker.admin.create_topics([NewTopic(n, 2, 1) for n in names], operation_timeout=10).values():
        future.result(20)
    wait_until(lambda: set(names) <= broker.topics(), "all are listed")
    for future in broker.admin.delete_topics(names, operation_timeout=10).values():
        future.result(20)
    wait_until(lambda: not set(names) & broker.topics(), "none is listed")


def test_one_bad_topic_in_a_request_does_not_harm_the_others(broker):
    good, bad = broker.unused_name(), "not a name"
    futures = broker.admin.create_topics([NewTopic(bad, 1, 1), NewTopic(good, 1, 1)], operation_timeout=10)
    assert error_of(futures[bad]) == KafkaError.TOPIC_EXCEPTION
    futures[good].result(20)


def test_partitions_and_replication_factor_may_be_left_to_the_broker(broker):
    topic = broker.unused_name()
    result(broker.admin.create_topics([NewTopic(topic, -1, -1)], operation_timeout=10))
    wait_until(lambda: topic in broker.topics(), "the topic is listed")
    assert len(broker.admin.list_topics(topic, timeout=10).topics[topic].partitions) >= 1


def test_validate_only_creates_nothing(broker):
    topic = broker.unused_name()
    result(broker.admin.create_topics([NewTopic(topic, 1, 1)], validate_only=True))
    assert topic not in broker.topics()


def test_creating_a_topic_twice_is_refused(broker):
    topic = broker.create_topic()
    assert error_of(broker.admin.create_topics([NewTopic(topic, 1, 1)])) == KafkaError.TOPIC_ALREADY_EXISTS


@pytest.mark.parametrize("name", [".", "..", "with space", "sla/sh", "col:on", "żółw", "../../etc/x", "x" * 250])
def test_an_invalid_name_is_refused(broker, name):
    assert error_of(broker.admin.create_topics([NewTopic(name, 1, 1)])) == KafkaError.TOPIC_EXCEPTION


def test_the_longest_name_and_all_legal_characters_work(broker):
    for name in (broker.unused_name() + "x" * 235, "A.b_c-9." + broker.unused_name()):
        broker.create_topic(name=name)
        assert broker.produce(name, [{"value": b"v"}]) == [0]
        assert broker.read(name, 1)[0].topic() == name


def test_zero_partitions_are_refused(broker):
    topic = broker.unused_name()
    assert error_of(broker.admin.create_topics([NewTopic(topic, 0, 1)])) == KafkaError.INVALID_PARTITIONS


def test_three_replicas_on_one_broker_are_refused(broker):
    topic = broker.unused_name()
    code = error_of(broker.admin.create_topics([NewTopic(topic, 1, 3)]))
    assert code == KafkaError.INVALID_REPLICATION_FACTOR


@pytest.mark.parametrize("config", [{"no.such.config": "1"}, {"retention.ms": "soon"}])
def test_a_config_that_does_not_exist_or_fit_is_refused(broker, config):
    topic = broker.unused_name()
    code = error_of(broker.admin.create_topics([NewTopic(topic, 1, 1, config=config)]))
    assert code == KafkaError.INVALID_CONFIG


def test_deleting_an_unknown_topic_is_an_error(broker):
    code = error_of(broker.admin.delete_topics([broker.unused_name("nobody")]))
    assert code == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_a_recreated_topic_starts_anew_with_another_id(broker):
    topic = broker.create_topic(partitions=3)
    broker.produce(topic, [{"value": b"old"}] * 10)
    old_id = describe(broker, topic).topic_id
    result(broker.admin.delete_topics([topic], operation_timeout=10))
    wait_until(lambda: topic not in broker.topics(), "the topic is gone")
    broker.create_topic(name=topic, partitions=1)
    assert str(describe(broker, topic).topic_id) != str(old_id)
    assert broker.produce(topic, [{"value": b"new"}]) == [0]
    assert [m.value() for m in broker.read(topic, 1)] == [b"new"]


def describe(broker, topic):
    return result(broker.admin.describe_topics(TopicCollection([topic])))


def test_describe_topic_tells_id_leader_and_partitions(broker):
    topic = broker.create_topic(partitions=3)
    described = describe(broker, topic)
    assert described.name == topic
    assert not described.is_internal
    assert str(described.topic_id) not in ("", "AAAAAAAAAAAAAAAAAAAAAA")
    assert [p.id for p in described.partitions] == [0, 1, 2]
    assert all(p.leader.port > 0 for p in described.partitions)


def test_describe_unknown_topic_is_an_error(broker):
    futures = broker.admin.describe_topics(TopicCollection([broker.unused_name("nobody")]))
    assert error_of(futures) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_describe_cluster_tells_nodes_controller_and_id(broker):
    cluster = broker.admin.describe_cluster(include_authorized_operations=True).result(20)
    assert cluster.cluster_id
    assert cluster.cluster_id == broker.admin.list_topics(timeout=5).cluster_id
    assert cluster.controller.id in [n.id for n in cluster.nodes]
    assert all(n.host and n.port > 0 for n in cluster.nodes)
    assert cluster.authorized_operations


def test_metadata_of_one_topic_leaves_out_the_others(broker):
    one, other = broker.create_topic(), broker.create_topic()
    listed = broker.admin.list_topics(one, timeout=5).topics
    assert one in listed
    assert other not in listed
