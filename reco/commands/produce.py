"""`reco produce`: the producer as a process."""

import itertools
import re
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from threading import Event

import click
import msgspec

from producer.history import HistoryError, read_history
from producer.service import Counts, VisitProducer, send_outcomes
from producer.simulate import Shoppers
from reco import options, via_options
from reco.brokers import open_cluster
from reco.data import load_or_prepare
from reco.logs import say
from reco.number import Number
from reco.observed import observed
from reco.observed_producer import ObservedProducer
from reco.process import process_name, run_name, stop_on_signals, utc_now
from reco.traces import open_trace
from reco.via_options import Via
from reco.whole_topic import read_topic
from shared.catalogue import DataSet
from shared.events import UNDECODABLE, VISITS, Outcome, decode_visit
from shared.kafka import KafkaCluster
from shared.metrics import ProducerMetrics
from shared.presence import Board

REPORT_EVERY_S = 1.0


def _run_id(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Such that the visit_ids are decision_ids of the API, which has the narrower rule."""
    if value is not None and not re.fullmatch(r"[A-Za-z0-9._-]{1,48}", value):
        raise click.BadParameter(
            "give 1 to 48 letters (A to Z), digits, '.', '_' or '-': '-' and the number of the "
            "visit are appended, and together they are 64 at most"
        )
    return value


@click.command()
@options.kafka
@options.redis_for("Redis in which to register this producer, for `reco status`. [default: none]")
@options.model
@options.data
@options.seed()
@click.option(
    "--rate",
    default=100.0,
    show_default=True,
    type=Number(min=0),
    help="Visits a second; 0 for as many as the broker takes.",
)
@click.option("--count", type=click.IntRange(min=1), help="How many visits. [default: endless]")
@click.option(
    "--run-id",
    callback=_run_id,
    help="Start of the visit_ids. Visits of this run that the topic holds already are left out, "
    "so a run that was killed can be started again. [default: one of its own for each run]",
)
@click.option(
    "--history",
    type=click.Path(path_type=Path),
    help="Publish this history.csv as outcomes instead of visits. Each row's event_id is a number "
    "that no other row ever sent has.",
)
@via_options.options
@click.option("--json", "as_json", is_flag=True, help="Report as lines of JSON on standard output.")
@options.observed
@options.patience
def command(
    kafka: str,
    redis: str | None,
    model: str,
    data: Path,
    seed: int,
    rate: float,
    count: int | None,
    run_id: str | None,
    history: Path | None,
    via: Via | None,
    as_json: bool,
    metrics_at: options.Address | None,
    patience_s: float,
) -> None:
    """Send simulated visits to the topic `visits`; SIGTERM confirms what was sent, then ends.

    With --history, the events of a history file go to the topic `outcomes` instead: the trainer
    learns from the past as it does from the present. With --via, the shoppers visit the HTTP API
    of `reco serve --http` instead, wherever --kafka is: they get a slate, think, and click or
    leave.

    Example: reco produce --rate 200 --count 10000
    """
    if history is not None:
        _refuse_beside_history(via)
    board = _board(redis, model) if redis else None
    dataset = load_or_prepare(data)
    if via is not None:
        shoppers = Shoppers(dataset.users, seed, run_id or run_name())
        visits = range(count) if count else itertools.count()
        from reco import http_shopping  # the HTTP client, for those who visit by HTTP

        http_shopping.run(
            via,
            dataset,
            shoppers,
            visits,
            seed,
            rate,
            patience_s,
            stop_on_signals(),
            as_json,
            metrics_at,
            board,
        )
        return
    cluster = open_cluster(kafka, patience_s)
    stop = stop_on_signals()  # until here a signal ends the process at once: it only waits
    reporter = Reporter(as_json)
    if history is not None:
        _send_history(cluster, dataset, history, stop, reporter)
        return
    shoppers = Shoppers(dataset.users, seed, run_id or run_name())
    indices: Iterable[int] = range(count) if count else itertools.count()
    if run_id:
        held = set(_held_visit_ids(cluster, run_id))
        indices = (index for index in indices if shoppers.visit_id(index) not in held)
    service = VisitProducer(
        cluster.producer(),
        shoppers,
        rate,
        clock=time.monotonic,
        utc_now=utc_now,
        progress=reporter.progress,
        trace=open_trace("producer", "visit", starts=True),
    )
    say(f"producing visits for {cluster.describe()}")
    seen = ObservedProducer(ProducerMetrics(), service.counts)
    with observed(seen, process_name(), metrics_at, board):
        service.run(indices, stop)
    reporter.done(service.counts.confirmed, "visits")


def _refuse_beside_history(via: Via | None) -> None:
    if via is not None:
        raise click.UsageError(
            "--history goes to Kafka, --via (or RECO_VIA) to the HTTP API: leave one of them out"
        )
    options.refuse(
        ("rate", "count", "run_id"), "--history sends all of a file at once, and no visits"
    )


def _board(redis: str, model: str) -> Board:
    from reco.stores import open_board  # Redis' client, for those who are to be seen there

    return open_board(redis, model)


class Reporter:
    """The progress line, once a second."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._started_s = time.monotonic()
        self._due_s = self._started_s + REPORT_EVERY_S

    def progress(self, counts: Counts) -> None:
        """Called after every confirmed batch."""
        if time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + REPORT_EVERY_S
            self._tell(counts.confirmed, "visits", False)

    def done(self, confirmed: int, what: str) -> None:
        """The last line."""
        self._tell(confirmed, what, True)

    def _tell(self, confirmed: int, what: str, done: bool) -> None:
        if self._as_json:
            click.echo(msgspec.json.encode({"confirmed": confirmed, "what": what, "done": done}))
            return
        rate = confirmed / max(time.monotonic() - self._started_s, 1e-3)
        say(f"{'done: ' if done else ''}{confirmed:,} {what} confirmed, {rate:,.0f}/s")


def _send_history(
    cluster: KafkaCluster, data: DataSet, path: Path, stop: Event, reporter: Reporter
) -> None:
    read = partial(read_history, path, data.encoder.features, data.encoder.id, utc_now())
    try:
        if path.is_file():  # else a pipe, which can be read only once
            _check(read(), stop)
        sent = send_outcomes(cluster.producer(), read(), stop)
    except HistoryError as error:
        raise click.UsageError(f"{error}; `reco prepare` shows the form it must have") from error
    reporter.done(sent, "outcomes of the past")


def _check(outcomes: Iterable[Outcome], stop: Event) -> None:
    """Read them all before the first is sent: half a file can't be sent again without the other."""
    for _ in outcomes:
        if stop.is_set():
            return


def _held_visit_ids(cluster: KafkaCluster, run_id: str) -> Iterator[str]:
    """Those of this run that the topic holds already."""
    if VISITS not in cluster.topics():
        return
    for record in read_topic(cluster, VISITS):
        try:
            visit_id = decode_visit(record.value or b"").visit_id
        except UNDECODABLE:
            continue  # no visit: the servers make a dead letter of it
        if visit_id.rpartition("-")[0] == run_id:
            yield visit_id
