"""Clients go on over a clean restart, with everything that was acknowledged."""

import pytest
from conftest import numbered, send, take

pytestmark = pytest.mark.timeout(120)


async def test_clients_go_on_over_a_restart(broker, restart):
    topic = await broker.create_topic()
    producer = await broker.producer(enable_idempotence=True)
    consumer = await broker.consumer((topic, 0))
    await send(producer, topic, numbered(500))
    await take(consumer, 500)
    await restart()
    assert [a.offset for a in await send(producer, topic, numbered(500))] == list(range(500, 1000))
    assert [r.offset for r in await take(consumer, 500, seconds=40)] == list(range(500, 1000))
