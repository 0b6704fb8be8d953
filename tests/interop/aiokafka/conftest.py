"""The broker under test, as aiokafka sees it."""

import asyncio
import os
import time
import uuid
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

REPLY_TIMEOUT_S = 20


class Broker:
    """Makes clients with the suite's defaults, which end with the test; creates, produces and reads for the tests."""

    def __init__(self, bootstrap, stack):
        self.bootstrap = bootstrap
        self._stack = stack

    async def _started(self, client):
        await client.start()
        self._stack.push_async_callback(client.close if isinstance(client, AIOKafkaAdminClient) else client.stop)
        return client

    async def admin(self):
        return await self._started(AIOKafkaAdminClient(bootstrap_servers=self.bootstrap))

    async def producer(self, **conf):
        """With acks=all, unlike the client's default: what it acknowledges can be read from then on."""
        return await self._started(AIOKafkaProducer(**{"bootstrap_servers": self.bootstrap, "acks": "all", **conf}))

    async def consumer(self, *partitions, start=None, **conf):
        """A consumer without a group, with these (topic, partition) assigned, and at this offset if one is given."""
        defaults = {"bootstrap_servers": self.bootstrap, "auto_offset_reset": "earliest"}
        consumer = await self._started(AIOKafkaConsumer(**{**defaults, **conf}))
        if partitions:
            consumer.assign([TopicPartition(*p) for p in partitions])
        if start is not None:
            consumer.seek(TopicPartition(*partitions[0]), start)
        return consumer

    def unused_name(self, prefix="t"):
        return f"{prefix}-{uuid.uuid4().hex[:12]}"

    async def create_topic(self, partitions=1, config=None):
        topic = self.unused_name()
        admin = await self.admin()
        answer = await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=config or {})])
        assert answer.topic_errors[0][1] == 0, answer
        await self.wait_for_leaders(topic, partitions)
        return topic

    async def wait_for_leaders(self, topic, partitions):
        """A fresh topic may be listed before its leaders serve it."""
        consumer = await self.consumer()
        await consumer.end_offsets([TopicPartition(topic, p) for p in range(partitions)])

    async def produce(self, topic, messages, **conf):
        """Produces keyword dicts for `AIOKafkaProducer.send`; returns what was acknowledged of each."""
        return await send(await self.producer(**conf), topic, messages)

    async def read(self, topic, count, partition=0, start=0, **conf):
        return await take(await self.consumer((topic, partition), start=start, **conf), count)


async def send(producer, topic, messages):
    """Sends all; a batch goes when it is full, and the last one at once."""
    futures = [await producer.send(topic, **{"partition": 0, **m}) for m in messages]
    await producer.flush()
    return await asyncio.wait_for(asyncio.gather(*futures), REPLY_TIMEOUT_S)


async def take(consumer, count, seconds=REPLY_TIMEOUT_S):
    """Exactly `count` records."""
    records = []
    deadline = time.monotonic() + seconds
    while len(records) < count and time.monotonic() < deadline:
        polled = await consumer.getmany(timeout_ms=200, max_records=count - len(records))
        for of_partition in polled.values():
            records += of_partition
    assert len(records) == count, f"{len(records)} of {count} records within {seconds} s"
    return records


async def expect_nothing(consumer, seconds):
    assert not await consumer.getmany(timeout_ms=seconds * 1000)


def numbered(count):
    return [{"value": b"%d" % i} for i in range(count)]


async def wait_until(condition, what, seconds=10):
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.05)


@pytest_asyncio.fixture
async def broker():
    async with AsyncExitStack() as stack:
        yield Broker(os.environ["BOOTSTRAP"], stack)


@pytest.fixture
def restart():
    """Restarts the broker cleanly. Only where the runner owns it."""
    command = os.environ.get("RESTART_COMMAND")
    if not command:
        pytest.skip("the broker is not ours to restart")

    async def run():
        process = await asyncio.create_subprocess_shell(command)
        assert await asyncio.wait_for(process.wait(), 50) == 0

    return run
