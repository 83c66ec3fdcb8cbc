"""`reco experiment`: how the policies that serve side by side compare."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table

from reco import options
from reco.data import load_or_prepare
from reco.demo import read_topic
from reco.experiment_report import ExperimentReport, Possible, VariantReport, report
from reco.uplift import ExpectedClicks
from reco.wiring import open_cluster
from shared.catalogue import DataSet
from shared.events import (
    DECISIONS,
    OUTCOMES,
    VISITS,
    Decision,
    Visit,
    decode_decision,
    decode_outcome,
    decode_visit,
)
from shared.ground_truth import GroundTruth
from shared.kafka import KafkaCluster

_T = TypeVar("_T")


@click.command()
@options.kafka
@options.data
@options.seed()
@click.option("--experiment", metavar="NAME", help="Which one.  [default: that of the last visit]")
@click.option("--control", metavar="VARIANT", help="Compare with this.  [default: first by name]")
@options.json_output("the comparison")
@options.patience
def command(
    kafka: str,
    data: Path,
    seed: int,
    experiment: str | None,
    control: str | None,
    json_file: str | None,
    patience_s: float,
) -> None:
    """Compare the variants of `reco serve --experiment`: click rates, uplift, and differences.

    The interval of a difference is a confidence sequence: look as often as you like, and stop
    when it leaves 0. The JSON holds experiment, confidence, open_decisions and variants, a list of
    variant, parameters, visits, clicks, click_rate, uplift_share, difference, difference_interval
    and differs.

    Example: reco experiment --control linucb
    """
    dataset = load_or_prepare(data)
    cluster = open_cluster(kafka, patience_s)
    decisions = list(_events(cluster, DECISIONS, decode_decision))
    outcomes = _events(cluster, OUTCOMES, decode_outcome)
    visits = {visit.visit_id: visit for visit in _events(cluster, VISITS, decode_visit)}
    try:
        found = report(
            decisions, outcomes, experiment, control, possible(dataset, seed, decisions, visits)
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    options.write_json(found, json_file)
    if json_file != "-":
        for line in table(found):
            Console().print(line, highlight=False)


def possible(
    dataset: DataSet, seed: int, decisions: list[Decision], visits: dict[str, Visit]
) -> dict[str, Possible]:
    """What the simulated shoppers' hidden model says of each decision's visit."""
    # Of products that were added later the prepared data know nothing: their visits are left out.
    truth = GroundTruth(dataset.products, dataset.encoder, seed)
    column = {product: number for number, product in enumerate(dataset.arms)}
    result = {}
    for decision in decisions:
        visit = visits.get(decision.visit_id)
        slate = [column[i.product_id] for i in decision.slate if i.product_id in column]
        if visit is None or len(slate) < len(decision.slate):
            continue
        clicks = ExpectedClicks(len(slate))
        clicks.add(truth.probabilities, truth.kinds([visit.context]), [slate])
        result[decision.visit_id] = Possible(clicks.shown, clicks.random, clicks.best)
    return result


def table(found: ExperimentReport) -> Iterator[Table | str]:
    """The comparison for people."""
    if not found.variants:
        yield "no decision has an outcome yet"
        return
    title = f"experiment {found.experiment}" if found.experiment else "no experiment: by policy"
    shown = Table(title=title, title_justify="left")
    shown.add_column("variant", no_wrap=True)
    for name in ("visits", "clicks", "click rate", "uplift", "difference", "at any time"):
        shown.add_column(name, justify="right", no_wrap=True)
    for variant in found.variants:
        shown.add_row(*_cells(variant))
    yield shown
    control = found.variants[0].variant
    for variant in found.variants[1:]:
        verdict = "differs from" if variant.differs else "can't be told apart from"
        yield f"{variant.variant} {verdict} {control} ({found.confidence:.0%} at any time)"


def _cells(variant: VariantReport) -> list[str]:
    interval = variant.difference_interval
    return [
        variant.variant,
        f"{variant.visits:,}",
        f"{variant.clicks:,}",
        "–" if variant.click_rate is None else f"{variant.click_rate:.3f}",
        "–" if variant.uplift_share is None else f"{variant.uplift_share:.0%}",
        "–" if variant.difference is None else f"{variant.difference:+.3f}",
        "–" if interval is None else f"{interval[0]:+.3f} … {interval[1]:+.3f}",
    ]


def _events(cluster: KafkaCluster, topic: str, decode: Callable[[bytes], _T]) -> Iterator[_T]:
    for record in read_topic(cluster, topic):
        try:
            yield decode(record.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # no record of ours: the trainer counts it among its dead letters
