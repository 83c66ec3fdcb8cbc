import itertools

import numpy as np
import pytest

from server.learning import POINTS, TRACKED, LearningHistory, present
from server.scorer import Model
from shared.arm_statistics import Floats
from tests.models import trained

D = 3
X1: Floats = np.array([[1.0, 0.5, 0.0]])


def model(outcomes: int, arms: int = 3) -> Model:
    """Arm 1 has been looked at so often, every third time with a click; the others never."""
    X = np.tile(X1, (outcomes, 1))
    rewards = [float(i % 3 == 0) for i in range(outcomes)]
    return trained(list(range(1, arms + 1)), X, [1] * outcomes, rewards)


def looked_at(outcomes: int) -> Model:
    """The same without a click."""
    return trained([1, 2, 3], np.tile(X1, (outcomes, 1)), [1] * outcomes, [0.0] * outcomes)


def test_the_uncertainty_shrinks_as_outcomes_come() -> None:
    history = LearningHistory(model(0), 0.0)
    for outcomes in range(1, 30):
        history.sample(model(outcomes), float(outcomes))
    curve = history.curve(1, X1)
    assert [point.n for point in curve] == list(range(30))
    assert [point.at_s for point in curve] == list(range(30))
    deviations = [point.sd for point in curve]
    assert deviations == sorted(deviations, reverse=True)
    assert deviations[-1] < deviations[0] / 4
    assert curve[-1].mean == pytest.approx(1 / 3, abs=0.05)
    assert curve[-1].clicks == 10


def test_the_uncertainty_shrinks_before_the_first_click_too() -> None:
    history = LearningHistory(looked_at(0), 0.0)
    for outcomes in range(1, 6):
        history.sample(looked_at(outcomes), float(outcomes))
    curve = history.curve(1, X1)
    assert [(point.n, point.clicks, point.mean) for point in curve] == [
        (n, 0, 0.0) for n in range(6)
    ]
    deviations = [point.sd for point in curve]
    assert deviations == sorted(set(deviations), reverse=True)


def test_the_curve_can_be_asked_for_any_context_afterwards() -> None:
    history = LearningHistory(model(10), 0.0)
    [elsewhere] = history.curve(1, np.array([[0.0, 0.0, 1.0]]))
    assert (elsewhere.mean, elsewhere.sd) == (0.0, 1.0)  # nothing was learned of that feature


def test_nothing_is_taken_down_of_an_arm_that_did_not_change() -> None:
    history = LearningHistory(model(0), 0.0)
    for at_s in range(1, 5):
        history.sample(model(at_s), at_s)
    assert len(history.curve(1, X1)) == 5
    assert len(history.curve(2, X1)) == 1


def test_a_long_history_is_thinned_and_still_reaches_back_to_the_start() -> None:
    history = LearningHistory(model(0), 0.0)
    for outcomes in range(1, 3 * POINTS):
        history.sample(model(outcomes), float(outcomes))
    curve = history.curve(1, X1)
    assert len(curve) <= POINTS + 1
    assert (curve[0].n, curve[-1].n) == (0, 3 * POINTS - 1)
    assert max(b.n - a.n for a, b in itertools.pairwise(curve)) <= 8


def test_only_so_many_arms_are_followed() -> None:
    history = LearningHistory(model(1, arms=TRACKED + 1), 0.0)
    assert TRACKED in history
    assert TRACKED + 1 not in history


def test_the_present_point_is_the_model_s_own() -> None:
    now = model(12)
    point = present(now, 0, X1, 7.0)
    assert (point.n, point.clicks, point.at_s) == (12, 4, 7.0)
    assert point.mean == pytest.approx(float(now.solution.theta[0] @ X1[0]))
    history = LearningHistory(now, 7.0)
    [kept] = history.curve(1, X1)
    assert (kept.mean, kept.sd) == pytest.approx((point.mean, point.sd), rel=1e-5)
