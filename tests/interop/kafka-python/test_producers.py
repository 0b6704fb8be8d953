"""What is produced, and with which promise, is what is read."""

import os
import random
import time

import pytest
from conftest import GENERATION, numbered, send, take
from kafka.errors import MessageSizeTooLargeError

CODECS = [None, "gzip", "snappy", "lz4", "zstd"]


@pytest.mark.parametrize("acks", [1, "all"])
def test_acknowledged_records_have_their_offsets(broker, acks):
    topic = broker.create_topic()
    acknowledged = broker.produce(topic, numbered(1000), acks=acks, enable_idempotence=False)
    assert [a.offset for a in acknowledged] == list(range(1000))
    assert [r.value for r in broker.read(topic, 1000)] == [b"%d" % i for i in range(1000)]


@pytest.mark.skipif(GENERATION == 2, reason="2.3.3 never sends what is in its buffer, as it expects no answer")
def test_acks_0_writes_without_an_answer(broker):
    topic = broker.create_topic()
    producer = broker.producer(acks=0, enable_idempotence=False)
    send(producer, topic, numbered(500))
    send(producer, topic, numbered(500))
    assert [r.offset for r in broker.read(topic, 1000)] == list(range(1000))


def test_an_idempotent_producer_writes_once_and_in_order(broker):
    topic = broker.create_topic()
    acknowledged = broker.produce(topic, numbered(5000), enable_idempotence=True, acks="all", batch_size=2000)
    assert [a.offset for a in acknowledged] == list(range(5000))
    assert [r.value for r in broker.read(topic, 5000)] == [b"%d" % i for i in range(5000)]


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_round_trips(broker, codec):
    topic = broker.create_topic()
    random_bytes = random.Random(7)
    values = [b"%d " % i + random_bytes.randbytes(40) + b"a" * (i % 200) for i in range(500)]
    broker.produce(topic, [{"value": v} for v in values], compression_type=codec, linger_ms=50)
    records = broker.read(topic, 500)
    assert [r.value for r in records] == values
    assert [r.offset for r in records] == list(range(500))


def test_keys_nulls_headers_and_timestamps_are_kept(broker):
    topic = broker.create_topic()
    now = int(time.time() * 1000)
    headers = [("a", b"1"), ("a", b"again"), ("empty", b""), ("ключ-😀", bytes(range(256)))]
    messages = [
        {"key": b"key", "value": b"value", "timestamp_ms": now - 3_600_000},
        {"key": b"tombstone", "value": None, "timestamp_ms": now},
        {"key": b"", "value": b"", "timestamp_ms": now - 1, "headers": headers},
    ]
    broker.produce(topic, messages)
    for record, message in zip(broker.read(topic, 3), messages, strict=True):
        assert (record.key, record.value) == (message["key"], message["value"])
        assert (record.timestamp, record.timestamp_type) == (message["timestamp_ms"], 0)
        assert list(record.headers) == message.get("headers", [])


def test_log_append_time_comes_back_with_the_acknowledgement(broker):
    topic = broker.create_topic(config={"message.timestamp.type": "LogAppendTime"})
    (acknowledged,) = broker.produce(topic, [{"value": b"x", "timestamp_ms": 1}])
    (record,) = broker.read(topic, 1)
    assert record.timestamp_type == 1
    assert record.timestamp == acknowledged.timestamp > 1


def test_records_of_almost_a_megabyte_round_trip(broker):
    topic = broker.create_topic()
    values = [os.urandom(1_000_000) for _ in range(3)]
    broker.produce(topic, [{"value": v} for v in values])
    assert [r.value for r in broker.read(topic, 3)] == values


def test_a_record_over_the_topics_limit_is_refused_and_the_next_one_taken(broker):
    topic = broker.create_topic(config={"max.message.bytes": "10000"})
    # A refusal ends an idempotent producer of generation 3.
    producer = broker.producer(enable_idempotence=False)
    with pytest.raises(MessageSizeTooLargeError):
        send(producer, topic, [{"value": os.urandom(20_000)}])
    assert send(producer, topic, [{"value": b"small"}])[0].offset == 0


def test_a_topic_that_nobody_created_comes_with_the_first_record(broker):
    topic = broker.unused_name("auto")
    assert [a.offset for a in broker.produce(topic, numbered(2))] == [0, 1]


def test_keys_are_spread_over_partitions_that_each_have_their_log(broker):
    topic = broker.create_topic(partitions=20)
    messages = [{"key": b"key-%d" % (i % 100), "value": b"%d" % i, "partition": None} for i in range(2000)]
    broker.produce(topic, messages)
    homes, next_offset = {}, {}
    for record in take(broker.consumer(*[(topic, p) for p in range(20)]), 2000):
        assert homes.setdefault(record.key, record.partition) == record.partition
        assert record.offset == next_offset.get(record.partition, 0)
        next_offset[record.partition] = record.offset + 1
    assert len(homes) == 100
    assert len(next_offset) > 1
