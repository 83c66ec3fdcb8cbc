"""The joint solve of all arms (`shared-linucb`), at three sizes of a catalogue."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from threadpoolctl import threadpool_limits

from shared.arm_statistics import ArmStatistics
from shared.evidence import estimate
from shared.features import Roles
from shared.linucb import solve as solve_disjoint
from shared.shared_linucb import Hyperparameters, JointModel
from tests.benchmarks.measure import Result, Work, compared, timed

D: Final = 15
FEATURES: Final = 20
ROLES: Final = Roles(np.repeat([0.0, 1.0], [D - 2, 2]), np.repeat([1.0, 0.0], [D - 5, 5]))
SIZES: Final = (200, 2_000, 20_000)
_CHANGED: Final = 4
"""Arms that an ordinary visit changes, about."""
TARGET_MS: Final = 5.0


def results() -> Iterator[Result]:
    """Measure, with the one thread for matrix products that a server has; a minute."""
    with threadpool_limits(1, user_api="blas"):
        for arms in SIZES:
            yield from _size(arms)


def _size(arms: int) -> Iterator[Result]:
    rng = np.random.default_rng(1237)
    outcomes = 20 * arms
    statistics = ArmStatistics(D)
    rewards = (rng.random(outcomes) < 0.14).astype(float)
    shown = np.arange(outcomes) % arms
    statistics.add(shown, rng.random((outcomes, D)), rewards, np.arange(outcomes))
    Z = rng.normal(0.0, 0.3, (arms, FEATURES))
    joint = JointModel(Z, ROLES, Hyperparameters())
    joint.set_rows(np.arange(arms), statistics.b, statistics.xx)
    joint.solve()
    at = rng.choice(arms, _CHANGED, replace=False)

    def changed() -> None:
        joint.set_rows(at, statistics.b[at], statistics.xx[at])
        joint.solve()

    def anew() -> None:
        joint.set_values(*Hyperparameters().values())
        joint.solve()

    def alone() -> None:
        solve_disjoint(statistics.b, statistics.xx, 1.0)

    name = f"joint solve, {arms:,} arms"
    if arms == SIZES[0]:
        yield timed(f"{name}, {_CHANGED} changed", changed, at_most_us=TARGET_MS * 1e3)
        yield compared(f"{name}, all anew", Work(anew), "each for itself", Work(alone))
        yield timed(
            "τ², ω², σ² from the rows",
            lambda: estimate(joint, statistics.n, statistics.clicks, Hyperparameters()),
        )
        return
    yield timed(f"{name}, {_CHANGED} changed", changed)
    yield compared(f"{name}, all anew", Work(anew), "each for itself", Work(alone))
