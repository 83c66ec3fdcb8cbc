"""`reco serve`: the server as a process (stream mode)."""

import threading
import time
from pathlib import Path

import click
import msgspec

from reco import options
from reco.data import load_or_prepare
from reco.shoppers import FEEDBACK, feedback_rule, reaction
from reco.wiring import one_blas_thread, open_cluster, open_store, say, stop_on_signals, utc_now
from server.freshness import FreshnessProbe
from server.model_view import ModelView, WrongModel
from server.scorer import POLICIES, Policy
from server.stream import Served, StreamServer
from shared.arm_statistics import CorruptRow
from shared.events import OUTCOMES, VISITS
from shared.ports import BrokerUnavailable, CorruptState
from shared.settings import ALPHA, LAMBDA, SERVER_GROUP, SLATE_LENGTH

POLL_S = 0.05
FOLLOW_S = 0.1
REPORT_EVERY_S = 1.0


@click.command()
@options.kafka
@options.redis
@options.model
@options.data
@options.seed()
@click.option("--policy", default="linucb", show_default=True, type=click.Choice(POLICIES))
@click.option("--alpha", default=ALPHA, show_default=True, type=click.FloatRange(min=0))
@click.option("--epsilon", default=0.1, show_default=True, type=click.FloatRange(0, 1))
@click.option("--k", default=SLATE_LENGTH, show_default=True, type=click.IntRange(1, 50))
@click.option(
    "--depth",
    type=click.IntRange(1, 50),
    help="How many ranks a shopper looks at before leaving without a click. [default: all]",
)
@click.option(
    "--feedback",
    default="cascade",
    show_default=True,
    type=click.Choice(FEEDBACK),
    help="Which ranks get an outcome: cascade is right, top1 is for comparison.",
)
@click.option(
    "--lines-per-s",
    default=20,
    show_default=True,
    type=click.IntRange(min=0),
    help="Visit lines to print a second at most; 0 for none.",
)
@click.option("--json", "as_json", is_flag=True, help="Report as lines of JSON on standard output.")
@options.patience
def command(
    kafka: str,
    redis: str,
    model: str,
    data: Path,
    seed: int,
    policy: str,
    alpha: float,
    epsilon: float,
    k: int,
    depth: int | None,
    feedback: str,
    lines_per_s: int,
    as_json: bool,
    patience_s: float,
) -> None:
    """Rank the top 5 for every visit, and publish the decision and the click outcomes.

    Keeps nothing of its own: start several, kill any. The shoppers' reactions are simulated
    (their dice follow --seed).

    Example: reco serve --policy linucb --alpha 0.3
    """
    one_blas_thread()
    stop = stop_on_signals()
    dataset = load_or_prepare(data)
    cluster = open_cluster(kafka, patience_s)
    store = open_store(redis, model, patience_s)
    source = cluster.source(OUTCOMES)
    depth = min(depth or k, k)
    freshness = FreshnessProbe(source.partitions, time.monotonic)
    view = ModelView(
        store,
        dataset.arms,
        dataset.config,
        source.partitions,
        LAMBDA,
        time.monotonic,
        freshness.advanced,
    )
    consumer = cluster.consumer(VISITS, f"{SERVER_GROUP}-{model}")
    server = StreamServer(
        consumer,
        cluster.producer(),
        view,
        Policy(policy, alpha, LAMBDA, epsilon),
        dataset.encoder,
        reaction(dataset, seed, depth),
        feedback_rule(feedback, depth),
        k=k,
        utc_now=utc_now,
        clock=time.monotonic,
        freshness=freshness,
    )
    say(f"serving {model!r} by {policy} from {store.describe()}, visits from {cluster.describe()}")
    say("delivery: at-least-once")
    follower = Follower(view, stop)
    follower.start()
    try:
        if follower.await_view(patience_s):
            consumer.subscribe(server)
            _run(server, view, stop, Reporter(server, view, freshness, lines_per_s, as_json))
            server.commit()
    except BrokerUnavailable as error:
        say(f"{error}; visits of the last batch will be decided again")
    finally:
        stop.set()
        follower.join()
        consumer.close()
    if follower.failure:
        raise click.ClickException(follower.failure)


def _run(server: StreamServer, view: ModelView, stop: threading.Event, report: "Reporter") -> None:
    while not stop.is_set():
        try:
            report.lines(server.run_once(POLL_S))
        except BrokerUnavailable as error:
            say(f"{error}; trying again")
            stop.wait(REPORT_EVERY_S)
        report.tick()
    report.tick(last=True)


class Follower(threading.Thread):
    """Keeps the view up to date beside the serving, so that serving never waits for the store."""

    def __init__(self, view: ModelView, stop: threading.Event) -> None:
        super().__init__(name="view", daemon=True)
        self.failure = ""
        self._view = view
        self._stopping = stop

    def run(self) -> None:
        """Follow until stopped, or until the store turns out to hold another model."""
        try:
            while not self._stopping.is_set():
                self._view.refresh(FOLLOW_S)
                if self._view.error:
                    self._stopping.wait(FOLLOW_S)
        except (WrongModel, CorruptRow, CorruptState) as error:
            self.failure = str(error)
            self._stopping.set()
        finally:
            self._view.close()

    def await_view(self, patience_s: float) -> bool:
        """Wait for the first whole view; False if the process is stopped before.

        Raises:
            click.ClickException: it did not come in time.
        """
        deadline_s = time.monotonic() + patience_s
        while not self._view.ready and not self._stopping.is_set():
            if time.monotonic() > deadline_s:
                raise click.ClickException(f"no model to serve: {self._view.error}")
            self._stopping.wait(0.01)
        return self._view.ready and not self._stopping.is_set()


class Reporter:
    """Tells people (or, as JSON, programs) what is going on."""

    def __init__(
        self,
        server: StreamServer,
        view: ModelView,
        freshness: FreshnessProbe,
        lines_per_s: int,
        as_json: bool,
    ) -> None:
        self._server = server
        self._view = view
        self._freshness = freshness
        self._lines_per_s = lines_per_s
        self._as_json = as_json
        self._left = lines_per_s
        self._due_s = time.monotonic() + REPORT_EVERY_S
        self._told = ""

    def lines(self, served: list[Served]) -> None:
        """One line a visit, as far as the second's ration goes."""
        for item in served[: self._left]:
            if self._as_json:
                click.echo(msgspec.json.encode(_visit(item)))
            else:
                click.echo(visit_line(item))
        self._left -= min(self._left, len(served))

    def tick(self, last: bool = False) -> None:
        """Once a second (and at the end): what has been done."""
        if not last and time.monotonic() < self._due_s:
            return
        self._due_s = time.monotonic() + REPORT_EVERY_S
        self._left = self._lines_per_s
        samples_ms = self._freshness.take_ms()
        if self._as_json:
            report = {
                "counts": msgspec.to_builtins(self._server.counts),
                "freshness_ms": [round(sample, 3) for sample in samples_ms],
                "stale": self._view.stale,
                "gaps": self._view.gaps,
            }
            click.echo(msgspec.json.encode(report))
            return
        text = self._sentence()
        if text != self._told:
            say(text)
        self._told = text

    def _sentence(self) -> str:
        counts = self._server.counts
        rate = counts.clicks / counts.visits if counts.visits else 0.0
        text = f"visits {counts.visits:,}, click rate {rate:.3f}"
        for name, count in (
            ("dead letters", counts.dead_letters),
            ("unknown categories", counts.unknown_categories),
            ("clipped numbers", counts.clipped),
        ):
            if count:
                text += f", {name} {count:,}"
        return f"{text}; STALE: {self._view.error}" if self._view.error else text


def _visit(served: Served) -> dict[str, str | bool]:
    return {
        "visit_id": served.visit.visit_id,
        "clicked": served.clicked is not None,
        "line": visit_line(served),
    }


def visit_line(served: Served) -> str:
    """`User 0327 (23 yo) @ Mon 07:29 -> Recs: [192, 189, …] -> Clicked: 192 (✅)`"""
    visit = served.visit
    products = [item.product_id for item in served.decision.slate]
    mark = "✅" if served.clicked is not None else "❌"
    return (
        f"User {visit.user_id:04d} ({visit.context.age} yo) @ "
        f"{visit.context.occurred_at:%a %H:%M} -> Recs: {products} -> "
        f"Clicked: {served.clicked} ({mark})"
    )
