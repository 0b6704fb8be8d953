"""Groups whose members are of many client libraries and come, go, crash and pause, while the broker crashes too."""

import os
import random
import subprocess
import threading
import time
import uuid

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from members import Member, Oracle, available

PARTITIONS = 12
SECONDS = int(os.environ.get("CHURN_SECONDS", "30"))
SEED = int(os.environ.get("CHURN_SEED", time.time_ns() % 1_000_000))
STEP_S = 0.8
MEMBERS_MIN, MEMBERS_MAX = 2, 7
# Longer than a session, or shorter.
PAUSES_S = [2, 9]
SETTLE_S = 60


class Stream:
    """Records in all partitions, each with its partition and offset as value, until it is ended."""

    def __init__(self, bootstrap, topic):
        self.topic = topic
        self.producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 20})
        self.sent = 0
        self.errors = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.ended.wait(0.02):
            self.send(PARTITIONS)

    def send(self, count):
        for _ in range(count):
            partition, offset = self.sent % PARTITIONS, self.sent // PARTITIONS
            self.producer.produce(self.topic, f"{partition}:{offset}", partition=partition, on_delivery=self.told)
            self.sent += 1
        self.producer.poll(0)

    def told(self, error, _):
        if error:
            self.errors.append(error)

    def end(self):
        self.ended.set()
        self.thread.join()
        assert self.producer.flush(30) == 0
        assert not self.errors, self.errors[:3]

    def ends(self):
        return {p: (self.sent - p + PARTITIONS - 1) // PARTITIONS for p in range(PARTITIONS)}


class Churn:
    def __init__(self, bootstrap, folder, libraries, strategy):
        self.bootstrap, self.folder, self.libraries, self.strategy = bootstrap, folder, libraries, strategy
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        self.topic = self.group = f"churn-{uuid.uuid4().hex[:12]}"
        self.random = random.Random(SEED)
        self.members, self.live = [], []
        (created,) = self.admin.create_topics([NewTopic(self.topic, PARTITIONS, 1)]).values()
        created.result(20)
        self.stream = Stream(bootstrap, self.topic)
        self.resume_at = 0

    def start(self, library=None):
        library = library or self.random.choice(self.libraries)
        arguments = [self.bootstrap, self.topic, self.group, self.strategy]
        member = Member(len(self.members), library, arguments, self.folder)
        self.members.append(member)
        self.live.append(member)

    def step(self):
        if self.resume_at and time.monotonic() > self.resume_at:
            self.resume()
        awake = [m for m in self.live if not m.paused]
        many = len(awake) > MEMBERS_MIN
        choices = ["rest", "rest"]
        choices += ["start"] * 2 if len(self.live) < MEMBERS_MAX else []
        choices += ["leave", "crash"] if many else []
        choices += ["pause"] if many and not self.resume_at else []
        match self.random.choice(choices):
            case "start":
                self.start()
            case "pause":
                self.random.choice(awake).pause()
                self.resume_at = time.monotonic() + self.random.choice(PAUSES_S)
            case "leave" | "crash" as end:
                member = self.random.choice(awake)
                self.live.remove(member)
                getattr(member, end)()

    def resume(self):
        for member in self.live:
            if member.paused:
                member.resume()
        self.resume_at = 0

    def run(self):
        troubles = [os.environ.get(name) for name in ("CRASH_COMMAND", "RESTART_COMMAND", "CRASH_COMMAND")]
        steps = int(SECONDS / STEP_S)
        at = {steps * (n + 1) // 4: command for n, command in enumerate(troubles) if command}
        for library in self.libraries:
            self.start(library)
        for n in range(steps):
            if n in at:
                subprocess.run(at[n], shell=True, check=True, timeout=60)
            self.step()
            time.sleep(STEP_S)
        self.resume()

    def unsettled(self):
        """What is left to be done until every partition has one owner and all that was sent is committed."""
        described = self.admin.describe_consumer_groups([self.group])[self.group].result(20)
        owners = {p.partition: m.client_id for m in described.members for p in m.assignment.topic_partitions}
        count = sum(len(m.assignment.topic_partitions) for m in described.members)
        if described.state.name != "STABLE" or len(owners) != PARTITIONS or count != PARTITIONS:
            return f"{described.state.name}, {len(described.members)} members, {count} partitions given, owners {owners}"
        asked = ConsumerGroupTopicPartitions(self.group, [TopicPartition(self.topic, p) for p in range(PARTITIONS)])
        offsets = self.admin.list_consumer_group_offsets([asked])[self.group].result(20).topic_partitions
        ends = self.stream.ends()
        behind = {o.partition: f"{o.offset} of {ends[o.partition]}" for o in offsets if o.offset != ends[o.partition]}
        return f"committed {behind}, owners {owners}" if behind else None

    def settle(self):
        deadline = time.monotonic() + SETTLE_S
        while left := self.unsettled():
            assert time.monotonic() < deadline, f"not settled within {SETTLE_S} s: {left}"
            time.sleep(0.2)

    def finish(self):
        for member in self.live:
            member.leave()
        return [m.name for m in self.live if m.process.wait(30) not in (0, 143)]

    def close(self):
        self.stream.ended.set()
        for member in self.members:
            member.crash()
            member.process.wait()


@pytest.mark.parametrize(
    "strategy, libraries",
    [
        ("range", ["librdkafka", "java", "franz-go", "sarama", "kafka-python", "aiokafka"]),
        ("cooperative-sticky", ["librdkafka", "java", "franz-go"]),
        # Its assignor is one of its own.
        ("round-robin", ["kafkajs"]),
    ],
)
def test_nothing_is_skipped_or_delivered_anew(tmp_path, strategy, libraries):
    print(f"CHURN_SEED={SEED} CHURN_SECONDS={SECONDS}")
    libraries = available(libraries)
    if not libraries:
        pytest.skip("no toolchain for any of them")
    churn = Churn(os.environ["BOOTSTRAP"], tmp_path, libraries, strategy)
    try:
        churn.run()
        churn.stream.end()
        churn.settle()
        churn.stream.send(10 * PARTITIONS)
        churn.stream.producer.flush(30)
        churn.settle()
        failed = churn.finish()
    finally:
        churn.close()
    faults = Oracle(churn.members).faults(churn.stream.ends())
    assert not faults, "\n".join(faults[:20])
    assert not failed, "\n".join(f"{n}: {(tmp_path / f'{n}.errors').read_text()[-2000:]}" for n in failed)
