"""Where a consumer starts, how it waits, and how it gets on."""

import asyncio
import time

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from conftest import expect_nothing, numbered, take


@pytest.mark.parametrize("start", [0, 1, 99, 100, 150, 199])
async def test_reading_starts_at_any_offset_even_inside_a_batch(broker, start):
    topic = await broker.create_topic()
    await broker.produce(topic, numbered(100), linger_ms=100, compression_type="gzip")
    await broker.produce(topic, numbered(100), linger_ms=100)
    assert [r.offset for r in await broker.read(topic, 200 - start, start=start)] == list(range(start, 200))


async def test_seek_goes_back_and_forth_and_to_both_ends(broker):
    topic = await broker.create_topic()
    partition = TopicPartition(topic, 0)
    await broker.produce(topic, numbered(300))
    consumer = await broker.consumer((topic, 0))
    assert (await take(consumer, 1))[0].offset == 0
    for offset in (250, 3, 120):
        consumer.seek(partition, offset)
        assert [r.offset for r in await take(consumer, 20)] == list(range(offset, offset + 20))
    await consumer.seek_to_beginning(partition)
    assert (await take(consumer, 1))[0].offset == 0
    await consumer.seek_to_end(partition)
    assert await consumer.position(partition) == 300


async def test_a_consumer_at_the_end_gets_only_what_comes_after(broker):
    topic = await broker.create_topic()
    await broker.produce(topic, numbered(10))
    consumer = await broker.consumer((topic, 0), auto_offset_reset="latest")
    await expect_nothing(consumer, 1)
    await broker.produce(topic, numbered(1))
    assert (await take(consumer, 1))[0].offset == 10


async def test_an_offset_out_of_range_is_reset_or_reported(broker):
    topic = await broker.create_topic()
    await broker.produce(topic, numbered(3))
    assert [r.offset for r in await broker.read(topic, 3, start=5000)] == [0, 1, 2]
    strict = await broker.consumer((topic, 0), start=5000, auto_offset_reset="none")
    with pytest.raises(OffsetOutOfRangeError):
        await strict.getone()


async def test_offsets_are_found_by_end_and_time(broker):
    topic = await broker.create_topic()
    first = int(time.time() * 1000) - 1_000_000
    for after in (0, 1000, 30_000, 3000):
        await broker.produce(topic, [{"value": b"x", "timestamp_ms": first + after}])
    partition, consumer = TopicPartition(topic, 0), await broker.consumer()
    assert await consumer.beginning_offsets([partition]) == {partition: 0}
    assert await consumer.end_offsets([partition]) == {partition: 4}

    async def found(timestamp):
        answer = (await consumer.offsets_for_times({partition: timestamp}))[partition]
        return answer and (answer.offset, answer.timestamp)

    assert await found(first - 1) == (0, first)
    assert await found(first + 1) == (1, first + 1000)
    assert await found(first + 1001) == (2, first + 30_000)
    assert await found(first + 30_001) is None


async def test_a_waiting_consumer_gets_a_new_record_before_its_wait_ends(broker):
    topic = await broker.create_topic()
    consumer = await broker.consumer((topic, 0), fetch_max_wait_ms=25_000)
    await expect_nothing(consumer, 1)
    await broker.produce(topic, numbered(1))
    await take(consumer, 1, seconds=10)


async def test_records_larger_than_the_fetch_limits_are_read(broker):
    topic = await broker.create_topic()
    for _ in range(5):
        await broker.produce(topic, [{"value": bytes(60_000)}])
    records = await broker.read(topic, 5, max_partition_fetch_bytes=1000, fetch_max_bytes=1000)
    assert [r.offset for r in records] == list(range(5))


async def test_a_paused_partition_rests_and_goes_on(broker):
    topic = await broker.create_topic(partitions=2)
    consumer = await broker.consumer((topic, 0), (topic, 1))
    both = [{"value": b"x", "partition": p} for p in (0, 1)]
    await broker.produce(topic, both)
    await take(consumer, 2)
    consumer.pause(TopicPartition(topic, 1))
    await broker.produce(topic, both)
    assert (await take(consumer, 1))[0].partition == 0
    await expect_nothing(consumer, 1)
    consumer.resume(TopicPartition(topic, 1))
    assert (await take(consumer, 1))[0].partition == 1


async def test_a_read_committed_consumer_reads_what_has_no_transaction(broker):
    topic = await broker.create_topic()
    await broker.produce(topic, numbered(10))
    consumer = await broker.consumer((topic, 0), isolation_level="read_committed")
    assert [r.offset for r in await take(consumer, 10)] == list(range(10))
    assert consumer.last_stable_offset(TopicPartition(topic, 0)) == 10


async def test_topics_and_partitions_are_listed(broker):
    topic = await broker.create_topic(partitions=5)
    consumer = await broker.consumer()
    assert topic in await consumer.topics()
    producer = await broker.producer()
    assert await producer.partitions_for(topic) == set(range(5))


async def test_iterating_goes_on_as_records_come(broker):
    topic = await broker.create_topic()
    consumer = await broker.consumer((topic, 0))

    async def first_twenty():
        values = []
        async for record in consumer:
            values.append(int(record.value))
            if len(values) == 20:
                return values

    reading = asyncio.create_task(first_twenty())
    producer = await broker.producer()
    for i in range(20):
        await producer.send_and_wait(topic, b"%d" % i)
    assert await asyncio.wait_for(reading, 20) == list(range(20))


async def test_an_offset_that_is_acknowledged_but_not_visible_yet_is_within_range(broker):
    for _ in range(20):
        topic = await broker.create_topic()
        acknowledged = await broker.produce(topic, numbered(100), acks=1)
        last = acknowledged[-1].offset
        consumer = await broker.consumer((topic, 0), start=last, auto_offset_reset="none")
        assert [r.offset for r in await take(consumer, 1)] == [last]
