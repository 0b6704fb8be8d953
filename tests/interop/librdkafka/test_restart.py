"""What survives a clean restart: everything that was acknowledged, under the same offsets and ids."""

import pytest
from confluent_kafka import TopicCollection
from conftest import result, send, take

pytestmark = pytest.mark.timeout(120)


def test_records_and_topics_survive_a_restart(broker, restart):
    topic = broker.create_topic(partitions=3)
    before = describe_id(broker, topic)
    for partition in range(3):
        broker.produce(topic, [{"value": b"%d:%d" % (partition, i)} for i in range(500)], partition=partition)
    restart()
    assert describe_id(broker, topic) == before
    for partition in range(3):
        messages = broker.read(topic, 500, partition=partition)
        assert [m.value() for m in messages] == [b"%d:%d" % (partition, i) for i in range(500)]
        assert broker.produce(topic, [{"value": b"after"}], partition=partition) == [500]


def describe_id(broker, topic):
    return str(result(broker.admin.describe_topics(TopicCollection([topic]))).topic_id)


def test_an_idempotent_producer_goes_on_over_a_restart(broker, restart):
    topic = broker.create_topic()
    conf = {"enable.idempotence": True, "message.timeout.ms": 60_000, "reconnect.backoff.max.ms": 500}
    producer = broker.producer(**conf)
    send(producer, topic, [{"value": b"%d" % i, "partition": 0} for i in range(1000)])
    restart()
    offsets = send(producer, topic, [{"value": b"%d" % i, "partition": 0} for i in range(1000, 2000)])
    assert offsets == list(range(1000, 2000))
    assert [m.value() for m in broker.read(topic, 2000)] == [b"%d" % i for i in range(2000)]


def test_a_consumer_goes_on_over_a_restart(broker, restart):
    topic = broker.create_topic()
    broker.produce(topic, [{"value": b"before"}] * 10)
    consumer = broker.consumer((topic, 0, 0), **{"reconnect.backoff.max.ms": 500})
    take(consumer, 10)
    restart()
    broker.produce(topic, [{"value": b"after"}] * 10)
    assert [m.offset() for m in take(consumer, 10, seconds=30)] == list(range(10, 20))
