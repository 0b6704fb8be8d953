"""What is produced is what is consumed, bit by bit."""

import os
import random
import time

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException
from conftest import send

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def half_compressible(count, seed=7):
    random_bytes = random.Random(seed)
    return [b"message %d " % i + random_bytes.randbytes(40) + b"a" * (i % 200) for i in range(count)]


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_round_trips_byte_exact(broker, codec):
    topic = broker.create_topic()
    values = half_compressible(500)
    offsets = broker.produce(topic, [{"value": v} for v in values], **{"compression.type": codec, "linger.ms": 50})
    assert offsets == list(range(500))
    messages = broker.read(topic, 500)
    assert [m.value() for m in messages] == values
    assert [m.offset() for m in messages] == offsets


def test_codecs_mixed_in_one_partition_are_read_in_order(broker):
    topic = broker.create_topic()
    values = half_compressible(100)
    for i, codec in enumerate(CODECS):
        broker.produce(topic, [{"value": v} for v in values[i * 20 : (i + 1) * 20]], **{"compression.type": codec})
    assert [m.value() for m in broker.read(topic, 100)] == values


def test_null_and_empty_are_told_apart_in_key_and_value(broker):
    topic = broker.create_topic()
    pairs = [(k, v) for k in (None, b"", b"key") for v in (None, b"", b"value")]
    broker.produce(topic, [{"key": k, "value": v} for k, v in pairs])
    assert [(m.key(), m.value()) for m in broker.read(topic, len(pairs))] == pairs


def test_headers_keep_order_repeats_nulls_and_bytes(broker):
    topic = broker.create_topic()
    headers = [
        ("a", b"1"),
        ("null", None),
        ("empty", b""),
        ("a", b"again"),
        ("", b"empty key"),
        ("ключ-😀", bytes(range(256))),
    ]
    broker.produce(topic, [{"value": b"with", "headers": headers}, {"value": b"without"}])
    with_headers, without = broker.read(topic, 2)
    assert with_headers.headers() == headers
    assert without.headers() is None


def test_a_record_with_nothing_in_it_counts(broker):
    topic = broker.create_topic()
    assert broker.produce(topic, [{}, {}, {}]) == [0, 1, 2]
    assert [(m.key(), m.value(), m.offset()) for m in broker.read(topic, 3)] == [(None, None, i) for i in range(3)]


def test_records_of_one_megabyte_round_trip(broker):
    topic = broker.create_topic()
    values = [os.urandom(1_000_000) for _ in range(3)]
    broker.produce(topic, [{"value": v} for v in values], **{"message.max.bytes": 1_040_000})
    assert [m.value() for m in broker.read(topic, 3)] == values


def test_a_record_over_the_brokers_limit_is_refused_and_the_next_one_taken(broker):
    topic = broker.create_topic()
    producer = broker.producer(**{"message.max.bytes": 4_000_000})
    errors = []
    producer.produce(topic, os.urandom(2_000_000), on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(20) == 0
    assert [e.code() for e in errors] == [KafkaError.MSG_SIZE_TOO_LARGE]
    assert send(producer, topic, [{"value": b"small"}]) == [0]


def test_a_topic_may_have_a_limit_of_its_own(broker):
    topic = broker.create_topic(config={"max.message.bytes": "10000"})
    producer = broker.producer()
    errors = []
    producer.produce(topic, os.urandom(20_000), on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(20) == 0
    assert [e.code() for e in errors] == [KafkaError.MSG_SIZE_TOO_LARGE]
    assert send(producer, topic, [{"value": os.urandom(9000)}]) == [0]


def test_log_append_time_replaces_the_producers_time(broker):
    topic = broker.create_topic(config={"message.timestamp.type": "LogAppendTime"})
    before = int(time.time() * 1000)
    broker.produce(topic, [{"value": b"x", "timestamp": 1}, {"value": b"y", "timestamp": 2}])
    after = int(time.time() * 1000)
    for message in broker.read(topic, 2):
        kind, timestamp = message.timestamp()
        assert kind == TIMESTAMP_LOG_APPEND_TIME
        assert before <= timestamp <= after


def test_create_time_is_kept_to_the_millisecond(broker):
    topic = broker.create_topic()
    now = int(time.time() * 1000)
    timestamps = [now, now - 86_400_000, now - 1, now - 12_345_678, 1]
    broker.produce(topic, [{"value": b"x", "timestamp": t} for t in timestamps], **{"linger.ms": 50})
    assert [m.timestamp() for m in broker.read(topic, 5)] == [(TIMESTAMP_CREATE_TIME, t) for t in timestamps]


def test_a_timestamp_far_in_the_future_is_refused(broker):
    topic = broker.create_topic()
    tomorrow = int(time.time() * 1000) + 86_400_000
    errors = []
    producer = broker.producer()
    producer.produce(topic, b"x", timestamp=tomorrow, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(20) == 0
    assert errors[0] is not None
    assert errors[0].code() == KafkaError.INVALID_TIMESTAMP


def test_an_unknown_partition_is_refused(broker):
    topic = broker.create_topic(partitions=2)
    producer = broker.producer()
    errors = []
    try:
        producer.produce(topic, b"x", partition=7, on_delivery=lambda error, _: errors.append(error))
        assert producer.flush(20) == 0
    except KafkaException as refused_at_once:
        errors.append(refused_at_once.args[0])
    assert [e.code() for e in errors] == [KafkaError._UNKNOWN_PARTITION]
