"""`reco inspect decision`: what was shown, what came of it, and what the logs give again."""

from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reco import options
from reco.brokers import open_cluster, outcomes_log
from reco.catalogue_feed import open_products
from reco.catalogue_history import CatalogueHistory
from reco.data import load_or_prepare
from reco.decision_report import DecisionReport, Shown, find_decision, find_outcomes, report_of
from reco.recompute import CannotRecompute, recompute
from reco.terminal import printable
from reco.whole_topic import read_topic, starts_of
from shared.catalogue import DataSet
from shared.events import DECISIONS, OUTCOMES, Decision, SlateItem
from shared.kafka import KafkaCluster
from shared.products_feed import ProductsFeed
from trainer.apply import Rules


@click.command("decision")
@click.argument("decision_id")
@options.kafka
@options.data
@options.gamma
@options.json_output("the decision")
@options.patience
def decision_command(
    decision_id: str,
    kafka: str,
    data: Path,
    gamma: float,
    json_file: str | None,
    patience_s: float,
) -> None:
    """Show a decision: the slate and why, what came of it, and whether the logs give it again.

    Reads the topics `decisions` and `outcomes`, and folds the outcomes up to the decision's view.
    --gamma has to be that of the model. The JSON holds decision (as logged), slate, came_of_it and
    recomputed (slate, same and why_not).

    Example: reco inspect decision d-run-0000001
    """
    dataset = load_or_prepare(data)
    cluster = open_cluster(kafka, patience_s)
    decision = find_decision(read_topic(cluster, DECISIONS), decision_id)
    if decision is None:
        raise click.UsageError(
            f"the topic {DECISIONS} holds no decision {decision_id!r}: `reco topics watch "
            f"{DECISIONS} --from-beginning` shows them; one that was made over HTTP comes there "
            "once its window has ended"
        )
    history = CatalogueHistory(dataset.products)
    products = open_products(cluster, dataset, history)
    outcomes = find_outcomes(read_topic(cluster, OUTCOMES), decision_id)
    again = _again(decision, cluster, dataset, products, history, gamma)
    products.close()
    report = report_of(decision, outcomes, history, again, starts_of(cluster, OUTCOMES))
    options.write_json(report, json_file)
    if json_file != "-":
        _print(report)


def _again(
    decision: Decision,
    cluster: KafkaCluster,
    data: DataSet,
    products: ProductsFeed,
    history: CatalogueHistory,
    gamma: float,
) -> Sequence[SlateItem] | str:
    log = outcomes_log(cluster)
    if len(decision.view) != log.partitions:
        return (
            f"its view has {len(decision.view)} partitions, the topic {OUTCOMES} {log.partitions}"
        )
    rules = Rules.of(data.config_of(gamma), data.arms, log.partitions, newcomers=products).on(log)
    consumer = cluster.consumer(OUTCOMES, reset="error")
    try:
        return recompute(decision, consumer, rules, data, history)
    except CannotRecompute as error:
        return str(error)
    finally:
        consumer.close()


def _print(report: DecisionReport) -> None:
    for line in _lines(report.decision):
        click.echo(printable(line))
    table = Table("rank", "product", "score", "mean", "bonus", "propensity", "came of it")
    for shown in report.slate:
        table.add_row(*map(Text, _cells(shown)))
    Console().print(table)
    said = {
        "clicked": "It was clicked.",
        "not clicked": "It was looked at, and not clicked.",
        "unknown": f"Outcomes of it may have been deleted from the topic {OUTCOMES}: whether it "
        "was clicked is not known.",
        "open": f"Nothing of it is in the topic {OUTCOMES}: its click is not known.",
    }
    click.echo(said[report.came_of_it])
    click.echo(printable(_verdict(report)))


def _lines(decision: Decision) -> list[str]:
    parameters = ", ".join(f"{name} {value:g}" for name, value in decision.parameters.items())
    divided = f", {decision.variant} of {decision.experiment}" if decision.experiment else ""
    asked = ""
    if decision.candidates is not None:
        asked = f", of these the {len(decision.candidates)} candidates"
    if decision.exclude:
        asked = f", without the {len(decision.exclude)} that were excluded"
    nobody = decision.via == "http" and decision.user_id == 0
    whom = "nobody in particular" if nobody else f"user {decision.user_id}"
    return [
        f"{decision.decision_id}: {decision.decided_at.isoformat(' ', 'seconds')} for {whom} "
        f"(visit {decision.visit_id}), asked for over {decision.via}",
        f"policy {decision.policy} ({parameters or 'no parameters'}){divided}",
        f"view {sum(decision.view):,} outcomes {decision.view}"
        f"{', stale' if decision.stale else ''}; encoder {decision.encoder_id}",
        f"products {decision.arms_id or '(set not named)'}{asked}",
    ]


def _cells(shown: Shown) -> list[str]:
    came = "–" if shown.reward is None else "clicked" if shown.reward > 0.0 else "looked at"
    return [
        str(shown.rank),
        f"{shown.product_id} {printable(shown.name)}",
        f"{shown.score:.4f}",
        f"{shown.mean:.4f}",
        f"{shown.bonus:.4f}",
        "unknown" if shown.propensity is None else f"{shown.propensity:.4g}",
        came,
    ]


def _verdict(report: DecisionReport) -> str:
    recomputed = report.recomputed
    if recomputed.slate is None:
        return f"It can't be computed again: {recomputed.why_not}"
    if recomputed.same:
        return "✓ Computed again from the logs, the slate is the same."
    return (
        f"✗ Computed again from the logs, the slate is {recomputed.slate}: check --gamma and --data"
    )
