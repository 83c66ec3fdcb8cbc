"""`reco experiment`: how the policies that serve side by side compare."""

from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reco import options
from reco.brokers import open_cluster
from reco.data import load_or_prepare
from reco.experiment_log import compared
from reco.experiment_report import ExperimentReport, VariantReport
from reco.terminal import printable


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
    try:
        found = compared(cluster, dataset, seed, experiment, control)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    options.write_json(found, json_file)
    if json_file != "-":
        for line in table(found):
            Console().print(line, highlight=False)


def table(found: ExperimentReport) -> Iterator[Table | Text]:
    """The comparison for people."""
    if not found.variants:
        yield Text("no decision has an outcome yet")
        return
    title = f"experiment {found.experiment}" if found.experiment else "no experiment: by policy"
    shown = Table(title=Text(printable(title), "table.title"), title_justify="left")
    shown.add_column("variant", no_wrap=True)
    for name in ("visits", "clicks", "click rate", "uplift", "difference", "at any time"):
        shown.add_column(name, justify="right", no_wrap=True)
    for variant in found.variants:
        shown.add_row(*map(Text, _cells(variant)))
    yield shown
    control = found.variants[0].variant
    for variant in found.variants[1:]:
        verdict = "differs from" if variant.differs else "can't be told apart from"
        said = f"{variant.variant} {verdict} {control} ({found.confidence:.0%} at any time)"
        yield Text(printable(said))


def _cells(variant: VariantReport) -> list[str]:
    interval = variant.difference_interval
    return [
        printable(variant.variant),
        f"{variant.visits:,}",
        f"{variant.clicks:,}",
        "–" if variant.click_rate is None else f"{variant.click_rate:.3f}",
        "–" if variant.uplift_share is None else f"{variant.uplift_share:.0%}",
        "–" if variant.difference is None else f"{variant.difference:+.3f}",
        "–" if interval is None else f"{interval[0]:+.3f} … {interval[1]:+.3f}",
    ]
