"""Agreement with MABWiser's LinUCB at 1e-9, and what must hold of every solution."""

import itertools
from fractions import Fraction
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.scorer import Model, Policy, rank, seeds_of
from shared.arm_statistics import ArmStatistics, Floats, Integers, packed_length
from shared.linucb import (
    LEAST_LAMBDA,
    Solution,
    deviations,
    means,
    packed_products,
    precision,
    solve,
    unpack,
    untrained,
)

mab: Any = import_module("mabwiser.mab")  # its annotations don't hold, so none are used
D = 15
ARMS = np.arange(1, 201)
TOLERANCE = 1e-9


class History(NamedTuple):
    arms: Integers
    X: Floats
    rewards: Floats

    def part(self, start: int, end: int) -> "History":
        return History(self.arms[start:end], self.X[start:end], self.rewards[start:end])


def contexts(rng: np.random.Generator, count: int) -> Floats:
    """As the encoder makes them: three numbers in [0, 1], then one-hot groups (collinear)."""
    groups = [np.eye(size)[rng.integers(0, size, count)] for size in (2, 5, 4, 2)]
    groups[2] = groups[2][:, 1:]  # at night it is neither morning, afternoon nor evening
    return np.hstack([rng.random((count, 3)), *groups])


@cache
def history(count: int = 10_000, arms: int = 200) -> History:
    rng = np.random.default_rng(1237)
    X = contexts(rng, count)
    chosen = rng.integers(1, arms + 1, count)
    weights = rng.normal(0.0, 1.0, (arms + 1, D))
    logits = np.einsum("ij,ij->i", X - 0.5, weights[chosen]) - 2.0
    rewards = (rng.random(count) < 1.0 / (1.0 + np.exp(-logits))).astype(np.float64)
    return History(chosen, X, rewards)


def summed(past: History) -> ArmStatistics:
    statistics = ArmStatistics(D)
    statistics.add(*past, np.arange(len(past.arms)))
    return statistics


def solution_of(statistics: ArmStatistics, arms: Integers, lambda_: float) -> Solution:
    """Solution of the arms in the order asked for; those without outcomes are untrained."""
    solution = untrained(len(arms), D, lambda_)
    fresh = solve(statistics.b, statistics.xx, lambda_)
    for i, arm in enumerate(arms.tolist()):
        if arm in statistics.index:
            solution.theta[i] = fresh.theta[statistics.index[arm]]
            solution.covariance[i] = fresh.covariance[statistics.index[arm]]
    return solution


def mabwiser(past: History, alpha: float = 1.0, lambda_: float = 1.0) -> Any:
    policy = mab.LearningPolicy.LinUCB(alpha=alpha, l2_lambda=lambda_)
    model = mab.MAB(ARMS.tolist(), policy, seed=1)
    model.fit(past.arms, past.rewards, past.X)
    return model


def expectations(model: Any, X: Floats) -> Floats:
    """MABWiser's expectation of every context and arm, N × K."""
    answer = model.predict_expectations(X)
    rows = answer if isinstance(answer, list) else [answer]
    return np.array([[row[arm] for arm in ARMS.tolist()] for row in rows])


@pytest.mark.parametrize("lambda_", [1.0, 0.3, 10.0])
def test_A_b_and_theta_of_every_arm_are_those_of_mabwiser(lambda_: float) -> None:
    statistics = summed(history())
    assert sorted(statistics.arms) == ARMS.tolist()  # all are trained, so λ may differ from 1
    A = precision(statistics.xx, D, lambda_)
    solution = solve(statistics.b, statistics.xx, lambda_)
    models = mabwiser(history(), lambda_=lambda_)._imp.arm_to_model
    for arm, row in statistics.index.items():
        theirs = models[arm]
        np.testing.assert_allclose(A[row], theirs.A, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(statistics.b[row], theirs.Xty, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(solution.theta[row], theirs.beta, rtol=0, atol=TOLERANCE)
        [inverse] = unpack(solution.covariance[row : row + 1], D)
        np.testing.assert_allclose(inverse, theirs.A_inv, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.3, 1.0, 2.5])
def test_every_expectation_is_that_of_mabwiser(alpha: float) -> None:
    solution = solution_of(summed(history()), ARMS, 1.0)
    X = contexts(np.random.default_rng(2), 500)
    ours = means(X, solution) + alpha * deviations(X, solution)
    np.testing.assert_allclose(
        ours, expectations(mabwiser(history(), alpha), X), rtol=0, atol=TOLERANCE
    )


def test_arms_without_outcomes_agree_with_mabwiser_at_lambda_1() -> None:
    past = history(count=300)
    statistics = summed(past)
    assert 0 < len(statistics) < len(ARMS)
    solution = solution_of(statistics, ARMS, 1.0)
    X = contexts(np.random.default_rng(3), 50)
    ours = means(X, solution) + deviations(X, solution)
    np.testing.assert_allclose(ours, expectations(mabwiser(past), X), rtol=0, atol=TOLERANCE)


def test_the_top_5_of_all_10000_history_contexts_are_those_of_mabwiser() -> None:
    X = history().X
    theirs = expectations(mabwiser(history(), alpha=0.3), X)
    model = Model(
        ARMS,
        np.ones(len(ARMS), np.int64),
        np.zeros(len(ARMS), np.int64),
        solution_of(summed(history()), ARMS, 1.0),
        np.zeros(0, np.int64),
    )
    seeds = seeds_of([str(i) for i in range(len(X))])
    slates = rank(Policy("linucb", alpha=0.3), model, X, seeds, 5)
    ours = [[item.product_id for item in slate] for slate in slates]
    assert ours == ARMS[np.argsort(-theirs, axis=1)[:, :5]].tolist()


def test_one_event_at_a_time_agrees_with_mabwisers_partial_fit() -> None:
    first, X = history().part(0, 1_000), history().X
    model, statistics = mabwiser(first), summed(first)
    for i in range(1_000, 1_100):
        event = history().part(i, i + 1)
        model.partial_fit(event.arms, event.rewards, event.X)
        statistics.add(*event, np.array([i]))
        if i % 20 == 0:
            solution = solution_of(statistics, ARMS, 1.0)
            ours = means(X[i : i + 5], solution) + deviations(X[i : i + 5], solution)
            theirs = expectations(model, X[i : i + 5])
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)


def test_an_untrained_arm_scores_its_context_length_over_root_lambda() -> None:
    X = np.random.default_rng(4).random((20, D))
    solution = untrained(3, D, lambda_=0.25)
    assert not means(X, solution).any()
    expected = np.linalg.norm(X, axis=1) / 0.5
    np.testing.assert_allclose(
        deviations(X, solution), np.repeat(expected[:, None], 3, axis=1), rtol=1e-14
    )


def test_the_untrained_solution_is_that_of_empty_sums() -> None:
    empty = solve(np.zeros((2, D)), np.zeros((2, packed_length(D))), 0.7)
    for ours, expected in zip(untrained(2, D, 0.7), empty, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-15, atol=0)


@given(seed=st.integers(0, 10_000), d=st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_the_packed_quadratic_form_is_the_full_one(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    X, packed = rng.normal(size=(4, d)), rng.normal(size=(3, packed_length(d)))
    full = unpack(packed, d)
    assert np.array_equal(full, full.transpose(0, 2, 1))
    expected = np.einsum("ni,kij,nj->nk", X, full, X)
    np.testing.assert_allclose(packed_products(X) @ packed.T, expected, rtol=1e-10, atol=1e-10)


@given(
    directions=st.integers(1, 3),
    copies=st.integers(1, 10),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=100, deadline=None)
def test_no_deviation_is_negative_or_undefined(
    directions: int, copies: int, scale: float, seed: int
) -> None:
    # The same few contexts again and again: the variance along them goes towards 0.
    X = np.repeat(np.random.default_rng(seed).random((directions, D)) * scale, copies, axis=0)
    statistics = ArmStatistics(D)
    count = len(X)
    statistics.add(np.ones(count, np.int64), X, np.ones(count), np.arange(count))
    solution = solve(statistics.b, statistics.xx, 1e-3)
    found = deviations(np.vstack([X, np.zeros((1, D))]), solution)
    assert np.isfinite(found).all()
    assert (found >= 0.0).all()
    assert found[-1, 0] == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_a_variance_that_rounds_to_below_zero_is_none(seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=D)
    x /= np.linalg.norm(x)
    nothing_along_x = np.eye(D) - np.outer(x, x)
    packed = nothing_along_x[np.triu_indices(D)][None, :]
    [[found]] = deviations(x[None, :], Solution(np.zeros((1, D)), packed))
    assert 0.0 <= found < 1e-7


def test_the_solution_is_right_to_10_digits_where_the_sums_are_ill_conditioned() -> None:
    rng = np.random.default_rng(6)
    d = 4
    X = rng.random((400, 1)) + 1e-3 * rng.random((400, d))  # nearly one direction only
    rewards = (rng.random(400) < 0.3).astype(np.float64)
    statistics = ArmStatistics(d)
    statistics.add(np.ones(400, np.int64), X, rewards, np.arange(400))
    A = precision(statistics.xx, d, 1e-3)[0]
    assert np.linalg.cond(A) > 1e5
    found = solve(statistics.b, statistics.xx, 1e-3)
    theta, inverse = solved_exactly(A, statistics.b[0])
    np.testing.assert_allclose(found.theta[0], theta, rtol=1e-10)
    np.testing.assert_allclose(unpack(found.covariance, d)[0], inverse, rtol=1e-10)


def test_with_the_least_ridge_there_is_a_hundred_million_outcomes_are_solved() -> None:
    rng = np.random.default_rng(8)
    X, theta = contexts(rng, 10_000), rng.normal(0.0, 0.05, D)
    statistics = ArmStatistics(D)
    statistics.add(np.ones(len(X), np.int64), X, X @ theta, np.arange(len(X)))
    found = solve(1e4 * statistics.b, 1e4 * statistics.xx, LEAST_LAMBDA)
    np.testing.assert_allclose(means(X, found)[:, 0], X @ theta, atol=1e-3)


def solved_exactly(A: Floats, b: Floats) -> tuple[Floats, Floats]:
    """A⁻¹ b and A⁻¹ by Gauss-Jordan elimination in rational numbers."""
    d = len(A)
    table = np.vectorize(Fraction, otypes=[object])(np.hstack([A, np.eye(d), b[:, None]]))
    for i in range(d):
        table[i] /= table[i, i]
        for j in itertools.chain(range(i), range(i + 1, d)):
            table[j] -= table[j, i] * table[i]
    return table[:, -1].astype(np.float64), table[:, d:-1].astype(np.float64)


def test_what_no_sum_of_outcomes_can_be_is_refused() -> None:
    indefinite = np.array([[-5.0, 0.0, 1.0]])
    with pytest.raises(np.linalg.LinAlgError):
        solve(np.zeros((1, 2)), indefinite, 1.0)
