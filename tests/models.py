"""Small trained models for the tests of what explains them."""

import numpy as np

from server.scorer import Model
from shared.arm_statistics import ArmStatistics, Floats
from shared.linucb import solve

LAMBDA = 1.0


def trained(arms: list[int], X: Floats, looked_at: list[int], rewards: list[float]) -> Model:
    """A model of these arms; `looked_at` says which arm outcome i (row i of X) is of."""
    statistics = ArmStatistics(X.shape[1])
    statistics.add(np.array(looked_at), X, np.array(rewards, np.float64), np.arange(len(looked_at)))
    d = X.shape[1]
    n, clicks = np.zeros(len(arms), np.int64), np.zeros(len(arms), np.int64)
    b, xx = np.zeros((len(arms), d)), np.zeros((len(arms), d * (d + 1) // 2))
    for row, arm in enumerate(arms):
        if arm in statistics.index:
            at = statistics.index[arm]
            n[row], clicks[row] = statistics.n[at], statistics.clicks[at]
            b[row], xx[row] = statistics.b[at], statistics.xx[at]
    return Model(np.array(arms, np.int64), n, clicks, solve(b, xx, LAMBDA), np.flatnonzero(n == 0))
