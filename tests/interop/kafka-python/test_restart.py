"""Clients go on over a clean restart, with everything that was acknowledged."""

import pytest
from conftest import numbered, send, take

pytestmark = pytest.mark.timeout(120)


def test_clients_go_on_over_a_restart(broker, restart):
    topic = broker.create_topic()
    producer = broker.producer(reconnect_backoff_max_ms=500)
    consumer = broker.consumer((topic, 0), reconnect_backoff_max_ms=500)
    send(producer, topic, numbered(500))
    take(consumer, 500)
    restart()
    assert [a.offset for a in send(producer, topic, numbered(500))] == list(range(500, 1000))
    assert [r.offset for r in take(consumer, 500, seconds=40)] == list(range(500, 1000))
