"""Groups whose members are of many client libraries and come, go, crash and pause, while the broker crashes too."""

import contextlib
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
    """A group, its topic, and the members that there were and are. A kind of members is a library and a strategy."""

    def __init__(self, bootstrap, folder, kinds):
        self.bootstrap, self.folder, self.kinds = bootstrap, folder, kinds
        self.topic = self.group = f"churn-{uuid.uuid4().hex[:12]}"
        self.random = random.Random(SEED)
        self.members, self.live = [], []
        self.ask("create_topics", [NewTopic(self.topic, PARTITIONS, 1)])
        self.stream = Stream(bootstrap, self.topic)
        self.resume_at = 0

    def ask(self, method, *arguments):
        """By a new client each time: one that knew the coordinator does not reach it after a crash (librdkafka 2.16)."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        (answer,) = getattr(admin, method)(*arguments).values()
        return answer.result(20)

    def start(self, kind):
        member = Member(len(self.members), *kind, [self.bootstrap, self.topic, self.group], self.folder)
        self.members.append(member)
        self.live.append(member)

    def end(self, member, how):
        self.live.remove(member)
        getattr(member, how)()

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
                self.start(self.random.choice(self.kinds))
            case "pause":
                self.random.choice(awake).pause()
                self.resume_at = time.monotonic() + self.random.choice(PAUSES_S)
            case "leave" | "crash" as how:
                self.end(self.random.choice(awake), how)

    def resume(self):
        for member in self.live:
            if member.paused:
                member.resume()
        self.resume_at = 0

    def run(self):
        troubles = [os.environ.get(name) for name in ("CRASH_COMMAND", "RESTART_COMMAND", "CRASH_COMMAND")]
        steps = int(SECONDS / STEP_S)
        at = {steps * (n + 1) // 4: command for n, command in enumerate(troubles) if command}
        for kind in self.kinds:
            self.start(kind)
        for n in range(steps):
            if n in at:
                trouble(at[n])
            self.step()
            time.sleep(STEP_S)
        self.resume()

    def migrate(self, kinds):
        """Replaces all members by others, one at a time. The broker crashes once meanwhile."""
        leaving = self.live.copy()
        crash_at = self.random.randrange(1, len(leaving))
        for n, (member, kind) in enumerate(zip(leaving, kinds, strict=True)):
            if n == crash_at and "CRASH_COMMAND" in os.environ:
                trouble(os.environ["CRASH_COMMAND"])
            self.end(member, self.random.choice(["leave", "leave", "crash"]))
            time.sleep(self.random.choice([0, STEP_S]))
            self.start(kind)
            time.sleep(self.random.choice([1, 3]) * STEP_S)

    def describe(self):
        return self.ask("describe_consumer_groups", [self.group])

    def protocol(self):
        return self.describe().type.name

    def unowned(self):
        """What is left to be done until every partition has one owner."""
        described = self.describe()
        owners = {p.partition: m.client_id for m in described.members for p in m.assignment.topic_partitions}
        count = sum(len(m.assignment.topic_partitions) for m in described.members)
        if described.state.name != "STABLE" or len(owners) != PARTITIONS or count != PARTITIONS:
            return f"{described.state.name}, {len(described.members)} members, {count} partitions given, owners {owners}"

    def unread(self):
        """And until all that was sent is committed."""
        if left := self.unowned():
            return left
        asked = ConsumerGroupTopicPartitions(self.group, [TopicPartition(self.topic, p) for p in range(PARTITIONS)])
        offsets = self.ask("list_consumer_group_offsets", [asked]).topic_partitions
        ends = self.stream.ends()
        behind = {o.partition: f"{o.offset} of {ends[o.partition]}" for o in offsets if o.offset != ends[o.partition]}
        return f"committed {behind}" if behind else None

    def settle(self, unsettled):
        deadline = time.monotonic() + SETTLE_S
        while left := unsettled():
            assert time.monotonic() < deadline, f"not settled within {SETTLE_S} s: {left}"
            time.sleep(0.2)

    def finish(self):
        """Ends the load, and checks what has become of it."""
        self.stream.end()
        self.settle(self.unread)
        self.stream.send(10 * PARTITIONS)
        self.stream.producer.flush(30)
        self.settle(self.unread)
        for member in self.live:
            member.leave()
        failed = [m for m in self.live if m.process.wait(30) not in (0, 143)]
        faults = Oracle(self.members).faults(self.stream.ends())
        assert not faults, "\n".join(faults[:20])
        assert not failed, "\n".join(f"{m.name}: {m.errors.read_text()[-2000:]}" for m in failed)

    def close(self):
        self.stream.ended.set()
        for member in self.members:
            member.crash()
            member.process.wait()


def trouble(command):
    subprocess.run(command, shell=True, check=True, timeout=60)


@pytest.fixture
def churned(tmp_path):
    """Makes the group of some kinds of members; those whose toolchain is missing are left out."""
    print(f"CHURN_SEED={SEED} CHURN_SECONDS={SECONDS}")
    with contextlib.ExitStack() as ends:

        def make(kinds):
            kinds = [kind for kind in kinds if available(kind[0])]
            if not kinds:
                pytest.skip("no toolchain for any of them")
            churn = Churn(os.environ["BOOTSTRAP"], tmp_path, kinds)
            ends.callback(churn.close)
            return churn

        yield make


RANGE = [(name, "range") for name in ("librdkafka", "java", "franz-go", "sarama", "kafka-python", "aiokafka")]
COOPERATIVE = [(name, "cooperative-sticky") for name in ("librdkafka", "java", "franz-go")]
# The broker shares partitions out (KIP-848).
CONSUMER = [(name, "consumer") for name in ("librdkafka", "java", "franz-go")]
# Its assignor is one of its own.
KAFKAJS = [("kafkajs", "round-robin")]


@pytest.mark.parametrize(
    "kinds",
    [RANGE, COOPERATIVE, CONSUMER, CONSUMER + RANGE, CONSUMER + COOPERATIVE, KAFKAJS],
    ids=["range", "cooperative-sticky", "consumer", "consumer-and-range", "consumer-and-cooperative-sticky", "kafkajs"],
)
def test_nothing_is_skipped_or_delivered_anew(churned, kinds):
    churn = churned(kinds)
    churn.run()
    churn.finish()


@pytest.mark.parametrize("classic", [RANGE, COOPERATIVE], ids=["range", "cooperative-sticky"])
def test_a_group_goes_over_to_the_consumer_protocol_and_back(churned, classic):
    churn = churned(classic)
    for kind in churn.kinds:
        churn.start(kind)
    churn.settle(churn.unowned)
    assert churn.protocol() == "CLASSIC"
    consumer = [kind for kind in CONSUMER if available(kind[0])]
    churn.migrate([consumer[n % len(consumer)] for n in range(len(churn.kinds))])
    churn.settle(churn.unowned)
    assert churn.protocol() == "CONSUMER"
    churn.migrate(churn.kinds)
    churn.settle(churn.unowned)
    assert churn.protocol() == "CLASSIC"
    churn.finish()
