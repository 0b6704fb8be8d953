"""Acknowledgements, idempotence, partitions, and many producers at once."""

import threading

import pytest
from confluent_kafka import OFFSET_INVALID
from conftest import send, take, wait_until


@pytest.mark.parametrize("acks", ["1", "all"])
def test_acknowledged_records_have_their_offsets(broker, acks):
    topic = broker.create_topic()
    values = [b"%d" % i for i in range(1000)]
    offsets = broker.produce(topic, [{"value": v} for v in values], acks=acks)
    assert offsets == list(range(1000))
    assert [m.value() for m in broker.read(topic, 1000)] == values


def test_acks_0_gets_no_reply_and_keeps_the_connection(broker):
    topic = broker.create_topic()
    values = [b"%d" % i for i in range(1000)]
    producer = broker.producer(acks="0")
    first = send(producer, topic, [{"value": v, "partition": 0} for v in values[:500]])
    second = send(producer, topic, [{"value": v, "partition": 0} for v in values[500:]])
    assert set(first + second) <= {None, OFFSET_INVALID, 0}, "offsets that nobody told the producer"
    assert [m.value() for m in take(broker.consumer((topic, 0, 0)), 1000)] == values


def test_an_idempotent_producer_writes_each_record_once_and_in_order(broker):
    topic = broker.create_topic()
    values = [b"%d" % i for i in range(20_000)]
    offsets = broker.produce(
        topic,
        [{"value": v} for v in values],
        **{"enable.idempotence": True, "batch.num.messages": 500, "linger.ms": 1},
    )
    assert offsets == list(range(20_000))
    assert [m.value() for m in broker.read(topic, 20_000)] == values


def test_two_idempotent_producers_share_a_partition(broker):
    topic = broker.create_topic()
    producers = [broker.producer(**{"enable.idempotence": True, "linger.ms": 0}) for _ in range(2)]
    for round_number in range(10):
        for name, producer in enumerate(producers):
            send(producer, topic, [{"value": b"%d:%d" % (name, round_number), "partition": 0}])
    expected = [b"%d:%d" % (name, r) for r in range(10) for name in range(2)]
    assert [m.value() for m in broker.read(topic, 20)] == expected


def test_each_of_many_partitions_has_its_own_log(broker):
    topic = broker.create_topic(partitions=40)
    messages = [{"value": b"%d:%d" % (p, i), "partition": p} for i in range(50) for p in range(40)]
    send(broker.producer(), topic, messages)
    consumer = broker.consumer(*[(topic, p, 0) for p in range(40)])
    seen = {p: [] for p in range(40)}
    for message in take(consumer, 2000):
        assert message.offset() == len(seen[message.partition()])
        seen[message.partition()].append(message.value())
    assert seen == {p: [b"%d:%d" % (p, i) for i in range(50)] for p in range(40)}


def test_a_key_always_goes_to_the_same_partition(broker):
    topic = broker.create_topic(partitions=8)
    producer = broker.producer()
    for _ in range(3):
        send(producer, topic, [{"key": b"key-%d" % k, "value": b"v"} for k in range(100)])
    partitions = {}
    for message in take(broker.consumer(*[(topic, p, 0) for p in range(8)]), 300):
        partitions.setdefault(message.key(), set()).add(message.partition())
    assert len(partitions) == 100
    assert all(len(p) == 1 for p in partitions.values())
    assert len(set.union(*partitions.values())) > 1, "keys do not spread"


def test_producers_in_parallel_lose_and_reorder_nothing(broker):
    topic = broker.create_topic(partitions=4)
    offsets = {}

    def run(name):
        messages = [{"value": b"%d:%d" % (name, i), "partition": i % 4} for i in range(4000)]
        offsets[name] = send(broker.producer(**{"compression.type": "lz4"}), topic, messages)

    threads = [threading.Thread(target=run, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(offsets) == [0, 1, 2, 3], "a producer failed"

    seen = {}
    for message in take(broker.consumer(*[(topic, p, 0) for p in range(4)]), 16_000):
        name, index = map(int, message.value().split(b":"))
        seen.setdefault((name, message.partition()), []).append(index)
        assert offsets[name][index] == message.offset()
    assert seen == {(name, p): list(range(p, 4000, 4)) for name in range(4) for p in range(4)}


def test_a_topic_that_nobody_created_comes_with_the_first_record(broker):
    topic = broker.unused_name("auto")
    assert broker.produce(topic, [{"value": b"first"}, {"value": b"second"}]) == [0, 1]
    assert [m.value() for m in broker.read(topic, 2)] == [b"first", b"second"]
    wait_until(lambda: topic in broker.topics(), "the topic is listed")
