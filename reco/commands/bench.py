"""`reco bench`: measure on a broker and store that run already."""

import os
import platform
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from reco import options
from reco.brokers import open_cluster
from reco.data import load_or_prepare
from reco.number import Number
from reco.options import kafka_settings, write_json
from reco.process import one_blas_thread, unwind_on_sigterm
from reco.stores import open_store
from reco.stream_bench import MODEL, SCRATCH, BenchFailed, Plan, Results, StreamBench
from server.delivery import AT_LEAST_ONCE
from shared.events import OUTCOMES, VISITS
from shared.kafka import KafkaCluster
from shared.kafka_connection import settings_from
from shared.settings import PARTITIONS

SERVER_PER_CORE_S: Final = 20_000
TRAINER_PER_CORE_S: Final = 200_000
OF_BARE_LOOP: Final = 0.5


@click.group()
def command() -> None:
    """Measure on a broker and store that run already.

    Example: reco bench stream --json bench.json
    """


@command.command()
@options.kafka
@options.redis
@options.data
@click.option("--visits", default=50_000, show_default=True, type=click.IntRange(1_000))
@click.option("--outcomes", default=150_000, show_default=True, type=click.IntRange(1_000))
@click.option(
    "--replicas",
    multiple=True,
    default=(1, 2, 4),
    show_default=True,
    type=click.IntRange(1, 12),
    help="How many servers, and trainers, at a time; may be given several times.",
)
@click.option(
    "--rate",
    "rates",
    multiple=True,
    default=(100, 1_000, 5_000),
    show_default=True,
    type=click.IntRange(1),
    help="Visits a second at which click → servable is measured; may be given several times.",
)
@click.option("--seconds", default=10.0, show_default=True, type=Number(1))
@click.option("--force", is_flag=True, help="Measure although the topics hold records.")
@options.json_output("the figures")
@options.patience
def stream(
    kafka: str,
    redis: str,
    data: Path,
    visits: int,
    outcomes: int,
    replicas: tuple[int, ...],
    rates: tuple[int, ...],
    seconds: float,
    force: bool,
    json_file: str | None,
    patience_s: float,
) -> None:
    """Measure servers and trainers on a real broker, beside loops that learn and rank nothing.

    Throughput: replicas that have joined and are idle get more than they can do at once, and their
    processor time until all is done is counted. The bare loop of the server consumes, decodes and
    produces as much as it does; that of the trainer consumes and decodes. Click → servable is
    measured under a steady load.

    The visits and outcomes go to the topics of the same names and to the model "bench". So it is
    for a broker of its own: topics that hold records already are refused without --force.

    Example: reco bench stream --kafka 127.0.0.1:9092 --redis redis://127.0.0.1:6379 --json b.json
    """
    one_blas_thread()
    unwind_on_sigterm()
    console = Console(stderr=json_file == "-", width=120)
    dataset = load_or_prepare(data)
    cluster = open_cluster(kafka, patience_s)
    _check(cluster, force)
    store = open_store(redis, MODEL, patience_s)
    with tempfile.TemporaryDirectory(prefix="reco-bench-") as logs, console.status("…") as status:
        plan = Plan(
            kafka=kafka,
            redis=redis,
            settings=settings_from(kafka_settings()),
            folder=data,
            data=dataset,
            logs=Path(logs),
            visits=visits,
            outcomes=outcomes,
            replicas=replicas,
            rates=rates,
            seconds=seconds,
        )
        try:
            results = StreamBench(plan, cluster, store, status.update).run()
        except BenchFailed as error:
            raise click.ClickException(str(error)) from error
    for table in _tables(results):
        console.print(table)
    machine = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
    }
    write_json({"machine": machine, "results": results}, json_file)


def _check(cluster: KafkaCluster, force: bool) -> None:
    if cluster.embedded:
        raise click.UsageError(
            "figures of the embedded broker mean nothing: give --kafka the address of a real one"
        )
    present = cluster.topics()
    for topic in (VISITS, OUTCOMES):
        if topic not in present:
            raise click.UsageError(
                f"there is no topic {topic!r}: make it with `reco topics create`"
            )
        consumer = cluster.consumer(topic)
        held = sum(consumer.watermarks(p).end for p in range(PARTITIONS[topic]))
        consumer.close()
        if held and not force:
            raise click.UsageError(
                f"the topic {topic!r} holds records already, and this would add thousands that "
                f"nobody sent (and topics {' and '.join(SCRATCH)}): use a broker of its own, or "
                "--force"
            )


def _tables(results: Results) -> Iterable[Table]:
    throughput = Table(title="Throughput")
    for heading in (
        "what",
        "replicas",
        "records/s",
        "a core",
        "CPU-s per 100,000",
        "bare loop",
        "",
    ):
        throughput.add_column(heading, justify="right" if heading != "what" else "left")
    for each in results.throughput:
        target = SERVER_PER_CORE_S if each.service == "server" else TRAINER_PER_CORE_S
        met = each.per_core_s >= target
        throughput.add_row(
            f"{each.service} {each.delivery}",
            str(each.replicas),
            f"{each.per_s:,.0f}",
            f"{each.per_core_s:,.0f} {_mark(met) if each.replicas == 1 else ''}",
            f"{each.cpu_s_per_100k:.2f}",
            f"{each.bare_cpu_s_per_100k:.2f}" if each.bare_cpu_s_per_100k else "",
            f"{each.ratio:.0%} {_mark(each.ratio >= OF_BARE_LOOP)}" if each.ratio else "",
        )
    yield throughput
    latency = Table(title="Click → servable")
    for heading in ("delivery", "visits/s", "p50", "p99", "bare batch", "samples"):
        latency.add_column(heading, justify="right" if heading != "delivery" else "left")
    for row in results.latency:
        judged = row.rate == 1_000
        most_ms = 5.0 if row.delivery == AT_LEAST_ONCE else 10.0
        latency.add_row(
            row.delivery,
            f"{row.achieved:,.0f} of {row.rate:,}",
            f"{row.p50_ms:.1f} ms {_mark(row.p50_ms <= most_ms) if judged else ''}",
            f"{row.p99_ms:.1f} ms {_mark(row.p99_ms <= 100.0) if judged else ''}",
            f"{row.bare_ms:.1f} ms",
            f"{row.samples:,}",
        )
    yield latency


def _mark(met: bool) -> str:
    return "✓" if met else "✗"
