"""`reco status`: the whole system in one screen."""

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.live import Live

from reco import options
from reco.brokers import open_cluster
from reco.experiment_log import compared
from reco.experiment_report import ExperimentReport
from reco.logs import say
from reco.number import Number
from reco.process import stop_on_signals
from reco.status import MAX_LAG, Status, Survey, judge, survey
from reco.status_screen import screen
from reco.stores import open_board, store_at
from shared.catalogue import load_data
from shared.events import DECISIONS, OUTCOMES, VISITS
from shared.kafka import KafkaCluster
from shared.kafka_admin import KafkaAdmin
from shared.ports import BrokerUnavailable
from shared.presence import Board
from shared.redis_store import RedisStore
from shared.settings import SERVER_GROUP, TRAINER_GROUP

EXPERIMENT_EVERY_S: Final = 10.0
"""From one reading of the whole log to the next, with --watch."""


@click.command()
@options.kafka
@options.redis
@options.model
@options.data
@options.seed()
@click.option("--watch", is_flag=True, help="Go on looking until Ctrl-C.")
@click.option(
    "--interval-s",
    default=1.0,
    show_default=True,
    type=Number(min=0.1),
    help="From one look to the next; rates are measured over it.",
)
@click.option(
    "--max-lag",
    default=MAX_LAG,
    show_default=True,
    type=click.IntRange(min=0),
    help="Records of a topic that may wait before that is unhealthy.",
)
@options.json_output("the status (with --watch one line a look)")
@options.patience
def command(
    kafka: str,
    redis: str,
    model: str,
    data: Path,
    seed: int,
    watch: bool,
    interval_s: float,
    max_lag: int,
    json_file: str | None,
    patience_s: float,
) -> int:
    """Show brokers, topics, partitions with owner, offset, lag and rate, processes, dead letters.

    Where a server runs an experiment, the log is read for how its policies compare (as `reco
    experiment` does), every ten seconds at most; their uplift needs `--data` and `--seed`.

    Exit code 0 if all is well, 1 if not; then it says why.

    Example: reco status --watch
    """
    stop = stop_on_signals()
    cluster = open_cluster(kafka, patience_s)
    # A store that does not answer is a part of the status, not the end of it.
    store, board = store_at(redis, model), open_board(redis, model)
    judged = _looks(cluster, store, board, model, interval_s, max_lag, stop)
    looks = _with_experiment(judged, cluster, data, seed)
    status = next(looks)
    if watch and json_file:
        for status in looks:
            click.echo(msgspec.json.encode(status))
    elif watch:
        status = _watched(status, looks)
    else:
        options.write_json(status, json_file)
        if json_file != "-":
            Console().print(screen(status))
    return 0 if status.healthy else 1


def _watched(latest: Status, looks: Iterator[Status]) -> Status:
    """Show each in the place of the one before; below it, where that can't be (a file, a pipe)."""
    console = Console()
    if not console.is_terminal:
        console.print(screen(latest))
        for latest in looks:
            console.print(screen(latest))
        return latest
    with Live(screen(latest), console=console, auto_refresh=False) as live:
        for latest in looks:
            live.update(screen(latest), refresh=True)
    return latest


def _looks(
    cluster: KafkaCluster,
    store: RedisStore,
    board: Board,
    model: str,
    interval_s: float,
    max_lag: int,
    stop: threading.Event,
) -> Iterator[Status]:
    """One status after each interval; the first rests on two looks as well."""
    admin = KafkaAdmin(cluster)
    groups = {VISITS: f"{SERVER_GROUP}-{model}", OUTCOMES: f"{TRAINER_GROUP}-{model}"}

    def look() -> Survey:
        return survey(admin, cluster.topics(), store, board, groups, time.monotonic())

    before, first = look(), True
    while first or not stop.is_set():
        stop.wait(interval_s)
        try:
            now = look()
        except BrokerUnavailable as error:
            if first:
                raise
            say(f"{error}; trying again")
            continue
        yield judge(now, before, max_lag)
        before, first = now, False


def _with_experiment(
    looks: Iterator[Status], cluster: KafkaCluster, data: Path, seed: int
) -> Iterator[Status]:
    """With how the policies compare, where a server runs an experiment."""
    dataset = load_data(data) if data.exists() else None
    found: ExperimentReport | None = None
    read_s = -math.inf
    for status in looks:
        there = {row.topic for row in status.topics} >= {VISITS, DECISIONS, OUTCOMES}
        if status.runs and there and time.monotonic() - read_s >= EXPERIMENT_EVERY_S:
            found = compared(cluster, dataset, seed, status.runs)
            read_s = time.monotonic()
        status.experiment = found if status.runs else None
        yield status
