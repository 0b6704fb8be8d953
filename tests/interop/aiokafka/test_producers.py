"""What is produced, and with which promise, is what is read."""

import asyncio
import os
import random
import time

import pytest
from aiokafka.errors import MessageSizeTooLargeError
from conftest import numbered, send, take

CODECS = [None, "gzip", "snappy", "lz4", "zstd"]


@pytest.mark.parametrize("acks", [1, "all"])
async def test_acknowledged_records_have_their_offsets(broker, acks):
    topic = await broker.create_topic()
    acknowledged = await broker.produce(topic, numbered(1000), acks=acks)
    assert [a.offset for a in acknowledged] == list(range(1000))
    assert [r.value for r in await broker.read(topic, 1000)] == [b"%d" % i for i in range(1000)]


async def test_acks_0_writes_without_an_answer(broker):
    topic = await broker.create_topic()
    producer = await broker.producer(acks=0)
    for _ in range(2):
        for message in numbered(500):
            await producer.send(topic, partition=0, **message)
        await producer.flush()
    assert [r.offset for r in await broker.read(topic, 1000)] == list(range(1000))


async def test_an_idempotent_producer_writes_once_and_in_order(broker):
    topic = await broker.create_topic()
    acknowledged = await broker.produce(topic, numbered(5000), enable_idempotence=True, max_batch_size=2000)
    assert [a.offset for a in acknowledged] == list(range(5000))
    assert [r.value for r in await broker.read(topic, 5000)] == [b"%d" % i for i in range(5000)]


@pytest.mark.parametrize("codec", CODECS)
async def test_every_codec_round_trips(broker, codec):
    topic = await broker.create_topic()
    random_bytes = random.Random(7)
    values = [b"%d " % i + random_bytes.randbytes(40) + b"a" * (i % 200) for i in range(500)]
    await broker.produce(topic, [{"value": v} for v in values], compression_type=codec, linger_ms=50)
    records = await broker.read(topic, 500)
    assert [r.value for r in records] == values
    assert [r.offset for r in records] == list(range(500))


async def test_keys_nulls_headers_and_timestamps_are_kept(broker):
    topic = await broker.create_topic()
    now = int(time.time() * 1000)
    headers = [("a", b"1"), ("a", b"again"), ("null", None), ("empty", b""), ("ключ-😀", bytes(range(256)))]
    messages = [
        {"key": b"key", "value": b"value", "timestamp_ms": now - 3_600_000},
        {"key": b"tombstone", "value": None, "timestamp_ms": now},
        {"key": b"", "value": b"", "timestamp_ms": now - 1, "headers": headers},
    ]
    await broker.produce(topic, messages)
    for record, message in zip(await broker.read(topic, 3), messages, strict=True):
        assert (record.key, record.value) == (message["key"], message["value"])
        assert (record.timestamp, record.timestamp_type) == (message["timestamp_ms"], 0)
        assert list(record.headers) == message.get("headers", [])


async def test_log_append_time_comes_back_with_the_acknowledgement(broker):
    topic = await broker.create_topic(config={"message.timestamp.type": "LogAppendTime"})
    (acknowledged,) = await broker.produce(topic, [{"value": b"x", "timestamp_ms": 1}])
    (record,) = await broker.read(topic, 1)
    assert (record.timestamp_type, acknowledged.timestamp_type) == (1, 1)
    assert record.timestamp == acknowledged.timestamp > 1


async def test_a_batch_built_by_hand_is_one_batch(broker):
    topic = await broker.create_topic()
    producer = await broker.producer()
    batch = producer.create_batch()
    for i in range(10):
        batch.append(key=None, value=b"%d" % i, timestamp=None)
    acknowledged = await (await producer.send_batch(batch, topic, partition=0))
    assert acknowledged.offset == 0
    assert [r.value for r in await broker.read(topic, 10)] == [b"%d" % i for i in range(10)]


async def test_records_of_almost_a_megabyte_round_trip(broker):
    topic = await broker.create_topic()
    values = [os.urandom(1_000_000) for _ in range(3)]
    await broker.produce(topic, [{"value": v} for v in values])
    assert [r.value for r in await broker.read(topic, 3)] == values


async def test_a_record_over_the_topics_limit_is_refused_and_the_next_one_taken(broker):
    topic = await broker.create_topic(config={"max.message.bytes": "10000"})
    producer = await broker.producer()
    with pytest.raises(MessageSizeTooLargeError):
        await send(producer, topic, [{"value": os.urandom(20_000)}])
    assert (await send(producer, topic, [{"value": b"small"}]))[0].offset == 0


async def test_a_topic_that_nobody_created_comes_with_the_first_record(broker):
    topic = broker.unused_name("auto")
    producer = await broker.producer()
    assert (await producer.send_and_wait(topic, b"first")).offset == 0


async def test_keys_are_spread_over_partitions_that_each_have_their_log(broker):
    topic = await broker.create_topic(partitions=20)
    messages = [{"key": b"key-%d" % (i % 100), "value": b"%d" % i, "partition": None} for i in range(2000)]
    await broker.produce(topic, messages)
    homes, next_offset = {}, {}
    for record in await take(await broker.consumer(*[(topic, p) for p in range(20)]), 2000):
        assert homes.setdefault(record.key, record.partition) == record.partition
        assert record.offset == next_offset.get(record.partition, 0)
        next_offset[record.partition] = record.offset + 1
    assert len(homes) == 100
    assert len(next_offset) > 1


async def test_producers_in_parallel_lose_and_reorder_nothing(broker):
    topic = await broker.create_topic()

    async def run(name):
        await broker.produce(topic, [{"value": b"%d:%d" % (name, i)} for i in range(1000)])

    await asyncio.gather(*(run(name) for name in range(4)))
    seen = {name: [] for name in range(4)}
    for record in await broker.read(topic, 4000):
        name, index = map(int, record.value.split(b":"))
        seen[name].append(index)
    assert seen == {name: list(range(1000)) for name in range(4)}
