"""What the stored rows say of the model's variances, with and without forgetting."""

import numpy as np
import pytest

from reco.commands.inspect_model import ModelReport, report_of
from shared.arm_statistics import ArmStatistics
from shared.catalogue import DataSet
from shared.live_catalogue import LiveCatalogue
from shared.ports import Position, Source, State

CLICK_RATE = 0.2


def report(data: DataSet, gamma: float, outcomes: int = 10_000) -> ModelReport:
    """Of one partition, in which every product is clicked alike."""
    rng = np.random.default_rng(2)
    X = rng.random((outcomes, data.encoder.d))
    X[:, -2:] = np.eye(2)[rng.integers(0, 2, outcomes)]
    rewards = (rng.random(outcomes) < CLICK_RATE).astype(float)
    statistics = ArmStatistics(data.encoder.d, gamma)
    statistics.add(rng.choice(data.arms[:40], outcomes), X, rewards, np.arange(outcomes))
    source = Source("cluster", "outcomes", 12)
    position = Position(outcomes, source, 1, "test", data.config_of(gamma))
    state = State(position, statistics.pack(statistics.arms))
    return report_of(data, LiveCatalogue(data.products), [state, None])


@pytest.mark.parametrize("gamma", [1.0, 0.9998])
def test_the_noise_is_that_of_the_outcomes_that_are_remembered(data: DataSet, gamma: float) -> None:
    found = report(data, gamma)
    assert found.outcomes == 10_000
    remembered = (gamma ** np.arange(1, 10_001)).sum()
    assert found.remembered == pytest.approx(remembered)
    assert found.estimated
    assert found.sigma2 == pytest.approx(CLICK_RATE * (1.0 - CLICK_RATE), rel=0.06)


def test_few_that_are_remembered_leave_the_defaults(data: DataSet) -> None:
    found = report(data, 0.99)
    assert found.remembered == pytest.approx(99.0)
    assert not found.estimated
    assert found.sigma2 == found.default.sigma2
    assert found.log_likelihood is not None
