"""`reco experiment`: how the policies that serve side by side compare."""

from pathlib import Path

import click
from rich.console import Console

from reco import options
from reco.brokers import open_cluster
from reco.data import load_or_prepare
from reco.experiment_log import compared
from reco.experiment_table import table


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
    when it leaves 0. Its unit is the user, and it says something from 30 users a variant on. A
    visit counts once it would be known whether it was clicked, so over HTTP none of the last
    window does; nor does one of which outcomes may have been deleted. Where no experiment runs,
    policies stand side by side without a verdict.

    The JSON holds experiment, confidence, open_decisions, early_decisions, deleted_decisions and
    variants, a list of variant, parameters, visits, users, clicks, click_rate, uplift_share,
    difference, difference_interval, differs and enough_users.

    Example: reco experiment --control linucb
    """
    dataset = load_or_prepare(data)
    cluster = open_cluster(kafka, patience_s)
    try:
        found = compared(cluster, dataset, seed, experiment, control)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    left_out = found.open_decisions + found.early_decisions + found.deleted_decisions
    if experiment and not (found.variants or left_out):
        raise click.UsageError(f"no decision in the log is of an experiment {experiment!r}")
    options.write_json(found, json_file)
    if json_file != "-":
        for line in table(found):
            Console().print(line, highlight=False)
