"""Members of a group, each a process of its own, and what they said they did."""

import os
import signal
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
DIR = Path(os.environ["WORKERS"])
PYTHON = [sys.executable, "-u", str(HERE / "workers/python.py")]
GO = [str(DIR / "go/member")]
JAVA = ["java", "-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{DIR}/java/classes:{DIR}/java/libs/*", "Member"]
NODE = ["node", str(HERE / "workers/member.js")]
ENVIRONMENT = os.environ | {"NODE_PATH": str(DIR / "node/node_modules")}

COMMANDS = {
    "librdkafka": PYTHON + ["librdkafka"],
    "kafka-python": PYTHON + ["kafka-python"],
    "aiokafka": PYTHON + ["aiokafka"],
    "franz-go": GO + ["franz-go"],
    "sarama": GO + ["sarama"],
    "java": JAVA,
    "kafkajs": NODE,
}
BUILT = {"franz-go": DIR / "go/member", "sarama": DIR / "go/member", "java": DIR / "java/classes", "kafkajs": DIR / "node/node_modules"}


def available(library):
    """Whether its toolchain was there when the suite was installed."""
    return library not in BUILT or BUILT[library].exists()


@dataclass
class Event:
    micros: int
    name: str
    words: list


class Member:
    def __init__(self, number, library, strategy, arguments, folder):
        self.name = f"{number}-{library}-{strategy}"
        self.kind = library, strategy
        self.said = folder / self.name
        self.errors = folder / f"{self.name}.errors"
        with self.said.open("wb") as said, self.errors.open("wb") as errors:
            command = COMMANDS[library] + [self.name] + arguments + [strategy]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=errors, env=ENVIRONMENT)
        self.paused = False

    def leave(self):
        self.process.send_signal(signal.SIGTERM)

    def crash(self):
        self.process.kill()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        self.process.send_signal(signal.SIGCONT)
        self.paused = False

    def events(self):
        """In order; a line that a kill cut off is none."""
        *lines, _ = self.said.read_text().split("\n")
        for line in lines:
            micros, name, *words = line.split()
            yield Event(int(micros), name, words)


class Oracle:
    """What at-least-once delivery in a group means, checked over what all members said."""

    def __init__(self, members):
        self.members = members
        self.commits = defaultdict(list)
        for member in members:
            for event in member.events():
                if event.name == "committed":
                    partition, offset = map(int, event.words)
                    self.commits[partition].append((event.micros, offset))

    def faults(self, ends):
        """Every fault, in words. `ends`: how many records each partition has."""
        read = defaultdict(set)
        faults = []
        for member in self.members:
            faults += self.faults_of(member, read)
        for partition, end in ends.items():
            skipped = sorted(set(range(end)) - read[partition])
            if skipped:
                faults.append(f"partition {partition}: {len(skipped)} of {end} never read, as {skipped[:5]}")
        return faults

    def faults_of(self, member, read):
        """Notes in `read` what the member read."""
        position = {}
        assigned = {}
        for event in member.events():
            if event.name == "assigned":
                for partition in map(int, event.words):
                    position.pop(partition, None)
                    assigned[partition] = event.micros
            if event.name != "read":
                continue
            partition, offset = map(int, event.words[:2])
            read[partition].add(offset)
            where = f"{member.name}, partition {partition}"
            if event.words[2] != f"{partition}:{offset}":
                yield f"{where}: offset {offset} has the value {event.words[2]}"
            if partition not in assigned:
                yield f"{where}: offset {offset} read without being assigned"
                continue
            expected = position.get(partition)
            if expected is not None and offset != expected:
                yield f"{where}: offset {offset} read after {expected - 1}"
            if expected is None:
                before = [o for at, o in self.commits[partition] if at < assigned[partition]]
                if before and offset < max(before):
                    yield f"{where}: began at {offset}, though {max(before)} was committed before it was assigned"
            position[partition] = offset + 1
