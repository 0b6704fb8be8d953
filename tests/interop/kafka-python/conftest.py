"""The broker under test, as kafka-python sees it: in its old generation (2) and in its new one (3)."""

import os
import subprocess
import time
import uuid

import kafka
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

REPLY_TIMEOUT_S = 20

GENERATION = int(kafka.__version__.split(".")[0])

# Generation 3 has an admin client of its own, with answers in another shape.
collect_ignore = ["test_admin.py", "test_operate.py"] if GENERATION == 2 else []


class Broker:
    """Makes clients with the suite's defaults, and ends them; creates, produces and reads for the tests."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self._clients = []
        self.admin = self._kept(KafkaAdminClient(bootstrap_servers=bootstrap))

    def _kept(self, client):
        self._clients.append(client)
        return client

    def producer(self, **conf):
        """With acks=all in both generations: what it acknowledges can be read from then on."""
        defaults = {"bootstrap_servers": self.bootstrap, "linger_ms": 5, "acks": "all"}
        return self._kept(KafkaProducer(**{**defaults, **conf}))

    def consumer(self, *partitions, start=None, **conf):
        """A consumer without a group, with these (topic, partition) assigned, and at this offset if one is given."""
        consumer = self._kept(
            KafkaConsumer(**{"bootstrap_servers": self.bootstrap, "auto_offset_reset": "earliest", **conf})
        )
        if partitions:
            consumer.assign([TopicPartition(*p) for p in partitions])
        if start is not None:
            consumer.seek(TopicPartition(*partitions[0]), start)
        return consumer

    def unused_name(self, prefix="t"):
        return f"{prefix}-{uuid.uuid4().hex[:12]}"

    def create_topic(self, partitions=1, config=None):
        topic = self.unused_name()
        self.admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=config or {})])
        self.wait_for_leaders(topic, partitions)
        return topic

    def wait_for_leaders(self, topic, partitions):
        """A fresh topic may be listed before its leaders serve it."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap)
        consumer.end_offsets([TopicPartition(topic, p) for p in range(partitions)])
        consumer.close()

    def produce(self, topic, messages, **conf):
        """Produces keyword dicts for `KafkaProducer.send`; returns what was acknowledged of each."""
        return send(self.producer(**conf), topic, messages)

    def read(self, topic, count, partition=0, start=0, **conf):
        return take(self.consumer((topic, partition), start=start, **conf), count)

    def close(self):
        for client in self._clients:
            client.close()


def send(producer, topic, messages):
    futures = [producer.send(topic, **{"partition": 0, **m}) for m in messages]
    producer.flush(REPLY_TIMEOUT_S)
    return [f.get(REPLY_TIMEOUT_S) for f in futures]


def take(consumer, count, seconds=REPLY_TIMEOUT_S):
    """Exactly `count` records."""
    records = []
    deadline = time.monotonic() + seconds
    while len(records) < count and time.monotonic() < deadline:
        for polled in consumer.poll(200, max_records=count - len(records)).values():
            records += polled
    assert len(records) == count, f"{len(records)} of {count} records within {seconds} s"
    return records


def expect_nothing(consumer, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert not consumer.poll(200)


def numbered(count):
    return [{"value": b"%d" % i} for i in range(count)]


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
