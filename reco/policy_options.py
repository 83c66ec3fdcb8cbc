"""Options of the policies, for the commands that run one."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from reco.catalogue_feed import features_of
from server.experiment import BadExperiment, Traffic, parse
from server.joint_solver import JointSolver
from server.scorer import JOINT, Policy
from shared.catalogue import DataSet
from shared.live_catalogue import LiveCatalogue
from shared.shared_linucb import MOST_PRIOR, Hyperparameters

_F = TypeVar("_F", bound=Callable[..., Any])


def _parsed(_: click.Context, __: click.Parameter, value: str) -> Hyperparameters | None:
    if value == "data":
        return None
    if value == "fixed":
        return Hyperparameters()
    try:
        tau2, omega2, sigma2, *ratios = (float(part) for part in value.split(","))
        return Hyperparameters(tau2, omega2, sigma2, *ratios)
    except (ValueError, TypeError) as error:
        raise click.BadParameter(
            "give `fixed`, `data`, or τ², ω² and σ² (and ρ, and ν) as in 0.002,0.015,0.12 or "
            "0.002,0.015,0.12,10,0.25 (not negative, σ² and ν above 0, ω² and τ² (1 + ρ) at most "
            f"{MOST_PRIOR:,.0f} σ²)"
        ) from error


def variances(function: _F) -> _F:
    """`--variances fixed|data|τ²,ω²,σ²[,ρ[,ν]]`: None stands for `data`."""
    return click.option(
        "--variances",
        "hyper",
        default="fixed",
        show_default=True,
        callback=_parsed,
        metavar="fixed|data|τ²,ω²,σ²[,ρ[,ν]]",
        help="Of shared-linucb: how much arms differ beyond their features, how much features "
        "matter, and the noise; `fixed` is what simulations chose, `data` estimates them from the "
        "rows now and then.",
    )(function)


def chosen(policy: str, hyper: Hyperparameters | None) -> tuple[Hyperparameters, bool]:
    """The variances to start with, and whether they are estimated."""
    start = hyper or Hyperparameters()
    if policy == "shared":  # nothing but the features
        return start.with_values(0.0, start.omega2, start.sigma2), False
    return start, hyper is None


def joint_solver(
    policy: str,
    hyper: Hyperparameters | None,
    data: DataSet,
    catalogue: LiveCatalogue,
    arms: Sequence[int] | None = None,
) -> JointSolver | None:
    """What solves the arms together, if the policy is one that does; all that are ranked."""
    if policy not in JOINT:
        return None
    start, estimates = chosen(policy, hyper)
    arms = catalogue.arms if arms is None else arms
    Z = features_of(catalogue, data, arms)
    return JointSolver(arms, Z, data.encoder.roles, start, estimates)


def traffic(
    policy: Policy, policy_named: Callable[[str], Policy], experiment: str | None, name: str
) -> Traffic:
    """Who is served by which policy: all by the one, or each by that of its variant.

    Raises:
        click.BadParameter: the text does not describe an experiment.
    """
    if experiment is None:
        return Traffic.to(policy)
    try:
        return parse(experiment, policy_named, name)
    except BadExperiment as error:
        raise click.BadParameter(str(error), param_hint="--experiment") from error
