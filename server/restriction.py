"""The part of a model that a request asks about. Pure."""

from collections.abc import Sequence

import numpy as np

from server.scorer import Model
from shared.arm_statistics import Integers
from shared.linucb import Solution


def allowed(
    arms: Integers, candidates: Sequence[int] | None, exclude: Sequence[int] | None
) -> Integers | None:
    """Which of the arms may be shown, as indices; None for all of them.

    Args:
        arms: product_ids, K.
        candidates: only these.
        exclude: all but these.
    """
    if candidates is not None:
        return np.flatnonzero(np.isin(arms, candidates))
    if exclude:
        return np.flatnonzero(~np.isin(arms, exclude))
    return None


def part(model: Model, rows: Integers | None) -> Model:
    """The model of the arms with these indices alone; None for all of them."""
    if rows is None:
        return model
    solution = model.solution
    return Model(
        model.arms[rows],
        model.n[rows],
        model.clicks[rows],
        Solution(solution.theta[rows], solution.covariance[rows]),
        np.flatnonzero(np.isin(rows, model.untrained)),
        model.kin and model.kin.only(rows),
    )
