"""`reco inspect model`: what the arms share, and the variances that the rows speak for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from reco import options
from reco.catalogue_feed import catalogue_with, features_of
from reco.data import load_or_prepare
from reco.state import read_states
from reco.stores import no_state, open_store
from shared.arm_statistics import ArmStatistics, CorruptRow, Floats, Integers
from shared.catalogue import DataSet
from shared.events import OUTCOMES
from shared.evidence import LEAST_OUTCOMES, counted, estimate, evidence
from shared.live_catalogue import LiveCatalogue
from shared.ports import State
from shared.settings import PARTITIONS
from shared.shared_linucb import Hyperparameters, JointModel

STRONGEST: Final = 10


class Weight(msgspec.Struct):
    """How much a feature of the product matters more where a feature of the context holds."""

    context: str
    product: str
    weight: float


class ModelReport(msgspec.Struct):
    """What `reco inspect model` shows."""

    outcomes: int
    clicks: int
    remembered: float
    """As how many outcomes the sums count: with γ < 1 fewer than there were."""
    arms: int
    """In the catalogue."""
    trained: int
    """Of these, with outcomes."""
    tau2: float
    omega2: float
    sigma2: float
    rho: float
    nu: float
    default: Hyperparameters
    estimated: bool
    """False: too few outcomes are remembered, and the defaults stand."""
    log_likelihood: float | None
    """Evidence of the rows at these variances; None without outcomes."""
    strongest: list[Weight]
    """Entries of D W, by size."""


@click.command("model")
@options.kafka
@options.redis
@options.model
@options.data
@options.json_output("the model")
@options.patience
def model_command(
    kafka: str, redis: str, model: str, data: Path, json_file: str | None, patience_s: float
) -> None:
    """Show what the arms share: τ², ω², σ² from the rows, and the strongest weights.

    The broker is asked only where there are rows of products that were added (`reco products add`).

    Example: reco inspect model
    """
    dataset = load_or_prepare(data)
    store = open_store(redis, model, patience_s)
    states = read_states(store, range(PARTITIONS[OUTCOMES]))
    learned = {arm for state in states if state for arm in state.rows}
    catalogue = catalogue_with(learned, dataset, kafka, patience_s)
    try:
        report = report_of(dataset, catalogue, states)
    except CorruptRow as error:
        raise click.ClickException(str(error)) from error
    options.write_json(report, json_file)
    if not any(states):
        raise no_state(store, model)
    if json_file != "-":
        _print(report)


def report_of(
    data: DataSet, catalogue: LiveCatalogue, states: Sequence[State | None]
) -> ModelReport:
    """Solve the stored rows together.

    Raises:
        CorruptRow: a stored row can't be read.
    """
    joint, n, clicks = _joint(data, catalogue, states)
    default, known = joint.hyper, counted(joint)
    found = estimate(joint, *known, default)
    joint.set_values(*found.values())
    remembered, squares = float(known.outcomes.sum()), float(known.squares.sum())
    return ModelReport(
        int(n.sum()),
        int(clicks.sum()),
        remembered,
        len(n),
        len(joint.trained),
        *found.values(),
        found.rho,
        found.nu,
        default,
        remembered >= LEAST_OUTCOMES,
        evidence(joint, remembered, squares).log_likelihood if remembered else None,
        _strongest(joint.D[:, None] * joint.solve().W, data),
    )


def _joint(
    data: DataSet, catalogue: LiveCatalogue, states: Sequence[State | None]
) -> tuple[JointModel, Integers, Integers]:
    arms = [product.product_id for product in catalogue.products]
    row = {arm: i for i, arm in enumerate(arms)}
    n, clicks = np.zeros(len(row), np.int64), np.zeros(len(row), np.int64)
    joint = JointModel(features_of(catalogue, data, arms), data.encoder.roles, Hyperparameters())
    for state in states:
        if state is None:
            continue
        statistics = ArmStatistics(data.encoder.d, state.position.config.gamma)
        statistics.load({arm: packed for arm, packed in state.rows.items() if arm in row})
        at = np.array([row[arm] for arm in statistics.arms], np.int64)
        joint.set_rows(at, *statistics.decayed(state.position.next_offset))
        n[at], clicks[at] = statistics.n, statistics.clicks
    return joint, n, clicks


def _strongest(W: Floats, data: DataSet) -> list[Weight]:
    order = np.argsort(-np.abs(W), axis=None, kind="stable")[:STRONGEST]
    context, product = np.unravel_index(order, W.shape)
    return [
        Weight(data.encoder.features[i], data.feature_names[k], float(W[i, k]))
        for i, k in zip(context.tolist(), product.tolist(), strict=True)
        if W[i, k]
    ]


def _print(report: ModelReport) -> None:
    forgetting = report.remembered < report.outcomes
    left = f"; with forgetting they count as {report.remembered:,.0f}" if forgetting else ""
    click.echo(
        f"{report.outcomes:,} outcomes, {report.clicks:,} clicks; {report.trained} of "
        f"{report.arms} arms have some{left}"
    )
    origin = "from the rows" if report.estimated else "defaults: too few outcomes to tell"
    click.echo(
        f"τ² {report.tau2:.4g}, ω² {report.omega2:.4g}, σ² {report.sigma2:.4g} ({origin}); "
        f"± {(report.rho * report.tau2) ** 0.5:.3f} an arm for itself, in every context alike "
        f"(ρ {report.rho:.4g}), ± {report.tau2**0.5:.3f} by feature of the context; "
        f"± {report.omega2**0.5:.3f} for what features explain; by who visits, not when, "
        f"{report.nu:.4g} of these variances (ν)"
    )
    table = Table("where", "this kind of product", "weight")
    for entry in report.strongest:
        table.add_row(entry.context, entry.product, f"{entry.weight:+.3f}")
    Console().print(table)
