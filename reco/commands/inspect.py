"""`reco inspect`: what the model knows of an arm, where a partition stands, and a decision."""

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reco import options
from reco.brokers import open_cluster, outcomes_log
from reco.catalogue_feed import catalogue_with
from reco.commands.inspect_decision import decision_command
from reco.commands.inspect_model import model_command
from reco.data import load_or_prepare
from reco.state import read_states
from reco.stores import no_state, open_store
from reco.terminal import printable
from shared.arm_statistics import ArmStatistics, CorruptRow
from shared.catalogue import Product
from shared.events import OUTCOMES, key_of
from shared.linucb import precision, solve, unpack
from shared.partitioner import partition_of
from shared.ports import Position, State
from shared.settings import LAMBDA, PARTITIONS


@click.group()
def command() -> None:
    """Look at what is stored: one arm, what the arms share, the partitions, or a decision.

    Example: reco inspect arm 192
    """


@command.command("arm")
@click.argument("product_id", type=int)
@options.kafka
@options.redis
@options.model
@options.data
@options.json_output("the arm")
@options.patience
def arm_command(
    product_id: int,
    kafka: str,
    redis: str,
    model: str,
    data: Path,
    json_file: str | None,
    patience_s: float,
) -> None:
    """Show an arm: examinations, clicks, rate, θ by feature, condition number.

    With forgetting, θ and what belongs to it are those at the partition's offset, as servers rank
    by. The broker is asked only about a product that was added (`reco products add`).

    Example: reco inspect arm 192
    """
    dataset = load_or_prepare(data)
    entry = catalogue_with([product_id], dataset, kafka, patience_s).entry(product_id)
    if entry is None:
        raise click.UsageError(
            f"there is no product {product_id}: choose one of {min(dataset.arms)} to "
            f"{max(dataset.arms)}, or one that was added (`reco products list --changed`)"
        )
    store = open_store(redis, model, patience_s)
    partition = partition_of(key_of(product_id), PARTITIONS[OUTCOMES])
    [state] = read_states(store, [partition])
    try:
        report = arm_report(entry.product, partition, state, dataset.encoder.features)
    except CorruptRow as error:
        raise click.ClickException(str(error)) from error
    options.write_json(report, json_file)
    if json_file != "-":
        _print_arm(report)
    if state is None and not any(store.positions(range(PARTITIONS[OUTCOMES]))):
        raise no_state(store, model)


command.add_command(model_command)
command.add_command(decision_command)


@command.command("partitions")
@options.kafka
@options.redis
@options.model
@options.json_output("the partitions")
@options.patience
def partitions_command(
    kafka: str, redis: str, model: str, json_file: str | None, patience_s: float
) -> None:
    """Show each partition: stored offset, end of the log, lag, generation, last writer.

    Example: reco inspect partitions
    """
    _show_partitions(kafka, redis, model, json_file, patience_s, None)


@command.command("partition")
@click.argument("partition", type=click.IntRange(min=0))
@options.kafka
@options.redis
@options.model
@options.json_output("the partition")
@options.patience
def partition_command(
    partition: int, kafka: str, redis: str, model: str, json_file: str | None, patience_s: float
) -> None:
    """Show one partition: stored offset, end of the log, lag, generation, last writer.

    Example: reco inspect partition 3
    """
    _show_partitions(kafka, redis, model, json_file, patience_s, partition)


def _show_partitions(
    kafka: str,
    redis: str,
    model: str,
    json_file: str | None,
    patience_s: float,
    only: int | None,
) -> None:
    cluster = open_cluster(kafka, patience_s)
    store = open_store(redis, model, patience_s)
    count = outcomes_log(cluster).partitions
    if only is not None and only >= count:
        raise click.UsageError(f"there is no partition {only}: {OUTCOMES} has 0 to {count - 1}")
    partitions = list(range(count)) if only is None else [only]
    # Before the ends: the log may grow in between, and never shrinks.
    every = store.positions(range(count))
    consumer = cluster.consumer(OUTCOMES)
    ends = [consumer.watermarks(partition) for partition in partitions]
    consumer.close()
    rows = [
        _partition(partition, every[partition], held.start, held.end)
        for partition, held in zip(partitions, ends, strict=True)
    ]
    options.write_json(rows if only is None else rows[0], json_file)
    if json_file != "-":
        _print_partitions(rows)
    if not any(every):
        raise no_state(store, model)


class ArmReport(msgspec.Struct):
    """What `reco inspect arm` shows."""

    product_id: int
    name: str
    partition: int
    n: int
    clicks: int
    rate: float | None
    last_offset: int | None
    condition_number: float
    """Of λI + Σ x xᵀ, the sums as they count at the partition's offset (as for θ)."""
    theta: dict[str, float]
    theta_deviation: dict[str, float]
    """Square roots of the diagonal of A⁻¹."""


def arm_report(
    product: Product, partition: int, state: State | None, features: Sequence[str]
) -> ArmReport:
    """What the stored row of an arm says at its partition's offset.

    Args:
        product: the arm.
        partition: its own.
        state: what is stored of that partition, if anything.
        features: names of the d numbers of a context.

    Raises:
        CorruptRow: the row can't be read.
    """
    d = len(features)
    n = clicks = 0
    theta, deviation, condition = np.zeros(d), np.full(d, LAMBDA**-0.5), 1.0
    last_offset = None
    if state and product.product_id in state.rows:
        statistics = ArmStatistics(d, state.position.config.gamma)
        statistics.load({product.product_id: state.rows[product.product_id]})
        n, clicks = int(statistics.n[0]), int(statistics.clicks[0])
        last_offset = int(statistics.last_offset[0])
        b, xx = statistics.decayed(state.position.next_offset)
        solution = solve(b, xx, LAMBDA)
        theta = solution.theta[0]
        deviation = np.sqrt(np.diagonal(unpack(solution.covariance, d)[0]))
        condition = float(np.linalg.cond(precision(xx, d, LAMBDA)[0]))
    return ArmReport(
        product.product_id,
        product.name,
        partition,
        n,
        clicks,
        clicks / n if n else None,
        last_offset,
        condition,
        dict(zip(features, theta.tolist(), strict=True)),
        dict(zip(features, deviation.tolist(), strict=True)),
    )


def _print_arm(report: ArmReport) -> None:
    rate = "no rate yet" if report.rate is None else f"rate {report.rate:.3f}"
    click.echo(
        f"{report.product_id} {printable(report.name)} (partition {report.partition}): examined "
        f"{report.n:,} times, {report.clicks:,} clicks, {rate}; condition number of λI + Σxxᵀ "
        f"{report.condition_number:.3g}"
    )
    table = Table("feature", "θ", "± √(A⁻¹)ᵢᵢ", "")
    for name, value in report.theta.items():
        bar = ("+" if value > 0 else "-") * round(min(abs(value), 1.0) * 40)
        table.add_row(name, f"{value:+.3f}", f"{report.theta_deviation[name]:.3f}", bar)
    Console().print(table)


def _print_partitions(rows: list[dict[str, int | str | None]]) -> None:
    table = Table(*rows[0])
    for row in rows:
        cells = ("-" if value is None else printable(str(value)) for value in row.values())
        table.add_row(*map(Text, cells))
    Console().print(table)


def _partition(
    partition: int, position: Position | None, start: int, end: int
) -> dict[str, int | str | None]:
    return {
        "partition": partition,
        "offset": position.next_offset if position else None,
        "log_start": start,
        "log_end": end,
        "lag": end - (position.next_offset if position else start),
        "generation": position.generation if position else None,
        "writer": position.writer if position else None,
    }
