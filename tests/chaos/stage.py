"""The system under fire: broker and store in containers, the services as processes, under load."""

import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from reco.fleet import Child
from reco.rebuild import Report
from shared.catalogue import load_data
from shared.events import OUTCOMES, VISITS
from shared.kafka import KafkaCluster
from shared.ports import BrokerUnavailable, StoreUnavailable
from shared.redis_store import RedisStore
from shared.settings import PARTITIONS, SERVER_GROUP
from tests import replay
from tests.chaos.containers import Broker, Store
from tests.chaos.load import Marks, Poison
from tests.chaos.naive_trainers import NaiveTrainers
from tests.chaos.tally import Tally

MODEL: Final = "chaos"
SESSION_TIMEOUT_S: Final = 6.0
"""The least that a broker allows by default."""
RECOVERY_LIMIT_S: Final = 90.0
_POLL_S: Final = 0.02

KAFKA_SETTINGS: Final = {
    "KAFKA_SESSION_TIMEOUT_MS": f"{SESSION_TIMEOUT_S * 1e3:.0f}",
    "KAFKA_HEARTBEAT_INTERVAL_MS": "1000",
}


class NotRecovered(Exception):
    """The loop did not go on by itself; the message says what the processes say."""


class Plan(NamedTuple):
    """How the stage is set."""

    data: Path
    logs: Path
    rate: float
    share: float
    """Poison and duplicates, as a share of the rate."""
    delivery: str
    seed: int


class Recovery(NamedTuple):
    """Seconds until a record, written to every partition when the fault struck (or ended), was
    seen to."""

    decided_s: float
    learned_s: float


class Stage:
    """Everything of a run. Servers and trainers are started and stopped by number."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.random = random.Random(plan.seed)
        name = f"reco-chaos-{os.getpid()}"
        self._closing = contextlib.ExitStack()
        with self._closing:
            self.broker = Broker(f"{name}-broker")
            self._closing.callback(self.broker.remove)
            self.store_server = Store(f"{name}-store")
            self._closing.callback(self.store_server.remove)
            self.cluster = KafkaCluster(self.broker.address)
            self.cluster.create_topics(PARTITIONS)
            self._closing = self._closing.pop_all()
        self.store = RedisStore(self.store_server.url, MODEL, timeout_s=1.0)
        self.children: dict[str, Child] = {}
        self.naive = NaiveTrainers(self.broker.address, self.store_server.url, plan.logs)
        self.poison = Poison(self.broker.address, plan.rate, plan.share)
        self.tally = Tally(self.broker.address)
        self._group = self.cluster.consumer(VISITS, f"{SERVER_GROUP}-{MODEL}")
        self._data = load_data(plan.data)
        self._unnamed = itertools.count()

    def close(self) -> None:
        """End the processes, then the containers."""
        self.naive.stop()
        for child in self.children.values():
            child.kill()
        if self.poison.is_alive():
            self.poison.stop()
        self._closing.close()

    def start_load(self) -> None:
        """Visits, poison and duplicates from now on."""
        self._start("producer", "produce", {}, "--rate", str(self.plan.rate), "--run-id", MODEL)
        self.poison.start()

    def scale(self, servers: int, trainers: int, *, named: bool = True) -> None:
        """Have so many of each; those that are too many are stopped, the youngest first.

        Named ones keep their place in the group when they are started again (Kafka's static
        membership, as for a stateful set); the others join and leave.
        """
        for kind, command, wanted in (("server", "serve", servers), ("trainer", "train", trainers)):
            present = self.names(kind)
            for name in reversed(present[wanted:]):
                self.children.pop(name).stop()
            for number in range(len(present), wanted):
                label = f"{kind}-{number}" if named else f"{kind}-unnamed-{next(self._unnamed)}"
                place = {"KAFKA_GROUP_INSTANCE_ID": label} if named else {}
                self._start(label, command, place, *self._options(command))

    def replace_all(self, servers: int, trainers: int, *, named: bool) -> None:
        """So many others instead of those that are there."""
        self.scale(0, 0)
        self.scale(servers, trainers, named=named)

    def names(self, kind: str) -> list[str]:
        """The servers or trainers that there are, oldest first."""
        return [name for name in self.children if name.startswith(kind)]

    def one_of(self, kind: str) -> Child:
        """Any of them."""
        return self.children[self.random.choice(self.names(kind))]

    def mend(self) -> None:
        """Start whatever has ended again, as a supervisor does."""
        for child in self.children.values():
            child.check()
        self.naive.mend()

    def recovery(self, since_s: float | None = None) -> Recovery:
        """Write a record to every partition, and wait until it has been seen to.

        Args:
            since_s: when the fault struck or ended; by default now.

        Raises:
            NotRecovered: it takes too long.
        """
        started_s = time.monotonic() if since_s is None else since_s
        return self.await_past(self.poison.probe(), started_s)

    def await_past(self, marks: Marks, started_s: float) -> Recovery:
        """Wait until every partition has been handled beyond these offsets."""
        done: dict[str, float] = {}
        handled: dict[str, Callable[[], dict[int, int]]] = {
            VISITS: self.decided_until,
            OUTCOMES: self.learned_until,
        }
        while len(done) < len(handled):
            self.mend()
            for topic, ask in handled.items():
                if topic not in done and _past(ask(), marks[topic]):
                    done[topic] = time.monotonic() - started_s
            if time.monotonic() - started_s > RECOVERY_LIMIT_S:
                raise NotRecovered(self._complaint(handled.keys() - done.keys()))
            time.sleep(_POLL_S)
        return Recovery(done[VISITS], done[OUTCOMES])

    def decided_until(self) -> dict[int, int]:
        """Next visit of each partition, as committed; nothing while the broker is away."""
        try:
            return self._group.committed(range(PARTITIONS[VISITS]))
        except BrokerUnavailable:
            return {}

    def learned_until(self) -> dict[int, int]:
        """Next outcome of each partition, as stored; nothing while the store is away."""
        try:
            found = self.store.positions(range(PARTITIONS[OUTCOMES]))
        except StoreUnavailable:
            return {}
        return {partition: at.next_offset for partition, at in enumerate(found) if at}

    def hold(self, seconds: float) -> None:
        """Let the load go on against the fault, and start again what has ended."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.mend()
            time.sleep(_POLL_S)

    def compared(self) -> Report:
        """The store beside a replay of the log."""
        return replay.compared(self.cluster, self.store, self._data)

    def _options(self, command: str) -> list[str]:
        options = ["--redis", self.store_server.url, "--model", MODEL]
        if command == "serve":
            options += ["--lines-per-s", "0"]
            if self.plan.delivery != "at-least-once":
                options += ["--delivery", self.plan.delivery]
        return options

    def _start(self, name: str, command: str, environment: dict[str, str], *options: str) -> None:
        arguments = [command, "--json", "--kafka", self.broker.address]
        arguments += ["--data", str(self.plan.data), *options]
        log = self.plan.logs / f"{name}.log"
        self.children[name] = Child(name, arguments, log, environment=environment)

    def _complaint(self, topics: set[str]) -> str:
        words = {name: child.last_words() for name, child in self.children.items()}
        return (
            f"after {RECOVERY_LIMIT_S:g} s the loop still does not get on with "
            f"{' and '.join(sorted(topics))}; the processes say {words}"
        )


@contextmanager
def set_up(plan: Plan) -> Iterator[Stage]:
    """A stage for the length of a block."""
    stage = Stage(plan)
    try:
        yield stage
    finally:
        stage.close()


def stopped(child: Child) -> None:
    """SIGSTOP: as a machine that hangs."""
    os.kill(child.pid, signal.SIGSTOP)


def continued(child: Child) -> None:
    """SIGCONT: it wakes and believes that nothing has happened."""
    os.kill(child.pid, signal.SIGCONT)


def _past(handled: dict[int, int], marks: dict[int, int] | object) -> bool:
    assert isinstance(marks, dict)
    return all(handled.get(partition, 0) > offset for partition, offset in marks.items())
