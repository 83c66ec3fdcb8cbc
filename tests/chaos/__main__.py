"""Faults on a real broker and store: `make chaos`, or `python -m tests.chaos`."""

import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from producer.prepare import prepare
from reco.fleet import ChildFailed
from reco.options import json_output, write_json
from shared.ports import BrokerUnavailable, StoreUnavailable
from tests.chaos.containers import DockerFailed
from tests.chaos.faults import FAULTS, SERVERS, TRAINERS, DidNotBite, Fault, Tell, strike
from tests.chaos.report import (
    EXACTLY_ONCE,
    Result,
    Run,
    machine,
    page_of,
    table_of,
    today,
)
from tests.chaos.stage import KAFKA_SETTINGS, NotRecovered, Plan, Stage, set_up
from tests.images import REDIS_IMAGE, REDPANDA_IMAGE

_TROUBLE: Final = (
    NotRecovered,
    DidNotBite,
    DockerFailed,
    ChildFailed,
    BrokerUnavailable,
    StoreUnavailable,
    TimeoutError,
)


@click.command(context_settings={"max_content_width": 100})
@click.option(
    "--short", is_flag=True, help="A few of most kinds: four minutes instead of half an hour."
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([fault.name for fault in FAULTS]),
    help="Only this fault; may be given several times.",
)
@click.option(
    "--times", type=click.IntRange(min=1), help="How often each. [default: its own number]"
)
@click.option("--rate", default=100.0, show_default=True, help="Visits a second.")
@click.option("--share", default=0.1, show_default=True, help="Poison and duplicates on top.")
@click.option(
    "--delivery",
    default=EXACTLY_ONCE,
    show_default=True,
    type=click.Choice([EXACTLY_ONCE, "at-least-once"]),
)
@click.option(
    "--naive/--no-naive",
    default=None,
    help="Run the naive trainers beside ours. [default: not with --short]",
)
@click.option("--seed", default=1237, show_default=True, help="Which victim, and when.")
@click.option(
    "--broker-name",
    default=REDPANDA_IMAGE,
    show_default=True,
    help="What the broker is called in the report, where the image's name does not say it.",
)
@click.option(
    "--write", type=click.Path(path_type=Path, dir_okay=False), help="Write the page here."
)
@json_output("the results")
def main(
    short: bool,
    only: tuple[str, ...],
    times: int | None,
    rate: float,
    share: float,
    delivery: str,
    naive: bool | None,
    seed: int,
    broker_name: str,
    write: Path | None,
    json_file: str | None,
) -> None:
    """Do every fault to the running system, and check each time that nothing is lost or doubled.

    Needs Docker. Images: REDPANDA_IMAGE and REDIS_IMAGE.

    Example: python -m tests.chaos --short --json faults.json
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all is cleared away
    os.environ.update(KAFKA_SETTINGS)  # of every process that is started from here
    console = Console(stderr=json_file == "-", width=140)
    command = shlex.join(["python", "-m", "tests.chaos", *sys.argv[1:]])
    run = Run(
        broker=broker_name,
        store=REDIS_IMAGE,
        delivery=delivery,
        rate=rate,
        share=share,
        machine=machine(),
        command=command,
        on=today(),
    )
    chosen = [fault for fault in FAULTS if not only or fault.name in only]
    numbers = {fault: times or (fault.times_short if short else fault.times) for fault in chosen}
    counts = {fault: number for fault, number in numbers.items() if number}
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="reco-chaos-") as folder:
        data, logs = Path(folder) / "data", Path(folder) / "logs"
        logs.mkdir()
        prepare(data, 1237)
        plan = Plan(data, logs, rate, share, delivery, seed)
        try:
            with set_up(plan) as stage:
                run.store = f"{stage.store.ping()}"
                for _ in _perform(
                    stage, counts, run, console, naive=not short if naive is None else naive
                ):
                    run.seconds = round(time.monotonic() - started_s, 1)
                    if write:  # a run that is ended early leaves what it found
                        write.write_text(page_of(run), encoding="utf-8")
        except _TROUBLE as error:
            raise click.ClickException(str(error)) from error
    console.print(table_of(run))
    for result in run.results:
        for reason in result.reasons(delivery):
            console.print(f"{result.name}: {reason}", style="red")
    write_json(run, json_file)
    sys.exit(0 if run.passed else 1)


def _perform(
    stage: Stage, counts: dict[Fault, int], run: Run, console: Console, *, naive: bool
) -> Iterator[Result]:
    """One kind of fault after the other, until one is not recovered from."""
    stage.scale(SERVERS, TRAINERS)
    stage.start_load()
    stage.recovery()
    columns = (TextColumn("{task.description:40}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=sum(counts.values()))

        def tell(text: str) -> None:
            progress.update(task, description=text, advance=1)

        for fault, times in counts.items():
            result = _one(stage, fault, times, tell, naive)
            run.results.append(result)
            progress.console.print(_line(result))
            yield result
            if result.failure:
                return  # what follows would only tell the same again


def _one(stage: Stage, fault: Fault, times: int, tell: Tell, naive: bool) -> Result:
    """One kind of fault, and the check after it."""
    result = Result(name=fault.name, title=fault.title, times=times)
    started_s = time.monotonic()
    try:
        if not fault.named:
            stage.replace_all(SERVERS, TRAINERS, named=False)
        if naive:
            stage.naive.start()
        stage.recovery()
        result.recovered(strike(stage, fault, times, tell))
        if not fault.named:
            stage.replace_all(SERVERS, TRAINERS, named=True)
        marks = stage.poison.probe()
        stage.await_past(marks, time.monotonic())
        result.counted(stage.tally.count(marks), stage.compared())
        if naive:
            result.naive = stage.naive.damage()
    except _TROUBLE as error:
        result.failure = str(error)
    result.seconds = round(time.monotonic() - started_s, 1)
    return result


def _line(result: Result) -> str:
    learned = result.learned_s
    recovery = f"p50 {learned.p50:.1f} s, p99 {learned.p99:.1f} s" if learned else "-"
    naive = f"{result.naive.lost}/{result.naive.double}" if result.naive else "-"
    counts = f"missing {result.missing} double {result.double} bits {result.differing_bits}"
    return (
        f"{result.name:22} × {result.times:<4} {result.seconds:6.0f} s  learned again "
        f"{recovery:24} {counts} naive lost/double {naive} {result.failure}"
    )


if __name__ == "__main__":
    main()
