"""A member of a group in Python: LIBRARY NAME BOOTSTRAP TOPIC GROUP STRATEGY. See ../README.md for what it prints."""

import asyncio
import signal
import sys
import time

SESSION_MS = 6000
HEARTBEAT_MS = 1000


def say(*words):
    print(time.time_ns() // 1000, *words, flush=True)


def listener(base):
    """For libraries that tell of assignments by an object."""

    class Listener(base):
        def on_partitions_assigned(self, assigned):
            say("assigned", *(p.partition for p in assigned))

        def on_partitions_revoked(self, revoked):
            say("revoked", *(p.partition for p in revoked))

    return Listener()


class Stop(Exception):
    pass


def stop(*_):
    raise Stop


def librdkafka(name, bootstrap, topic, group, strategy):
    from confluent_kafka import Consumer, KafkaException

    classic = {
        "partition.assignment.strategy": strategy,
        "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": HEARTBEAT_MS,
    }
    # Sessions are the broker's where it shares partitions out.
    protocol = {"group.protocol": "consumer"} if strategy == "consumer" else classic
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "client.id": name,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
        | protocol
    )

    def told(event):
        return lambda _, partitions: say(event, *(p.partition for p in partitions))

    consumer.subscribe([topic], on_assign=told("assigned"), on_revoke=told("revoked"), on_lost=told("revoked"))
    # A commit during a rebalance is refused, and partitions may be kept over it.
    is_committed = True
    try:
        while True:
            messages = [m for m in consumer.consume(200, 0.1) if not m.error()]
            for message in messages:
                say("read", message.partition(), message.offset(), message.value().decode())
            is_committed = is_committed and not messages
            if is_committed:
                continue
            try:
                for stored in consumer.commit(asynchronous=False):
                    if stored.error is None and stored.offset >= 0:
                        say("committed", stored.partition, stored.offset)
                is_committed = True
            except KafkaException as error:
                say("refused", error.args[0].name())
    except Stop:
        consumer.close()


def kafka_python(name, bootstrap, topic, group, strategy):
    from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata
    from kafka.coordinator.assignors.range import RangePartitionAssignor
    from kafka.errors import KafkaError

    assert strategy == "range"

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        client_id=name,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        partition_assignment_strategy=[RangePartitionAssignor],
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=HEARTBEAT_MS,
    )
    consumer.subscribe([topic], listener=listener(ConsumerRebalanceListener))
    try:
        while True:
            polled = consumer.poll(timeout_ms=100, max_records=200)
            done = {}
            for partition, records in polled.items():
                for record in records:
                    say("read", record.partition, record.offset, record.value.decode())
                done[partition] = OffsetAndMetadata(records[-1].offset + 1, "", -1)
            if not done:
                continue
            try:
                consumer.commit(done)
                for partition, offset in done.items():
                    say("committed", partition.partition, offset.offset)
            except KafkaError as error:
                say("refused", type(error).__name__)
    except Stop:
        consumer.close(autocommit=False)


async def aiokafka(name, bootstrap, topic, group, strategy):
    from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
    from aiokafka.coordinator.assignors.range import RangePartitionAssignor
    from aiokafka.errors import KafkaError

    assert strategy == "range"

    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        client_id=name,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        partition_assignment_strategy=[RangePartitionAssignor],
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=HEARTBEAT_MS,
        metadata_max_age_ms=5000,
    )
    consumer.subscribe([topic], listener=listener(ConsumerRebalanceListener))
    await consumer.start()
    while not stopped.is_set():
        done = {}
        for partition, records in (await consumer.getmany(timeout_ms=100, max_records=200)).items():
            for record in records:
                say("read", record.partition, record.offset, record.value.decode())
            done[partition] = records[-1].offset + 1
        if not done:
            continue
        try:
            await consumer.commit(done)
            for partition, offset in done.items():
                say("committed", partition.partition, offset)
        except (KafkaError, ValueError) as error:
            say("refused", type(error).__name__)
    await consumer.stop()


def main():
    library, *rest = sys.argv[1:]
    if library == "aiokafka":
        return asyncio.run(aiokafka(*rest))
    signal.signal(signal.SIGTERM, stop)
    {"librdkafka": librdkafka, "kafka-python": kafka_python}[library](*rest)


main()
