"""The demo: every service as a process of its own, on the embedded broker and store."""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from producer.simulate import Shoppers
from reco.catalogue_feed import open_products
from reco.fleet import Child, ChildFailed
from reco.process import utc_now
from reco.rebuild import compare_all
from reco.state import read_states
from reco.verdict import Expected, Late, Verdict, expected, judge
from reco.whole_topic import read_topic
from shared.catalogue import DataSet
from shared.events import DECISIONS, OUTCOMES, VISITS, Decision, decode_decision, decode_outcome
from shared.ground_truth import GroundTruth
from shared.kafka import KafkaCluster
from shared.ports import StoreUnavailable
from shared.redis_presence import RedisBoard
from shared.redis_store import RedisStore
from shared.settings import SERVER_GROUP, SLATE_LENGTH
from trainer.apply import Rules

MODEL: Final = "demo"
RUN_ID: Final = "demo"
RECENT: Final = 1_000
SETTLE_TIMEOUT_S: Final = 60.0
START_TIMEOUT_S: Final = 60.0
CHAOS_SECONDS: Final = 24.0
"""A run with kills takes at least this long, so that each kill finds everything up again."""
HOLD_PER_S: Final = 20.0
ANOTHER_SYSTEMS: Final = ("RECO_", "KAFKA_")
"""Variables that speak of a system people work with: its γ or its TLS would break this one."""
VICTIMS: Final = ("trainer", "server-1", "trainer", "server-2", "producer", "trainer", "server-1")


class Plan(NamedTuple):
    """What to run."""

    data: DataSet
    folder: Path
    visits: int
    rate: float
    seed: int
    policy: str
    alpha: float
    warm: bool
    chaos: bool
    logs: Path
    http_port: int
    """Where server 1 shows the live page."""
    hold: bool
    """Let shoppers come after the verdict too, until Ctrl-C."""


class Progress(NamedTuple):
    """How far it is, for people."""

    seconds: float
    decided: int
    click_rate: float
    """Of the last 1,000 visits, as are the next two."""
    random: float
    best: float
    freshness_p50_ms: float | None


class Demo:
    """Runs the plan. `tell` gets a sentence at each stage, `progress` a report twice a second."""

    def __init__(
        self, plan: Plan, tell: Callable[[str], None], progress: Callable[[Progress], None]
    ) -> None:
        self.decisions: list[Decision] = []
        """What was decided, once the run is judged."""
        self.last_lines: deque[str] = deque(maxlen=10)
        """The latest visit lines."""
        self.rates: list[Progress] = []
        """Every progress report, for a plot."""
        self._plan = plan
        self._tell = tell
        self._progress = progress
        self._children: dict[str, Child] = {}
        self._freshness_ms: list[float] = []
        self._clicked: dict[str, bool] = {}
        self._kills = 0
        self._next_kill_s = 0.0
        shoppers = Shoppers(plan.data.users, plan.seed, RUN_ID)
        visits = [shoppers.visit(index, utc_now()) for index in range(plan.visits)]
        self.visit_ids = [visit.visit_id for visit in visits]
        self._number = {visit_id: i for i, visit_id in enumerate(self.visit_ids)}
        truth = GroundTruth(plan.data.products, plan.data.encoder, plan.seed)
        self.hidden: Expected = expected(truth, [v.context for v in visits], SLATE_LENGTH)

    def run(self, judged: Callable[[Verdict], None]) -> Verdict:
        """Start everything, let it learn, judge it, tell the verdict, and stop.

        Raises:
            ChildFailed: a process does not come up, or the system does not settle.
        """
        with self._embedded() as description:
            broker, store_name = description["broker"], description["store"]
            self._tell(f"broker: {broker}; store: {store_name}")
            cluster = KafkaCluster(description["kafka"], patience_s=START_TIMEOUT_S)
            store = RedisStore(description["redis"], MODEL)
            self._start(description)
            if self._plan.warm:
                self._replay_history(description, cluster, store)
            self._await_ready(description["redis"])
            self._serve_visits(description)
            self._settle(cluster, store)
            verdict = self._judged(cluster, store, broker, store_name)
            judged(verdict)
            if self._plan.hold:
                self._hold(description)
            return verdict

    def stop(self) -> None:
        """Stop what still runs, last started first; at once where there is no broker to tell."""
        told = self._children["embedded"].alive
        for child in reversed(list(self._children.values())):
            child.stop() if told else child.kill()

    @contextmanager
    def _embedded(self) -> Iterator[dict[str, Any]]:
        child = self._child("embedded", "embedded", restart=False)
        try:
            deadline_s = time.monotonic() + START_TIMEOUT_S
            while child.lines.empty():
                if not child.alive or time.monotonic() > deadline_s:
                    raise ChildFailed(f"broker and store do not start: {child.last_words()}")
                time.sleep(0.02)
            yield child.lines.get()
        finally:
            self.stop()

    def _child(
        self, name: str, command: str, restart: bool = True, **options: str | float
    ) -> Child:
        arguments = [command, "--json"]
        for option, value in options.items():
            arguments += (f"--{option.replace('_', '-')}", str(value))
        log = self._plan.logs / f"{name}.log"
        self._children[name] = Child(name, arguments, log, restart=restart, without=ANOTHER_SYSTEMS)
        return self._children[name]

    def _start(self, at: dict[str, Any]) -> None:
        servers = 2 if self._plan.chaos else 1
        self._tell(f"starting 1 trainer and {servers} server{'s' if servers > 1 else ''}")
        address = f"127.0.0.1:{self._plan.http_port}"
        self._tell(f"page: http://{address}")
        common: dict[str, Any] = {"redis": at["redis"], "model": MODEL, **self._addressed(at)}
        self._child("trainer", "train", **common)
        for number in range(1, servers + 1):
            self._child(
                f"server-{number}",
                "serve",
                lines_per_s=1_000_000,
                seed=self._plan.seed,
                policy=self._plan.policy,
                alpha=self._plan.alpha,
                **{**({"http": address} if number == 1 else {}), **self._serve_options(number)},
                **common,
            )

    def _serve_options(self, number: int) -> dict[str, Any]:
        """Further options of server number `number`, for subclasses that serve in another way."""
        return {}

    def _produce_options(self) -> dict[str, Any]:
        """Further options of the producer, likewise."""
        return {}

    def _addressed(self, at: dict[str, Any]) -> dict[str, Any]:
        return {"kafka": at["kafka"], "data": str(self._plan.folder)}

    def _replay_history(self, at: dict[str, Any], cluster: KafkaCluster, store: RedisStore) -> None:
        history = self._plan.folder / "history.csv"
        self._tell(f"sending the history ({history}) through the topic to the trainer")
        sender = self._child("history", "produce", history=str(history), **self._addressed(at))
        while not sender.finished:
            if not sender.alive:
                raise ChildFailed(f"the history can't be sent: {sender.last_words()}")
            self._tick()
        records = self._learned(cluster, store)
        self._tell(f"learned from {records:,} outcomes of the past")

    def _await_ready(self, redis: str) -> None:
        """Wait for trainer and servers to have joined.

        Visits from before would be decided together, on a model that can't have learned yet.
        """
        names = [name for name in self._children if name.startswith(("trainer", "server"))]
        with contextlib.closing(RedisBoard(redis, MODEL)) as board:

            def joined() -> bool:
                with contextlib.suppress(StoreUnavailable):
                    ready = {each.pid for each in board.present() if not each.not_ready}
                    return ready >= {self._children[name].pid for name in names}
                return False

            self._await(joined, "trainer and servers do not join")

    def _serve_visits(self, at: dict[str, Any]) -> None:
        plan = self._plan
        rate = min(plan.rate, plan.visits / CHAOS_SECONDS) if plan.chaos else plan.rate
        self._tell(f"{plan.visits:,} visits at {rate:,.0f}/s")
        producer = self._child(
            "producer",
            "produce",
            run_id=RUN_ID,
            count=plan.visits,
            rate=rate,
            seed=plan.seed,
            **self._addressed(at),
            **self._produce_options(),
        )
        started_s = time.monotonic()
        self._next_kill_s = started_s + CHAOS_SECONDS / (len(VICTIMS) + 1)
        report_s = started_s
        while not producer.finished:
            self._tick()
            if plan.chaos:
                self._kill_when_due()
            if time.monotonic() >= report_s:
                report_s = time.monotonic() + 1.0
                self._report(time.monotonic() - started_s)
        if report_s - time.monotonic() < 0.5:
            self._report(time.monotonic() - started_s)

    def _kill_when_due(self) -> None:
        if self._kills >= len(VICTIMS) or time.monotonic() < self._next_kill_s:
            return
        victim = self._children[VICTIMS[self._kills]]
        if victim.alive:
            victim.kill()
            self._kills += 1
            self._tell(f"kill -9 {victim.name}")
            self._next_kill_s += CHAOS_SECONDS / (len(VICTIMS) + 1)

    def _tick(self) -> None:
        """Read what the processes say, and restart what has died.

        Raises:
            ChildFailed: broker and store are gone, or a process does not stay up.
        """
        owner = self._children["embedded"]
        if not owner.alive:
            words = owner.last_words()
            raise ChildFailed(f"broker and store have ended{words and f'; they say: {words}'}")
        for child in list(self._children.values()):
            while not child.lines.empty():
                self._take(child.lines.get())
            if child.check():
                self._tell(f"{child.name} is started again")
        time.sleep(0.02)

    def _take(self, line: dict[str, Any]) -> None:
        if "visit_id" in line:
            self._clicked.setdefault(line["visit_id"], line["clicked"])
            self.last_lines.append(line["line"])
        self._freshness_ms += line.get("freshness_ms", [])

    def _report(self, seconds: float) -> None:
        recent = list(self._clicked)[-RECENT:]
        rows = [self._number[visit_id] for visit_id in recent]
        if not rows:
            return
        fresh = float(np.median(self._freshness_ms[-RECENT:])) if self._freshness_ms else None
        progress = Progress(
            seconds,
            len(self._clicked),
            float(np.mean([self._clicked[visit_id] for visit_id in recent])),
            float(self.hidden.random[rows].mean()),
            float(self.hidden.best[rows].mean()),
            fresh,
        )
        self.rates.append(progress)
        self._progress(progress)

    def _settle(self, cluster: KafkaCluster, store: RedisStore) -> None:
        """Wait until every visit is decided and every outcome learned."""
        group = cluster.consumer(VISITS, f"{SERVER_GROUP}-{MODEL}")
        partitions = range(cluster.topics()[VISITS])
        ends = {p: end for p in partitions if (end := group.watermarks(p).end)}
        self._await(
            lambda: all(group.committed([p]).get(p, 0) >= end for p, end in ends.items()),
            "the servers do not decide all visits",
        )
        self._resolved(cluster)
        self._learned(cluster, store)
        if self._plan.hold:
            return
        for name in [name for name in self._children if name != "embedded"]:
            self._children[name].stop()
            while not self._children[name].lines.empty():
                self._take(self._children[name].lines.get())

    def _hold(self, at: dict[str, Any]) -> None:
        rate = min(self._plan.rate, HOLD_PER_S)
        self._tell(f"the page stays, and {rate:g} shoppers a second go on coming: Ctrl-C ends it")
        self._child("shoppers", "produce", rate=rate, seed=self._plan.seed, **self._addressed(at))
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                self._tick()

    def _resolved(self, cluster: KafkaCluster) -> None:
        """Wait for outcomes that are still to come; in stream mode they came with the decisions."""

    def _learned(self, cluster: KafkaCluster, store: RedisStore) -> int:
        """Wait until the trainer has applied all there is; returns the number of records."""
        consumer = cluster.consumer(OUTCOMES)
        partitions = range(cluster.topics()[OUTCOMES])
        ends = [consumer.watermarks(partition).end for partition in partitions]
        consumer.close()
        self._await(
            lambda: [p.next_offset if p else -1 for p in store.positions(partitions)] == ends,
            "the trainer does not apply all outcomes",
        )
        return sum(ends)

    def _await(self, done: Callable[[], bool], complaint: str) -> None:
        deadline_s = time.monotonic() + SETTLE_TIMEOUT_S
        while not done():
            if time.monotonic() > deadline_s:
                words = {name: child.last_words() for name, child in self._children.items()}
                raise ChildFailed(f"{complaint} within {SETTLE_TIMEOUT_S:g} s; they say: {words}")
            self._tick()

    def _judged(
        self, cluster: KafkaCluster, store: RedisStore, broker: str, store_name: str
    ) -> Verdict:
        self._tell("replaying the log, to compare it with the store bit for bit")
        data, source = self._plan.data, cluster.source(OUTCOMES)
        products = open_products(cluster, data)
        rules = Rules.of(data.config, data.arms, source.partitions, newcomers=products)
        consumer = cluster.consumer(OUTCOMES, reset="error")
        states = read_states(store, range(source.partitions))
        replay, _ = compare_all(consumer, rules, states, {}, source)
        consumer.close()
        self.decisions = [
            decode_decision(record.value or b"") for record in read_topic(cluster, DECISIONS)
        ]
        return judge(
            self.visit_ids,
            self.hidden,
            {arm: i for i, arm in enumerate(data.arms)},
            self.decisions,
            [decode_outcome(record.value or b"") for record in read_topic(cluster, OUTCOMES)],
            replay,
            freshness_ms=self._freshness_ms,
            kills=self._kills,
            broker=broker,
            store=store_name,
            late=self._late(),
        )

    def _late(self) -> Late | None:
        """Clicks that came after a window's end; in stream mode there are no windows."""
        return None
