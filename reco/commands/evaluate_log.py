"""`reco evaluate --log decisions`: another policy's click rate, from decisions and clicks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reco import bandit_feedback, options
from reco.brokers import open_cluster, outcomes_log
from reco.catalogue_feed import open_products
from reco.catalogue_history import CatalogueHistory
from reco.data import load_or_prepare
from reco.event_files import (
    UnreadableEvents,
    outcomes_of,
    read_decisions,
    read_outcomes,
    starts_in,
)
from reco.log_evaluation import LogEvaluation, evaluate_log
from reco.logged_rounds import NothingToEvaluate, rounds
from reco.logs import say
from reco.past_models import PastModels
from reco.policy_options import joint_solver
from reco.process import one_blas_thread
from reco.snapshot_files import bases_from
from reco.terminal import printable
from reco.whole_topic import read_topic, starts_of
from server.joint_solver import JointSolver
from server.scorer import Policy
from shared.arm_statistics import Floats
from shared.catalogue import DataSet, feature_table
from shared.events import DECISIONS, OUTCOMES, UNDECODABLE, Decision, decode_decision
from shared.off_policy import Estimate
from shared.ports import ModelConfig, Record, Source, State
from shared.products_feed import ProductsFeed
from shared.settings import LAMBDA, PARTITIONS
from shared.shared_linucb import Hyperparameters
from trainer.apply import Rules

MEANING = {
    "logged": "click rate of the logged slates",
    "replay": "clicks per product looked at that both show; not a slate's rate",
    "ips": "click rate by inverse propensities",
    "snips": "the same, self-normalised",
    "dr": "click rate, doubly robust",
}


class Asked(NamedTuple):
    """What the command line asks for."""

    data: Path
    kafka: str
    patience_s: float
    decisions: Path | None
    outcomes: Path | None
    snapshot: Path | None
    policy: Policy
    hyper: Hyperparameters | None
    gamma: float
    export: Path | None
    json_file: str | None


class _Log(NamedTuple):
    """What Kafka or the files hold."""

    decisions: list[Decision]
    records: dict[int, list[Record]]
    """Of the outcomes, by partition and in offset order."""
    starts: dict[int, int]
    """From where on, by partition."""
    products: ProductsFeed | None = None
    source: Source | None = None


def run(asked: Asked) -> None:
    """Read the log, estimate, and say it."""
    if (asked.decisions is None) != (asked.outcomes is None):
        raise click.UsageError("give both --decisions FILE and --outcomes FILE, or neither")
    one_blas_thread()
    dataset = load_or_prepare(asked.data)
    history = CatalogueHistory(dataset.products)
    found = _log(asked, dataset, history)
    if asked.snapshot is None:
        _check_whole(found.starts, asked.outcomes)
    bases = bases_from(asked.snapshot)
    config = dataset.config_of(asked.gamma)
    _check_fits(bases, config, found.source)
    try:
        log = rounds(
            found.decisions,
            outcomes_of(record for records in found.records.values() for record in records),
            history,
            dataset.encoder.id,
            found.starts,
            {partition: state.position.next_offset for partition, state in bases.items()},
        )
    except NothingToEvaluate as error:
        raise click.UsageError(str(error)) from error
    rules = Rules.of(config, dataset.arms, PARTITIONS[OUTCOMES], newcomers=found.products)
    rules = rules.on(found.source) if found.source else rules

    def solver(arms: Sequence[int]) -> JointSolver | None:
        return joint_solver(asked.policy.name, asked.hyper, dataset, history, arms)

    def models() -> PastModels:
        return PastModels(history.arms, rules, found.records, LAMBDA, bases, solver)

    result = evaluate_log(log, asked.policy, models, frozen=asked.snapshot is not None)
    console = Console(stderr=asked.json_file == "-")
    _print(result, console)
    options.write_json(msgspec.to_builtins(result), asked.json_file)
    if asked.export:
        feedback = bandit_feedback.bandit_feedback(
            log, log.arms, _features(asked, history, log.arms)
        )
        try:
            bandit_feedback.write(asked.export, feedback, dataset.encoder.features)
        except OSError as error:
            raise click.BadParameter(
                f"can't write to {asked.export} ({error.strerror or error}): name another folder",
                param_hint="--export",
            ) from error
        say(f"wrote {int(feedback['n_rounds']):,} rounds to {asked.export}")


def _log(asked: Asked, dataset: DataSet, history: CatalogueHistory) -> _Log:
    if asked.decisions and asked.outcomes:
        try:
            decisions = read_decisions(asked.decisions)
            outcomes = read_outcomes(asked.outcomes, PARTITIONS[OUTCOMES], decisions)
            return _Log(decisions, outcomes, starts_in(outcomes, decisions))
        except UnreadableEvents as error:
            raise click.UsageError(str(error)) from error
    cluster = open_cluster(asked.kafka, asked.patience_s)
    source = outcomes_log(cluster)
    made: list[Decision] = []
    for record in read_topic(cluster, DECISIONS):
        try:
            made.append(decode_decision(record.value or b""))
        except UNDECODABLE:
            say(f"{record.topic}/{record.partition}@{record.offset} is no decision; left out")
    records: dict[int, list[Record]] = {}
    for record in read_topic(cluster, OUTCOMES):
        records.setdefault(record.partition, []).append(record)
    starts = starts_of(cluster, OUTCOMES)  # afterwards, so that no deletion goes unnoticed
    return _Log(made, records, starts, open_products(cluster, dataset, history), source)


def _check_whole(starts: Mapping[int, int], file: Path | None) -> None:
    for partition, start in sorted(starts.items()):
        if start > 0:
            instead = "give all outcomes, or " if file else ""
            raise click.UsageError(
                f"{file or f'the topic {OUTCOMES}'} has no outcomes of partition {partition} "
                f"before offset {start:,}, so the models that the decisions were made with can't "
                f"be rebuilt: {instead}judge with a frozen one from before the decisions "
                "(--snapshot FILE)"
            )


def _check_fits(bases: Mapping[int, State], config: ModelConfig, source: Source | None) -> None:
    for state in bases.values():
        learned_from = state.position.source
        if source and not learned_from.is_same_log(source):
            raise click.UsageError(
                f"the snapshot is of another log ({learned_from.became(source)}), so it can't be "
                "told which decisions it has learned from: give one of this log"
            )
        if state.position.config != config:
            raise click.UsageError(
                f"the snapshot was made with {state.position.config.unlike(config)} as asked for "
                "here: give the --gamma that it was made with, or another snapshot"
            )


def _features(asked: Asked, catalogue: CatalogueHistory, arms: Sequence[int]) -> Floats | None:
    path = asked.data / "product_features.csv"
    if not path.is_file():
        return None
    names, found = feature_table(path)
    for arm, entry in catalogue.entries.items():
        found.setdefault(arm, [entry.features.get(name, 0.0) for name in names])
    return np.array([found[arm] for arm in arms], np.float64)


def _print(result: LogEvaluation, console: Console) -> None:
    parameters = ", ".join(f"{name} {value:g}" for name, value in result.parameters.items())
    logged = ", ".join(f"{count:,} by {policy}" for policy, count in result.logged.items())
    table = Table(
        title=Text(
            f"{result.policy}{f' ({parameters})' if parameters else ''} from "
            f"{result.decisions:,} decisions ({printable(logged)}), model {result.model}",
            "table.title",
        ),
        title_justify="left",
    )
    table.add_column("estimator", no_wrap=True)
    for name in ("click rate", "95 % interval", "from"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for estimate in result.estimates:
        table.add_row(*_cells(estimate))
    console.print(table)
    overlap = result.overlap
    console.print(
        f"mean weight {overlap.mean_weight:.3f} (1 where the log covers the policy), effective "
        f"sample size {overlap.effective_sample_size:,.0f}, largest weight "
        f"{overlap.largest_weight:,.1f}",
        highlight=False,
    )
    for reason, count in result.skipped.items():
        console.print(f"left out: {count:,} decisions with {reason}", highlight=False)
    if result.caution:
        console.print(f"Caution: {result.caution}.", highlight=False)


def _cells(estimate: Estimate) -> list[str]:
    interval = estimate.interval
    return [
        estimate.estimator,
        "–" if estimate.value is None else f"{estimate.value:.4f}",
        "–" if interval is None else f"{interval[0]:.4f}–{interval[1]:.4f}",
        f"{estimate.decisions:,}",
        MEANING[estimate.estimator],
    ]
