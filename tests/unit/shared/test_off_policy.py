"""The estimators are right where the truth is known: by hand, by enumeration, by simulation."""

import itertools
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from server.scorer import Policy
from shared.catalogue import DataSet
from shared.off_policy import (
    Log,
    Prediction,
    clicks_ahead,
    doubly_robust,
    doubly_robust_terms,
    doubt,
    ips,
    ips_terms,
    on_policy,
    overlap,
    predicted_rewards,
    replay,
    snips,
    wilson_interval,
)
from tests.simulated_learner import Greedy
from tests.simulated_logs import SimulatedLogs

stats: Any = import_module("scipy.stats")

LOGS = 500


def by_hand() -> Log:
    """Two decisions of two ranks: no click; a click at rank 2."""
    return Log(
        propensity=np.array([[0.5, 0.5], [0.5, 0.25]]),
        target=np.array([[1.0, 0.0], [0.25, 0.5]]),
        reward=np.array([[0.0, 0.0], [0.0, 1.0]]),
    )


def test_ips_weights_a_reward_by_the_products_down_to_it() -> None:
    # weights: 2, then 0; ½, then ½ · 2 = 1
    assert ips(by_hand()).value == pytest.approx((0.0 + 1.0) / 2)


def test_snips_divides_each_rank_by_its_mean_weight() -> None:
    assert snips(by_hand()).value == pytest.approx((1.0 / 2) / ((0.0 + 1.0) / 2))


def test_a_policy_evaluated_on_its_own_log_gets_its_own_click_rate() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.1, 1.0, (50, 3))
    reward = np.zeros((50, 3))
    reward[np.arange(20), rng.integers(0, 3, 20)] = 1.0
    log = Log(p, p, reward)
    own = on_policy(reward)
    assert own.value == pytest.approx(0.4)
    assert own.interval == wilson_interval(20, 50, 0.95)
    half_width = 1.96 * (0.24 / 49) ** 0.5
    for estimate in (ips(log), snips(log)):
        assert estimate.value == pytest.approx(own.value)
        assert estimate.interval == pytest.approx((0.4 - half_width, 0.4 + half_width), abs=1e-4)
    assert overlap(log).mean_weight == pytest.approx(1.0)
    assert overlap(log).effective_sample_size == pytest.approx(50)


@pytest.mark.parametrize("clicked", [0.0, 1.0])
def test_rewards_that_are_all_alike_are_no_certainty(clicked: float) -> None:
    reward = np.array([[clicked, 0.0]] * 200)
    half = np.full((200, 2), 0.5)
    log = Log(half, half, reward)
    own = on_policy(reward)
    assert own.interval == wilson_interval(int(200 * clicked), 200, 0.95)
    said = doubt(overlap(log), [own, ips(log), snips(log)])
    assert said
    assert "the interval of ips and of snips has no width" in said
    reward[0, 0] = 1.0 - clicked
    assert doubt(overlap(log), [ips(log), snips(log)]) is None


def test_where_rewards_are_no_clicks_the_logged_rate_has_the_interval_of_their_mean() -> None:
    own = on_policy(np.array([[0.25, 0.5], [0.5, 0.0], [0.0, 0.5]]))
    assert own.value == pytest.approx(7 / 12)
    assert own.interval == pytest.approx((7 / 12 - 0.1633, 7 / 12 + 0.1633), abs=1e-4)


@pytest.mark.parametrize("guess", [0.0, 0.3, 0.9])
def test_the_doubly_robust_estimate_is_unbiased_whatever_is_predicted(guess: float) -> None:
    """All slates of 2 from 3 products and all reactions, weighted by their exact probability."""
    click = np.array([0.2, 0.5, 0.7])
    logged, wanted = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])

    def next_of(weights: np.ndarray[Any, Any], above: tuple[int, ...]) -> np.ndarray[Any, Any]:
        rest = weights.copy()
        rest[list(above)] = 0.0
        return np.asarray(rest / rest.sum())

    q = np.array([guess, 1.0 - guess, guess / 2])
    truth, expected = 0.0, 0.0
    for slate in itertools.permutations(range(3), 2):
        p = [next_of(logged, slate[:rank])[slate[rank]] for rank in range(2)]
        t = [next_of(wanted, slate[:rank])[slate[rank]] for rank in range(2)]
        prediction = Prediction(
            shown=q[None, list(slate)],
            expected=np.array([[next_of(wanted, slate[:rank]) @ q for rank in range(2)]]),
            ahead=np.array([[0.9, guess, 0.0]]),
        )
        truth += np.prod(t) * (1.0 - np.prod(1.0 - click[list(slate)]))
        first, second = click[list(slate)]
        for reward, chance in (
            ([1.0, 0.0], first),
            ([0.0, 1.0], (1.0 - first) * second),
            ([0.0, 0.0], (1.0 - first) * (1.0 - second)),
        ):
            log = Log(np.array([p]), np.array([t]), np.array([reward]))
            expected += np.prod(p) * chance * doubly_robust_terms(log, prediction).mean()
    assert expected == pytest.approx(truth, abs=1e-12)


def test_a_perfect_prediction_leaves_the_doubly_robust_estimate_no_weights_to_vary_by() -> None:
    sure = Prediction(np.zeros((4, 2)), np.zeros((4, 2)), np.zeros((4, 3)))
    log = Log(np.full((4, 2), 0.01), np.ones((4, 2)), np.zeros((4, 2)))
    found = doubly_robust(log, sure)
    assert found.value == 0.0
    assert found.interval == (0.0, 0.0)


def test_clicks_ahead_are_one_minus_what_nobody_clicks() -> None:
    found = clicks_ahead(np.array([[0.5, 0.2]]))
    assert found.tolist() == [[pytest.approx(0.6), pytest.approx(0.2), 0.0]]


def test_a_log_that_never_shows_what_the_policy_would_is_found_out() -> None:
    log = Log(np.ones((100, 1)), np.zeros((100, 1)), np.ones((100, 1)))
    found = overlap(log)
    assert (found.mean_weight, found.effective_sample_size) == (0.0, 0.0)
    assert not found.covered
    assert snips(log).value is None
    half = np.repeat([[1.0], [0.0]], 50, axis=0)
    assert not overlap(Log(np.ones((100, 1)), half, half)).covered


def test_replay_counts_the_products_that_were_looked_at_and_that_both_show() -> None:
    matched = np.array([[True, False, True], [True, True, True]])
    examined = np.array([[True, True, True], [True, False, False]])
    reward = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    found = replay(matched, reward, examined)
    assert found.value == pytest.approx(2 / 3)
    assert found.decisions == 3
    assert found.interval == wilson_interval(2, 3, 0.95)
    assert replay(matched & False, reward, examined).value is None


def test_both_are_unbiased_on_the_log_of_a_policy_that_learns() -> None:
    """All logs of four visits, weighted by their exact probability."""
    policy = Greedy((0.3, 0.6), epsilon=0.2)
    expected = np.zeros(2)
    for shown in itertools.product((0, 1), repeat=4):
        for rewards in itertools.product((0.0, 1.0), repeat=4):
            log, prediction = policy.asked(np.array(shown), np.array(rewards))
            rate = np.array(policy.rates)[[*shown]]
            reaction = np.where(np.array(rewards) > 0.0, rate, 1.0 - rate)
            terms = ips_terms(log), doubly_robust_terms(log, prediction)
            means = np.array([each.mean() for each in terms])
            expected += log.propensity.prod() * reaction.prod() * means
    assert expected == pytest.approx([0.6, 0.6], abs=1e-12)


def test_what_is_no_click_rate_is_moved_to_the_nearest_and_stays_in_its_interval() -> None:
    often = Log(np.full((3, 1), 0.5), np.ones((3, 1)), np.ones((3, 1)))
    found = ips(often)
    assert ips_terms(often).mean() == 2.0
    assert (found.value, found.interval) == (1.0, (1.0, 1.0))
    sure = Prediction(np.ones((3, 1)), np.full((3, 1), 0.2), np.zeros((3, 2)))
    found = doubly_robust(often._replace(reward=np.zeros((3, 1))), sure)
    assert (found.value, found.interval) == (0.0, (0.0, 0.0))


def test_predictions_come_from_what_was_decided_before() -> None:
    rng = np.random.default_rng(0)
    X, slates = rng.random((40, 2)), rng.integers(0, 3, (40, 2))
    reward, examined = (rng.random((40, 2)) < 0.4).astype(np.float64), rng.random((40, 2)) < 0.8
    q = predicted_rewards(slates, X, reward, examined, 3)
    assert (q[0] == 0.0).all()
    assert len(np.unique(q[1:], axis=0)) == 39
    for changed in range(40):
        other = reward.copy()
        other[changed] = 1.0 - other[changed]
        again = predicted_rewards(slates, X, other, examined, 3)
        assert (again[: changed + 1] == q[: changed + 1]).all()
    backwards = np.arange(40)[::-1].astype(np.float64)
    mirrored = predicted_rewards(slates[::-1], X[::-1], reward[::-1], examined[::-1], 3, backwards)
    assert (mirrored[::-1] == q).all()


def test_predictions_find_which_arm_is_clicked() -> None:
    slates = np.arange(400)[:, None] % 2
    reward = (slates == 1).astype(np.float64)
    q = predicted_rewards(slates, np.ones((400, 1)), reward, reward >= 0.0, 3)
    assert q[-1] == pytest.approx([0.0, 1.0, 0.5], abs=0.01)


@pytest.mark.timeout(400)
def test_over_500_logs_the_intervals_cover_the_truth(data: DataSet) -> None:
    logs = SimulatedLogs(data, 25)
    logging, target = Policy("linucb", 0.2, epsilon=0.3), Policy("linucb", 0.2)
    truth = logs.truth(target)
    covered = {"ips": 0, "snips": 0, "dr": 0}
    with threadpool_limits(1):  # threads would only wait for each other
        for seed in range(LOGS):
            estimates, _ = logs.estimates(logging, target, 200, seed)
            for estimate in estimates:
                low, high = estimate.interval or (1.0, 0.0)
                covered[estimate.estimator] += low <= truth <= high
    shares = {name: count / LOGS for name, count in covered.items()}
    assert all(0.93 <= share <= 0.97 for share in shares.values()), shares
