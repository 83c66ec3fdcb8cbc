"""What one server and one trainer manage on a real broker, beside loops that do nothing else."""

import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import numpy as np
from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

from producer.history import HistoryError, read_history
from producer.simulate import Shoppers
from reco.bare_loops import (
    Spent,
    Stretch,
    Template,
    bare_batches,
    bare_server,
    bare_trainer,
    templates,
)
from reco.fleet import Child
from reco.process import utc_now
from reco.whole_topic import read_topic
from server.delivery import AT_LEAST_ONCE, EXACTLY_ONCE
from shared.catalogue import DataSet
from shared.events import DECISIONS, OUTCOMES, VISITS, encode, key_of
from shared.kafka import KafkaCluster
from shared.redis_store import RedisStore
from shared.settings import PARTITIONS, SERVER_GROUP, TRAINER_GROUP

MODEL: Final = "bench"
SCRATCH: Final = ("bench-decisions", "bench-outcomes")
"""Topics that the bare server writes to."""
TIMEOUT_S: Final = 180.0
_POLL_S: Final = 0.01
_TEMPLATES: Final = 500
_SETTLE_S: Final = 2.0
_WARM: Final = 2_000
"""Records that a service works on before it is measured: what it does once is no speed. A trainer
has read its dedupe window back then, too."""

Pairs = Sequence[tuple[bytes, bytes]]
Tell = Callable[[str], None]
_T = TypeVar("_T")


class BenchFailed(Exception):
    """A process does not do its work; the message says what it says."""


class Plan(NamedTuple):
    """What to measure, and where."""

    kafka: str
    redis: str
    settings: Mapping[str, str]
    """Further librdkafka settings."""
    folder: Path
    data: DataSet
    logs: Path
    visits: int
    outcomes: int
    replicas: Sequence[int]
    rates: Sequence[int]
    seconds: float


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """Some replicas, given more than they can do."""

    service: str
    replicas: int
    delivery: str
    records: int
    per_s: float
    """All replicas together, by the wall clock."""
    per_core_s: float
    """Per second of processor time: does not depend on how many cores there are."""
    cpu_s_per_100k: float
    bare_cpu_s_per_100k: float | None = None
    ratio: float | None = None
    """Speed in the share of the bare loop's, both by processor time."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Click → servable, in milliseconds."""

    delivery: str
    rate: int
    """Visits a second asked for …"""
    achieved: float
    """… and served."""
    samples: int
    p50_ms: float
    p99_ms: float
    bare_ms: float
    """What the broker needs for the least of batches, with nothing else running: see
    `reco.bare_loops.bare_batches`."""


class Results(msgspec.Struct):
    """Everything."""

    throughput: list[Throughput] = []
    latency: list[Latency] = []


class StreamBench:
    """Runs the plan. `tell` gets a sentence at each stage."""

    def __init__(self, plan: Plan, cluster: KafkaCluster, store: RedisStore, tell: Tell) -> None:
        self._plan = plan
        self._cluster = cluster
        self._store = store
        self._tell = tell
        self._settings = {**plan.settings, "bootstrap.servers": plan.kafka}
        self._admin: Any = AdminClient({**self._settings, "log_level": 0})
        self._producer = cluster.producer()
        self._servers = cluster.consumer(VISITS, f"{SERVER_GROUP}-{MODEL}")
        self._ends = {topic: cluster.consumer(topic) for topic in (VISITS, OUTCOMES)}
        self._shoppers = Shoppers(plan.data.users, 1237, f"bench-{time.time_ns():x}")
        self._numbers = itertools.count()

    def run(self) -> Results:
        """Measure everything.

        Raises:
            BenchFailed: something does not get on.
        """
        results = Results()
        self._cluster.create_topics(dict.fromkeys(SCRATCH, PARTITIONS[OUTCOMES]))
        self._warm_up()
        for delivery in (EXACTLY_ONCE, AT_LEAST_ONCE):
            results.throughput.append(self._server_and_bare(delivery))
        results.throughput += [
            self._measured_server(count, EXACTLY_ONCE)[0]
            for count in self._plan.replicas
            if count > 1
        ]
        results.throughput.append(self._trainer_and_bare())
        results.throughput += [
            self._measured_trainer(count)[0] for count in self._plan.replicas if count > 1
        ]
        for delivery in (EXACTLY_ONCE, AT_LEAST_ONCE):
            self._tell(f"bare batches, {delivery}")
            exact = delivery == EXACTLY_ONCE
            bare_s = _apart(bare_batches, self._settings, SCRATCH, transactions=exact)
            results.latency += [
                self._latency(delivery, rate, bare_s * 1e3) for rate in self._plan.rates
            ]
        return results

    def _warm_up(self) -> None:
        self._tell("learning from the history")
        with self._running("train", 1) as (trainer,):
            self._blast(OUTCOMES, self._outcomes(10_000))
            self._await_learned([trainer])

    def _server_and_bare(self, delivery: str) -> Throughput:
        measured, stretch = self._measured_server(1, delivery)
        self._tell(f"a bare loop over the same visits, {delivery}")
        spent = _apart(
            bare_server,
            self._settings,
            stretch,
            self._templates(),
            SCRATCH,
            transactions=delivery == EXACTLY_ONCE,
        )
        return _compared(measured, spent)

    def _trainer_and_bare(self) -> Throughput:
        measured, stretch = self._measured_trainer(1)
        self._tell("a bare loop over the same outcomes")
        return _compared(measured, _apart(bare_trainer, self._settings, stretch))

    def _measured_server(self, count: int, delivery: str) -> tuple[Throughput, Stretch]:
        visits = [self._visit() for _ in range(_WARM + self._plan.visits)]
        with self._running("serve", count, "--delivery", delivery) as servers:
            return self._measured("server", delivery, servers, VISITS, visits)

    def _measured_trainer(self, count: int) -> tuple[Throughput, Stretch]:
        outcomes = self._outcomes(_WARM + self._plan.outcomes)
        with self._running("train", count) as trainers:
            return self._measured("trainer", "", trainers, OUTCOMES, outcomes)

    def _measured(
        self, service: str, delivery: str, children: list[Child], topic: str, pairs: Pairs
    ) -> tuple[Throughput, Stretch]:
        self._blast(topic, pairs[:_WARM])
        before = self._end_of(topic)
        self._await(lambda: self._done(topic, before), children)
        pairs = pairs[_WARM:]
        self._tell(f"{len(children)} × {service}, {len(pairs):,} records, {delivery}")
        cpu_s, started_s = _cpu_s(children), time.perf_counter()
        self._blast(topic, pairs)
        end = self._end_of(topic)
        self._await(lambda: self._done(topic, end), children)
        seconds, cpu_s = time.perf_counter() - started_s, _cpu_s(children) - cpu_s
        return Throughput(
            service=service,
            replicas=len(children),
            delivery=delivery,
            records=len(pairs),
            per_s=len(pairs) / seconds,
            per_core_s=len(pairs) / cpu_s,
            cpu_s_per_100k=cpu_s / len(pairs) * 1e5,
        ), Stretch(topic, before, end)

    def _latency(self, delivery: str, rate: int, bare_ms: float) -> Latency:
        self._tell(f"click → servable at {rate:,} visits/s, {delivery}")
        count = int(rate * self._plan.seconds)
        samples_ms: list[float] = []
        with self._running("train", 1) as (trainer,):
            self._await_learned([trainer])
            with self._running("serve", 1, "--delivery", delivery) as (server,):
                options = ["--rate", str(rate), "--count", str(count)]
                started_s = time.perf_counter()
                producer = self._child("produce", "producer", *options)
                self._await(lambda: producer.finished, [producer])
                end = self._end_of(VISITS)
                self._await(lambda: self._done(VISITS, end), [server])
                seconds = time.perf_counter() - started_s
                self._await_learned([trainer])
                producer.stop()
            while not server.lines.empty():
                samples_ms += server.lines.get().get("freshness_ms", [])
        if not samples_ms:
            raise BenchFailed(f"no outcome came back; the server says {server.last_words()}")
        p50, p99 = np.percentile(samples_ms, [50, 99]).tolist()
        return Latency(
            delivery=delivery,
            rate=rate,
            achieved=count / seconds,
            samples=len(samples_ms),
            p50_ms=round(p50, 2),
            p99_ms=round(p99, 2),
            bare_ms=round(bare_ms, 2),
        )

    @contextmanager
    def _running(self, command: str, count: int, *options: str) -> Iterator[list[Child]]:
        """So many of a service, joined and idle."""
        common = ["--redis", self._plan.redis, "--model", MODEL]
        if command == "serve":
            common += ["--lines-per-s", "0"]
            self._skip_visits()
        children = [
            self._child(command, f"{command}-{number}", *common, *options)
            for number in range(count)
        ]
        prefix = SERVER_GROUP if command == "serve" else TRAINER_GROUP
        try:
            self._await(lambda: self._members(f"{prefix}-{MODEL}") == count, children)
            time.sleep(_SETTLE_S)
            yield children
        finally:
            for child in children:
                child.stop()

    def _child(self, command: str, name: str, *options: str) -> Child:
        arguments = [command, "--json", "--kafka", self._plan.kafka]
        arguments += ["--data", str(self._plan.folder), *options]
        return Child(name, arguments, self._plan.logs / f"{name}.log", restart=False)

    def _skip_visits(self) -> None:
        """What stands in the topic already was measured before."""
        self._servers.commit(self._end_of(VISITS), wait=True)

    def _members(self, group: str) -> int:
        try:
            found = self._admin.describe_consumer_groups([group])[group].result()
        except KafkaException:  # a fresh broker has no coordinator yet: asked again
            return -1
        return len(found.members) if found.state == ConsumerGroupState.STABLE else -1

    def _await_learned(self, trainers: list[Child]) -> None:
        self._await(lambda: self._done(OUTCOMES, self._end_of(OUTCOMES)), trainers)

    def _done(self, topic: str, end: Mapping[int, int]) -> bool:
        if topic == VISITS:
            reached = self._servers.committed(list(end))
        else:
            positions = self._store.positions(list(end))
            reached = {p: at.next_offset for p, at in zip(end, positions, strict=True) if at}
        return all(reached.get(partition, 0) >= offset for partition, offset in end.items())

    def _end_of(self, topic: str) -> dict[int, int]:
        return {p: self._ends[topic].watermarks(p).end for p in range(PARTITIONS[topic])}

    def _await(self, condition: Callable[[], bool], children: Iterable[Child]) -> None:
        deadline_s = time.monotonic() + TIMEOUT_S
        while not condition():
            dead = [child for child in children if not child.alive and not child.finished]
            if dead or time.monotonic() > deadline_s:
                words = {child.name: child.last_words() for child in children}
                raise BenchFailed(f"it does not get on; the processes say {words}")
            time.sleep(_POLL_S)

    def _blast(self, topic: str, pairs: Pairs) -> None:
        for key, value in pairs:
            self._producer.send(topic, key, value)
        self._producer.flush(TIMEOUT_S)

    def _visit(self) -> tuple[bytes, bytes]:
        visit = self._shoppers.visit(next(self._numbers), utc_now())
        return key_of(visit.user_id), encode(visit)

    def _outcomes(self, count: int) -> Pairs:
        """The history over and over, each time under ids of its own."""
        path, data = self._plan.folder / "history.csv", self._plan.data
        try:
            past = list(read_history(path, data.encoder.features, data.encoder.id, utc_now()))
        except HistoryError as error:
            raise BenchFailed(str(error)) from error
        made = []
        for outcome in itertools.islice(itertools.cycle(past), count):
            decision_id = f"d-{self._shoppers.visit_id(next(self._numbers))}"
            own = msgspec.structs.replace(
                outcome, outcome_id=f"{decision_id}:1", decision_id=decision_id
            )
            made.append((key_of(own.product_id), encode(own)))
        return made

    def _templates(self) -> list[Template]:
        """What a server has sent, to be sent again."""
        decisions, outcomes = (
            [
                (record.key or b"", record.value or b"")
                for record in itertools.islice(read_topic(self._cluster, topic), size)
            ]
            for topic, size in ((DECISIONS, _TEMPLATES), (OUTCOMES, 5 * _TEMPLATES))
        )
        return templates(decisions, outcomes)


def _compared(measured: Throughput, bare: Spent) -> Throughput:
    bare_cpu_s = bare.cpu_s / bare.records * 1e5
    return msgspec.structs.replace(
        measured, bare_cpu_s_per_100k=bare_cpu_s, ratio=bare_cpu_s / measured.cpu_s_per_100k
    )


def _apart(loop: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
    """Run a loop in a fresh process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(loop, *arguments, **options).result(TIMEOUT_S)


def _cpu_s(children: Iterable[Child]) -> float:
    """Processor time that these processes have taken so far, all threads; Linux only."""
    ticks = 0
    for child in children:
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime, stime
    return ticks / os.sysconf("SC_CLK_TCK")
