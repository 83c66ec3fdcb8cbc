"""What an arm's stored row says, with and without forgetting."""

import numpy as np
import pytest

from reco.commands.inspect import arm_report
from shared.arm_statistics import ArmStatistics
from shared.catalogue import DataSet
from shared.ports import Position, Source, State

NEXT_OFFSET = 400
"""The partition's other arms have come further than this one."""


@pytest.mark.parametrize("gamma", [1.0, 0.99])
def test_an_arm_is_shown_as_it_counts_at_its_partitions_offset(data: DataSet, gamma: float) -> None:
    product, d = data.products[0], data.encoder.d
    rng = np.random.default_rng(3)
    X, offsets = rng.random((50, d)), np.arange(0, 150, 3)
    rewards = (rng.random(50) < 0.5).astype(float)
    statistics = ArmStatistics(d, gamma)
    statistics.add(np.full(50, product.product_id), X, rewards, offsets)
    position = Position(NEXT_OFFSET, Source("c", "outcomes", 12), 1, "w", data.config_of(gamma))
    state = State(position, statistics.pack(statistics.arms))
    shown = arm_report(product, 3, state, data.encoder.features)
    weights = gamma ** (NEXT_OFFSET - offsets)
    A = np.eye(d) + X.T * weights @ X
    theta = np.linalg.solve(A, X.T @ (weights * rewards))
    np.testing.assert_allclose(list(shown.theta.values()), theta, atol=1e-12)
    deviation = np.sqrt(np.diagonal(np.linalg.inv(A)))
    np.testing.assert_allclose(list(shown.theta_deviation.values()), deviation)
    assert shown.condition_number == pytest.approx(np.linalg.cond(A))
    # These are counts of the log, never forgotten.
    assert (shown.n, shown.clicks, shown.last_offset) == (50, int(rewards.sum()), 147)
