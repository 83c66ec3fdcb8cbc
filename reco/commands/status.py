"""`reco status`: the whole system in one screen."""

import math
import threading
import time
from collections.abc import Callable, Iterator
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
from shared.catalogue import DataError, DataSet, load_data
from shared.events import OUTCOMES, VISITS
from shared.kafka import KafkaCluster
from shared.kafka_admin import KafkaAdmin
from shared.ports import BrokerUnavailable
from shared.presence import Board
from shared.redis_store import RedisStore
from shared.settings import SERVER_GROUP, TRAINER_GROUP

EXPERIMENT_EVERY_S: Final = 10.0
"""From one reading of the whole log to the next, with --experiment and --watch."""


@click.command()
@options.kafka
@options.redis
@options.model
@options.data
@options.seed()
@click.option(
    "--experiment",
    is_flag=True,
    help="Where a server runs an experiment, read the log, all of it, for how its policies "
    "compare (as `reco experiment` does); every ten seconds at most with --watch.",
)
@click.option("--watch", is_flag=True, help="Go on looking until Ctrl-C.")
@click.option(
    "--interval-s",
    default=1.0,
    show_default=True,
    type=Number(0.1, 86_400),
    help="From one look to the next; rates are measured over it.",
)
@click.option(
    "--max-lag",
    default=MAX_LAG,
    show_default=True,
    type=click.IntRange(min=0),
    help="Records of a topic that may wait before that is unhealthy.",
)
@options.json_output("the status (with --watch one line a look, after what is in FILE)")
@options.patience
def command(
    kafka: str,
    redis: str,
    model: str,
    data: Path,
    seed: int,
    experiment: bool,
    watch: bool,
    interval_s: float,
    max_lag: int,
    json_file: str | None,
    patience_s: float,
) -> int:
    """Show brokers, topics, partitions with owner, offset, lag and rate, processes, dead letters.

    Exit code 0 if all is well, 1 if not; then it says why. With --experiment the uplift of the
    policies needs `--data` and `--seed`.

    Example: reco status --watch
    """
    if not experiment:
        options.refuse(["data", "seed"], "add --experiment, or leave it out")
    cluster = open_cluster(kafka, patience_s)
    stop = stop_on_signals()  # until here a signal ends the process at once: it only waits
    # A store that does not answer is a part of the status, not the end of it.
    store, board = store_at(redis, model), open_board(redis, model)
    looks = _looks(cluster, store, board, model, interval_s, max_lag, stop)
    if experiment:
        dataset = _simulated(data)
        looks = with_experiment(looks, lambda name: compared(cluster, dataset, seed, name))
    if watch and json_file:
        looks = recorded(looks, json_file)
    status = next(looks)
    if watch and json_file == "-":
        for latest in looks:  # the line is all there is to show
            status = latest
    elif watch:
        status = _watched(status, looks)
    else:
        options.write_json(status, json_file)
        if json_file != "-":
            Console().print(screen(status))
    return 0 if status.healthy else 1


def recorded(looks: Iterator[Status], json_file: str) -> Iterator[Status]:
    """Each as a line of JSON in the file (`-`: on standard output), there as soon as it is looked.

    Raises:
        click.BadParameter: the file can't be written.
    """
    for status in looks:
        line = msgspec.json.encode(status)
        if json_file == "-":
            click.echo(line)
        else:
            try:
                with Path(json_file).open("ab") as file:
                    file.write(line + b"\n")
            except OSError as error:
                raise click.BadParameter(f"can't write {json_file}: {error.strerror}") from error
        yield status


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


def _simulated(data: Path) -> DataSet | None:
    """The data that the uplift is computed of; None, and why, where they are not there."""
    try:
        return load_data(data)
    except DataError as error:
        say(f"the experiment is shown without uplift: {error}")
        return None


def with_experiment(
    looks: Iterator[Status],
    compare: Callable[[str], ExperimentReport],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Status]:
    """With how the policies compare, where a server runs an experiment.

    Args:
        looks: what it is added to; that it can't be read takes nothing from them.
        compare: reads the log for the experiment of this name.
        clock: monotonic seconds.
    """
    found: ExperimentReport | None = None
    name, read_s = "", -math.inf
    for number, status in enumerate(looks):
        if status.runs and status.runs != name:  # what was found is of another
            found, name, read_s = None, status.runs, -math.inf
        if status.runs and clock() - read_s >= EXPERIMENT_EVERY_S:
            try:
                found = compare(status.runs)
            except BrokerUnavailable as error:
                say(f"{error}; the experiment is as it was read last, or not shown")
            read_s = clock()
        if not status.runs and number == 0:
            say("no server says that it runs an experiment")
        status.experiment = found if status.runs else None
        yield status
