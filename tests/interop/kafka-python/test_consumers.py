"""Where a consumer starts, how it waits, and how it gets on."""

import time

import pytest
from conftest import GENERATION, expect_nothing, numbered, take
from kafka import TopicPartition
from kafka.errors import OffsetOutOfRangeError


@pytest.mark.parametrize("start", [0, 1, 99, 100, 150, 199])
def test_reading_starts_at_any_offset_even_inside_a_batch(broker, start):
    topic = broker.create_topic()
    broker.produce(topic, numbered(100), linger_ms=100, compression_type="gzip")
    broker.produce(topic, numbered(100), linger_ms=100)
    assert [r.offset for r in broker.read(topic, 200 - start, start=start)] == list(range(start, 200))


def test_seek_goes_back_and_forth_and_to_both_ends(broker):
    topic = broker.create_topic()
    partition = TopicPartition(topic, 0)
    broker.produce(topic, numbered(300))
    consumer = broker.consumer((topic, 0))
    assert take(consumer, 1)[0].offset == 0
    for offset in (250, 3, 120):
        consumer.seek(partition, offset)
        assert [r.offset for r in take(consumer, 20)] == list(range(offset, offset + 20))
    consumer.seek_to_beginning(partition)
    assert take(consumer, 1)[0].offset == 0
    consumer.seek_to_end(partition)
    assert consumer.position(partition) == 300


def test_a_consumer_at_the_end_gets_only_what_comes_after(broker):
    topic = broker.create_topic()
    broker.produce(topic, numbered(10))
    consumer = broker.consumer((topic, 0), auto_offset_reset="latest")
    expect_nothing(consumer, 1)
    broker.produce(topic, numbered(1))
    assert take(consumer, 1)[0].offset == 10


def test_an_offset_out_of_range_is_reset_or_reported(broker):
    topic = broker.create_topic()
    broker.produce(topic, numbered(3))
    assert [r.offset for r in broker.read(topic, 3, start=5000)] == [0, 1, 2]
    strict = broker.consumer((topic, 0), start=5000, auto_offset_reset="none")
    with pytest.raises(OffsetOutOfRangeError):
        take(strict, 1)


def test_offsets_are_found_by_end_and_time(broker):
    topic = broker.create_topic()
    first = int(time.time() * 1000) - 1_000_000
    for after in (0, 1000, 30_000, 3000):
        broker.produce(topic, [{"value": b"x", "timestamp_ms": first + after}])
    partition, consumer = TopicPartition(topic, 0), broker.consumer()
    assert consumer.beginning_offsets([partition]) == {partition: 0}
    assert consumer.end_offsets([partition]) == {partition: 4}

    def found(timestamp):
        answer = consumer.offsets_for_times({partition: timestamp})[partition]
        return answer and (answer.offset, answer.timestamp)

    assert found(first - 1) == (0, first)
    assert found(first + 1) == (1, first + 1000)
    assert found(first + 1001) == (2, first + 30_000)
    assert found(first + 30_001) is None


def test_a_waiting_consumer_gets_a_new_record_before_its_wait_ends(broker):
    topic = broker.create_topic()
    consumer = broker.consumer((topic, 0), fetch_max_wait_ms=25_000)
    expect_nothing(consumer, 1)
    broker.produce(topic, numbered(1))
    take(consumer, 1, seconds=10)


def test_records_larger_than_the_fetch_limits_are_read(broker):
    topic = broker.create_topic()
    for _ in range(5):
        broker.produce(topic, [{"value": bytes(60_000)}])
    records = broker.read(topic, 5, max_partition_fetch_bytes=1000, fetch_max_bytes=1000)
    assert [r.offset for r in records] == list(range(5))


def test_without_fetch_sessions_reading_is_the_same(broker):
    topic = broker.create_topic()
    broker.produce(topic, numbered(50))
    consumer = broker.consumer((topic, 0), enable_incremental_fetch_sessions=False)
    take(consumer, 50)
    broker.produce(topic, numbered(50))
    assert [r.offset for r in take(consumer, 50)] == list(range(50, 100))


@pytest.mark.skipif(GENERATION == 3, reason="3.0.12 may drop what it has fetched when it pauses")
def test_a_paused_partition_rests_and_goes_on(broker):
    topic = broker.create_topic(partitions=2)
    consumer = broker.consumer((topic, 0), (topic, 1))
    both = [{"value": b"x", "partition": p} for p in (0, 1)]
    broker.produce(topic, both)
    take(consumer, 2)
    consumer.pause(TopicPartition(topic, 1))
    broker.produce(topic, both)
    assert take(consumer, 1)[0].partition == 0
    expect_nothing(consumer, 1)
    consumer.resume(TopicPartition(topic, 1))
    assert take(consumer, 1)[0].partition == 1


def test_topics_and_partitions_are_listed(broker):
    topic = broker.create_topic(partitions=5)
    consumer = broker.consumer()
    assert topic in consumer.topics()
    assert consumer.partitions_for_topic(topic) == set(range(5))
    assert not consumer.partitions_for_topic(broker.unused_name("nobody"))


def test_iterating_ends_when_nothing_comes(broker):
    topic = broker.create_topic()
    broker.produce(topic, numbered(20))
    consumer = broker.consumer((topic, 0), consumer_timeout_ms=1500, value_deserializer=int)
    assert [r.value for r in consumer] == list(range(20))
