"""Where a consumer starts, how it waits, and how it gets on."""

import json
import time

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec
from conftest import result, send, take, wait_until


def numbered(count):
    return [{"value": b"%d" % i} for i in range(count)]


@pytest.mark.parametrize("start", [0, 1, 37, 99, 100, 150, 199])
def test_reading_starts_at_any_offset_even_inside_a_batch(broker, start):
    topic = broker.create_topic()
    broker.produce(topic, numbered(100), **{"linger.ms": 100})
    broker.produce(topic, numbered(100), **{"linger.ms": 100, "compression.type": "gzip"})
    messages = broker.read(topic, 200 - start, start=start)
    assert [m.offset() for m in messages] == list(range(start, 200))


def test_seek_goes_back_and_forth(broker):
    topic = broker.create_topic()
    broker.produce(topic, numbered(300))
    consumer = broker.consumer((topic, 0, OFFSET_BEGINNING))
    assert take(consumer, 1)[0].offset() == 0
    for offset in (250, 3, 120):
        consumer.seek(TopicPartition(topic, 0, offset))
        assert [m.offset() for m in take(consumer, 20)] == list(range(offset, offset + 20))


def test_a_consumer_at_the_end_sees_only_what_comes_after(broker):
    topic = broker.create_topic()
    broker.produce(topic, numbered(10))
    consumer = broker.consumer((topic, 0, OFFSET_END))
    assert consumer.poll(1.5) is None
    broker.produce(topic, [{"value": b"new"}])
    (message,) = take(consumer, 1)
    assert (message.offset(), message.value()) == (10, b"new")


def test_an_offset_out_of_range_is_reset_to_the_earliest(broker):
    topic = broker.create_topic()
    broker.produce(topic, numbered(3))
    consumer = broker.consumer((topic, 0, 5000), **{"auto.offset.reset": "earliest"})
    assert [m.offset() for m in take(consumer, 3)] == [0, 1, 2]


def test_an_offset_out_of_range_is_reported_when_no_reset_is_wanted(broker):
    topic = broker.create_topic()
    broker.produce(topic, numbered(3))
    consumer = broker.consumer((topic, 0, 5000), **{"auto.offset.reset": "error"})
    message = consumer.poll(15)
    assert message is not None
    assert message.error().code() == KafkaError._AUTO_OFFSET_RESET


def test_the_end_of_a_partition_is_reported(broker):
    topic = broker.create_topic()
    broker.produce(topic, numbered(3))
    consumer = broker.consumer((topic, 0, 0), **{"enable.partition.eof": True})
    events = [consumer.poll(10) for _ in range(4)]
    assert [e.error() and e.error().code() for e in events] == [None, None, None, KafkaError._PARTITION_EOF]
    assert events[3].offset() == 3


def test_a_record_larger_than_the_fetch_limits_is_read_nevertheless(broker):
    topic = broker.create_topic()
    values = [bytes([i]) * 60_000 for i in range(5)]
    for value in values:
        broker.produce(topic, [{"value": value}])
    limits = {"fetch.message.max.bytes": 1000, "fetch.max.bytes": 1000, "message.max.bytes": 1000}
    assert [m.value() for m in broker.read(topic, 5, **limits)] == values


def test_a_waiting_consumer_gets_a_new_record_promptly(broker):
    topic = broker.create_topic()
    broker.produce(topic, numbered(1))
    consumer = broker.consumer((topic, 0, 1), **{"fetch.wait.max.ms": 8000})
    assert consumer.poll(2) is None
    producer = broker.producer(**{"linger.ms": 0})
    send(producer, topic, [{"value": b"warm up", "partition": 0}])
    take(consumer, 1)
    time.sleep(0.5)
    acknowledged = send(producer, topic, [{"value": b"new", "partition": 0}]) and time.monotonic()
    (message,) = take(consumer, 1)
    assert message.value() == b"new"
    assert time.monotonic() - acknowledged < 1


def test_an_idle_consumer_waits_in_the_broker_and_does_not_spin(broker):
    topic = broker.create_topic()
    fetches = []

    def on_stats(stats):
        sent = (b["req"].get("Fetch", 0) for b in json.loads(stats)["brokers"].values())
        fetches.append(sum(sent))

    conf = {"fetch.wait.max.ms": 1000, "statistics.interval.ms": 500, "stats_cb": on_stats}
    consumer = broker.consumer((topic, 0, 0), **conf)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        assert consumer.poll(0.2) is None
    assert 2 <= fetches[-1] <= 8


def test_a_paused_partition_rests_and_goes_on_after_resume(broker):
    topic = broker.create_topic(partitions=2)
    consumer = broker.consumer((topic, 0, 0), (topic, 1, 0))
    broker.produce(topic, numbered(5), partition=0)
    broker.produce(topic, numbered(5), partition=1)
    take(consumer, 10)
    consumer.pause([TopicPartition(topic, 1)])
    broker.produce(topic, numbered(5), partition=0)
    broker.produce(topic, numbered(5), partition=1)
    assert [m.partition() for m in take(consumer, 5)] == [0] * 5
    assert consumer.poll(1) is None
    consumer.resume([TopicPartition(topic, 1)])
    assert [(m.partition(), m.offset()) for m in take(consumer, 5)] == [(1, i) for i in range(5, 10)]


def test_watermarks_are_the_ends_of_the_log(broker):
    topic = broker.create_topic(partitions=2)
    broker.produce(topic, numbered(12), partition=0)
    consumer = broker.consumer()
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10) == (0, 12)
    assert consumer.get_watermark_offsets(TopicPartition(topic, 1), timeout=10) == (0, 0)


def timestamped_topic(broker):
    """Offsets 0 to 4 at these times after the first; the third is ahead of those that follow."""
    topic = broker.create_topic()
    first = int(time.time() * 1000) - 1_000_000
    for after in (0, 1000, 30_000, 3000, 4000):
        broker.produce(topic, [{"value": b"x", "timestamp": first + after}])
    return topic, first


@pytest.mark.parametrize(
    ("after_first_ms", "offset"),
    [(-500_000, 0), (0, 0), (1, 1), (1000, 1), (1001, 2), (4000, 2), (30_000, 2), (30_001, OFFSET_END)],
)
def test_offset_for_a_time_is_the_first_record_not_older(broker, after_first_ms, offset):
    topic, first = timestamped_topic(broker)
    consumer = broker.consumer()
    (found,) = consumer.offsets_for_times([TopicPartition(topic, 0, first + after_first_ms)], timeout=10)
    assert found.error is None
    assert found.offset == offset


def test_list_offsets_knows_earliest_latest_and_max_timestamp(broker):
    topic, first = timestamped_topic(broker)

    def listed(spec):
        found = result(broker.admin.list_offsets({TopicPartition(topic, 0): spec}))
        return found.offset, found.timestamp

    assert listed(OffsetSpec.earliest()) == (0, -1)
    assert listed(OffsetSpec.latest()) == (5, -1)
    assert listed(OffsetSpec.max_timestamp()) == (2, first + 30_000)
    assert listed(OffsetSpec.for_timestamp(first + 1)) == (1, first + 1000)


def test_an_unknown_topic_is_reported_and_not_created(broker):
    topic = broker.unused_name("nobody")
    consumer = broker.consumer((topic, 0, 0), **{"allow.auto.create.topics": False})
    assert consumer.poll(1) is None
    listed = consumer.list_topics(topic, timeout=10).topics[topic]
    assert listed.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    assert topic not in broker.topics()


def test_a_consumer_may_have_its_topic_created(broker):
    topic = broker.unused_name("auto")
    consumer = broker.consumer((topic, 0, 0), **{"allow.auto.create.topics": True})
    consumer.poll(1)
    wait_until(lambda: topic in broker.topics(), "the topic is listed")


def test_offsets_of_an_unknown_topic_are_an_error(broker):
    consumer = broker.consumer()
    with pytest.raises(KafkaException) as raised:
        consumer.get_watermark_offsets(TopicPartition(broker.unused_name("nobody"), 0), timeout=10)
    assert raised.value.args[0].code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION)
