"""The broker under test, as librdkafka sees it."""

import os
import subprocess
import time
import uuid

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

REPLY_TIMEOUT_S = 20


class Broker:
    """Makes clients with the suite's defaults and does what most tests need: create, produce, read."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        # Kept as long as the test: a collected admin client takes its futures with it.
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        self._consumers = []

    def topics(self):
        return set(self.admin.list_topics(timeout=5).topics)

    def producer(self, **conf):
        return Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "message.timeout.ms": REPLY_TIMEOUT_S * 1000,
                "linger.ms": 5,
                **conf,
            }
        )

    def consumer(self, *assignment, **conf):
        """A consumer with a manual assignment; the group id is only there because librdkafka asks for one."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "manual-assignment",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                **conf,
            }
        )
        self._consumers.append(consumer)
        if assignment:
            consumer.assign([TopicPartition(*a) for a in assignment])
        return consumer

    def unused_name(self, prefix="t"):
        return f"{prefix}-{uuid.uuid4().hex[:12]}"

    def create_topic(self, partitions=1, name=None, config=None):
        name = name or self.unused_name()
        result(self.admin.create_topics([NewTopic(name, partitions, 1, config=config or {})], operation_timeout=10))
        self._wait_for_leaders(name, partitions)
        return name

    def _wait_for_leaders(self, topic, partitions):
        """A fresh topic may be listed before its leaders serve it; retries would then reorder what is produced."""

        def all_answer():
            query = {TopicPartition(topic, p): OffsetSpec.latest() for p in range(partitions)}
            return all(f.exception(REPLY_TIMEOUT_S) is None for f in self.admin.list_offsets(query).values())

        wait_until(all_answer, f"the leaders of topic {topic} answer")

    def produce(self, topic, messages, partition=0, **conf):
        """Produces keyword dicts for `Producer.produce`; returns each one's offset as acknowledged."""
        producer = self.producer(**conf)
        return send(producer, topic, [{"partition": partition, **m} for m in messages])

    def read(self, topic, count, partition=0, start=0, **conf):
        """The next `count` messages from `start`; then makes sure that the log ends there."""
        consumer = self.consumer((topic, partition, start), **conf)
        messages = take(consumer, count)
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
        assert messages[-1].offset() + 1 == end, "records left after the last one expected"
        return messages

    def close(self):
        for consumer in self._consumers:
            consumer.close()
        self._consumers.clear()


def send(producer, topic, messages):
    """Produces all, waits for all acknowledgements; returns the offsets in the order of `messages`."""
    offsets = [None] * len(messages)
    errors = []

    def acknowledged(index):
        def on_delivery(error, message):
            if error:
                errors.append(error)
            else:
                offsets[index] = message.offset()

        return on_delivery

    for index, message in enumerate(messages):
        while True:
            try:
                producer.produce(topic, on_delivery=acknowledged(index), **message)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    unsent = producer.flush(REPLY_TIMEOUT_S)
    assert not errors, errors[:3]
    assert unsent == 0
    return offsets


def take(consumer, count, seconds=REPLY_TIMEOUT_S):
    """Exactly `count` messages, or a failure that says how far it came."""
    messages = []
    deadline = time.monotonic() + seconds
    while len(messages) < count and time.monotonic() < deadline:
        for message in consumer.consume(count - len(messages), 0.2):
            error = message.error()
            if error is None:
                messages.append(message)
            elif error.code() not in RETRIED_BY_LIBRDKAFKA:
                pytest.fail(f"consumer error: {error}")
    assert len(messages) == count, f"{len(messages)} of {count} messages within {seconds} s"
    return messages


RETRIED_BY_LIBRDKAFKA = {KafkaError._PARTITION_EOF, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}


def result(futures):
    """The result of an admin call on one thing."""
    (future,) = futures.values() if isinstance(futures, dict) else (futures,)
    return future.result(REPLY_TIMEOUT_S)


def wait_until(condition, what, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


@pytest.fixture
def broker():
    broker = Broker(os.environ["BOOTSTRAP"])
    yield broker
    broker.close()


@pytest.fixture
def restart():
    """Restarts the broker cleanly. Only where the runner owns it."""
    command = os.environ.get("RESTART_COMMAND")
    if not command:
        pytest.skip("the broker is not ours to restart")
    return lambda: subprocess.run(command, shell=True, check=True, timeout=50)
