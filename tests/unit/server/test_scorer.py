"""Slates are ranked as the policies say, fairly where scores tie, and reproducibly."""

import itertools
import math
from collections import Counter
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.scorer import POLICIES, Model, Policy, rank, score, seeds_of
from server.top import Words
from shared.arm_statistics import ArmStatistics, Floats, Integers
from shared.events import SlateItem
from shared.linucb import deviations, means, solve, untrained

mab: Any = import_module("mabwiser.mab")
stats: Any = import_module("scipy.stats")
D = 5
LEAST_P = 1e-3
"""The seeds are fixed, so a test that passes this once does so always."""


def seeds(count: int, prefix: str = "decision") -> Words:
    return seeds_of([f"{prefix}-{i}" for i in range(count)])


def history(arms: int, count: int) -> tuple[Integers, Floats, Floats]:
    rng = np.random.default_rng(5)
    chosen = rng.permutation(np.arange(count) % arms) + 1
    return chosen, rng.random((count, D)), (rng.random(count) < 0.3).astype(np.float64)


def trained(arms: int, count: int = 400, without: int = 0, lambda_: float = 1.0) -> Model:
    """A model of these arms, the last `without` of them without outcomes."""
    statistics = ArmStatistics(D)
    chosen, X, rewards = history(arms - without, count)
    statistics.add(chosen, X, rewards, np.arange(count))
    model = cold(arms, lambda_)
    at = np.array(statistics.arms) - 1
    model.n[at], model.clicks[at] = statistics.n, statistics.clicks
    solution = solve(statistics.b, statistics.xx, lambda_)
    model.solution.theta[at] = solution.theta
    model.solution.covariance[at] = solution.covariance
    return model._replace(untrained=np.flatnonzero(model.n == 0))


def cold(arms: int, lambda_: float = 1.0) -> Model:
    zeros = np.zeros(arms, np.int64)
    numbers = np.arange(1, arms + 1)
    return Model(numbers, zeros, zeros.copy(), untrained(arms, D, lambda_), numbers - 1)


def products(slates: list[list[SlateItem]]) -> list[tuple[int, ...]]:
    return [tuple(item.product_id for item in slate) for slate in slates]


def contexts(count: int) -> Floats:
    return np.random.default_rng(8).random((count, D))


def test_linucb_scores_by_mean_plus_alpha_deviations() -> None:
    model, X = trained(20), contexts(7)
    found = score(Policy("linucb", alpha=0.7), model, X, seeds(7))
    expected = means(X, model.solution) + 0.7 * deviations(X, model.solution)
    np.testing.assert_allclose(found.mean + found.bonus, expected, rtol=1e-13)
    np.testing.assert_allclose(found.score, expected, rtol=0.0, atol=1e-12)


def test_untrained_arms_have_the_exact_same_score_whatever_lambda() -> None:
    model, X = trained(20, without=8, lambda_=0.3), contexts(9)
    found = score(Policy("linucb", alpha=1.3, lambda_=0.3), model, X, seeds(9)).score[:, 12:]
    assert (found == found[:, :1]).all()
    np.testing.assert_allclose(
        found[:, 0], 1.3 * np.linalg.norm(X, axis=1) / math.sqrt(0.3), rtol=0.0, atol=1e-12
    )


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_cold_start_is_one_tie_however_many_arms_and_visits_there_are(count: int) -> None:
    rng = np.random.default_rng(0)
    for arms in range(1, 130):
        solution = untrained(arms, 15, 0.3)
        model = cold(arms)._replace(solution=solution)
        found = score(Policy(lambda_=0.3), model, rng.random((count, 15)), seeds(count)).score
        assert (found == found[:, :1]).all()


def test_arms_of_the_same_outcomes_tie_wherever_they_stand() -> None:
    X = np.random.default_rng(0).random((80, 15))
    statistics = ArmStatistics(15)
    statistics.add(np.arange(203), np.repeat(X[:1], 203, 0), np.zeros(203), np.arange(203))
    solution = solve(statistics.b, statistics.xx, 1.0)
    alike = Model(np.arange(203), statistics.n, statistics.clicks, solution, np.zeros(0, np.int64))
    found = score(Policy(), alike, X, seeds(80)).score
    assert (found == found[:, :1]).all()


def test_popularity_scores_by_click_rate_and_nothing_seen_is_zero() -> None:
    model = trained(20, without=8)
    found = score(Policy("popularity"), model, contexts(3), seeds(3))
    for row in found.score:
        np.testing.assert_array_equal(row[:12], model.clicks[:12] / model.n[:12])
        assert not row[12:].any()


@pytest.mark.parametrize("name", POLICIES)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_a_visit_is_ranked_the_same_alone_and_in_any_batch(data: st.DataObject, name: str) -> None:
    arms = data.draw(st.integers(1, 40))
    model = trained(arms, without=data.draw(st.integers(0, arms - 1)))
    count = data.draw(st.integers(1, 20))
    policy, X, words = Policy(name, epsilon=0.5), contexts(count), seeds(count)
    together = rank(policy, model, X, words, 5)
    alone = [rank(policy, model, X[i : i + 1], words[i : i + 1], 5)[0] for i in range(count)]
    assert products(together) == products(alone)
    # A product of matrices may round the last bit differently for another batch size.
    for field in ("score", "mean", "bonus"):
        np.testing.assert_allclose(
            [[getattr(item, field) for item in slate] for slate in together],
            [[getattr(item, field) for item in slate] for slate in alone],
            rtol=1e-12,
            atol=1e-12,
        )
    assert [[item.propensity for item in slate] for slate in together] == [
        [item.propensity for item in slate] for slate in alone
    ]


@pytest.mark.parametrize("name", ["linucb", "popularity", "lingreedy", "random"])
def test_a_cold_start_shows_every_slate_equally_often(name: str) -> None:
    policy = Policy(name, epsilon=0.2)
    shown = Counter(products(rank(policy, cold(5), np.ones((6_000, D)), seeds(6_000), 2)))
    assert set(shown) == set(itertools.permutations(range(1, 6), 2))
    assert stats.chisquare(list(shown.values())).pvalue > LEAST_P


@pytest.mark.parametrize("name", POLICIES)
def test_the_same_decision_is_ranked_the_same_again_and_another_differently(name: str) -> None:
    policy, model, X = Policy(name), cold(50), np.ones((1, D))
    first = rank(policy, model, X, seeds_of(["a"]), 5)
    assert rank(policy, model, X, seeds_of(["a"]), 5) == first
    assert products(rank(policy, model, X, seeds_of(["b"]), 5)) != products(first)


def test_what_is_drawn_is_apart_from_how_ties_are_broken() -> None:
    X, words = np.ones((3_000, D)), seeds(3_000)
    drawn = products(rank(Policy("random"), cold(6), X, words, 6))
    broken = products(rank(Policy("linucb"), cold(6), X, words, 6))
    for place in (0, -1):
        same = sum(a[0] == b[place] for a, b in zip(drawn, broken, strict=True))
        assert stats.binomtest(same, 3_000, 1 / 6).pvalue > LEAST_P


def test_fewer_arms_than_ranks_give_a_shorter_slate() -> None:
    [slate] = rank(Policy(), trained(3), contexts(1), seeds(1), 5)
    assert sorted(item.product_id for item in slate) == [1, 2, 3]


def test_the_slate_explains_its_scores() -> None:
    model, X = trained(20), contexts(4)
    policy = Policy("linucb", alpha=0.5)
    found = score(policy, model, X, seeds(4))
    for i, slate in enumerate(rank(policy, model, X, seeds(4), 5)):
        for item in slate:
            arm = item.product_id - 1
            assert item.score == found.score[i, arm]
            assert item.mean == found.mean[i, arm]
            assert item.bonus == found.bonus[i, arm]
            assert item.propensity == 1.0
        assert [item.score for item in slate] == sorted(found.score[i], reverse=True)[:5]


def test_lints_draws_are_normal_with_mean_and_deviation_of_the_solution() -> None:
    model, X, alpha, count = trained(10, without=2), contexts(1), 0.8, 2_000
    found = score(Policy("lints", alpha=alpha), model, np.repeat(X, count, axis=0), seeds(count))
    mean, deviation = means(X, model.solution), alpha * deviations(X, model.solution)
    draws = (found.score - mean) / deviation
    for arm in draws.T:
        assert stats.kstest(arm, "norm").pvalue > LEAST_P
    # One draw an arm, independent of the other arms'.
    correlations = np.asarray(np.corrcoef(draws.T))[np.triu_indices(10, 1)]
    assert np.abs(correlations).max() < 4.5 / math.sqrt(count)


def test_lints_has_mabwisers_mean_and_distribution() -> None:
    arms, count, alpha = 4, 2_000, 0.8
    past, x = history(arms, 400), contexts(1)
    theirs = mab.MAB([1, 2, 3, 4], mab.LearningPolicy.LinTS(alpha=alpha), seed=3)
    theirs.fit(past[0], past[2], past[1])
    model = trained(arms)
    X = np.repeat(x, count, axis=0)
    found = score(Policy("lints", alpha=alpha), model, X, seeds(count))
    sampled = theirs.predict_expectations(X)
    for arm in range(arms):
        beta = theirs._imp.arm_to_model[arm + 1].beta
        assert found.mean[0, arm] == pytest.approx(float(x[0] @ beta), abs=1e-9)
        others = [row[arm + 1] for row in sampled]
        assert stats.ks_2samp(found.score[:, arm], others).pvalue > LEAST_P


def test_lingreedy_explores_in_a_share_epsilon_of_the_decisions() -> None:
    model, count = trained(12, without=1), 5_000
    X = np.repeat(contexts(1), count, axis=0)
    found = score(Policy("lingreedy", epsilon=0.15), model, X, seeds(count))
    explored = int((found.score != found.mean).any(axis=1).sum())
    assert stats.binomtest(explored, count, 0.15).pvalue > LEAST_P


def test_whether_lingreedy_explores_says_nothing_about_what_it_draws() -> None:
    model, count = trained(6), 4_000
    X = np.repeat(contexts(1), count, axis=0)
    found = score(Policy("lingreedy", epsilon=0.3), model, X, seeds(count))
    explores = (found.score != found.mean).any(axis=1)
    assert stats.kstest(found.score[explores].ravel(), "uniform").pvalue > LEAST_P


@pytest.mark.parametrize("epsilon", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("arms", "k"), [(3, 2), (4, 3), (3, 3), (2, 5)])
def test_lingreedys_propensities_are_the_probabilities_of_the_slates(
    arms: int, k: int, epsilon: float
) -> None:
    count = 6_000
    X = np.repeat(contexts(1), count, axis=0)
    slates = rank(Policy("lingreedy", epsilon=epsilon), trained(arms), X, seeds(count), k)
    assert_probable(slates, arms, k, everything=epsilon > 0.0)


def assert_probable(slates: list[list[SlateItem]], arms: int, k: int, everything: bool) -> None:
    """The slates of one context occur as often as their propensities say."""
    probability: dict[tuple[int, ...], float] = {}
    for slate in slates:
        key = tuple(item.product_id for item in slate)
        found = math.prod(item.propensity or 0.0 for item in slate)
        assert probability.setdefault(key, found) == found
    possible = set(itertools.permutations(range(1, arms + 1), min(k, arms)))
    assert set(probability) == possible if everything else len(probability) == 1
    assert sum(probability.values()) == pytest.approx(1.0, abs=1e-12)
    shown = Counter(products(slates))
    expected = [len(slates) * p for p in probability.values()]
    if len(probability) > 1:
        observed = [shown[slate] for slate in probability]
        assert stats.chisquare(observed, expected).pvalue > LEAST_P


def test_randoms_propensities_are_those_of_drawing_without_replacement() -> None:
    [slate] = rank(Policy("random"), cold(10), np.ones((1, D)), seeds(1), 3)
    assert [item.propensity for item in slate] == [1 / 10, 1 / 9, 1 / 8]


def test_lints_claims_no_propensity_unless_it_is_asked_for() -> None:
    [slate] = rank(Policy("lints"), trained(10), contexts(1), seeds(1), 3)
    assert [item.propensity for item in slate] == [None] * 3
    [asked] = rank(Policy("lints", propensities=True), trained(10), contexts(1), seeds(1), 3)
    assert [item.product_id for item in asked] == [item.product_id for item in slate]
    assert all(0.0 < (item.propensity or 0.0) < 1.0 for item in asked)


def test_a_cold_lints_is_as_likely_to_show_one_product_as_any_other() -> None:
    [slate] = rank(Policy("lints", propensities=True), cold(200), contexts(1), seeds(1), 5)
    found = [item.propensity for item in slate]
    assert found == pytest.approx([1 / (200 - i) for i in range(5)], rel=1e-4)


def test_without_uncertainty_lints_is_certain() -> None:
    policy = Policy("lints", alpha=0.0, propensities=True)
    [slate] = rank(policy, trained(10), contexts(1), seeds(1), 3)
    assert [item.propensity for item in slate] == [1.0] * 3


@pytest.mark.parametrize("name", ["linucb", "popularity"])
@pytest.mark.parametrize("epsilon", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("arms", "k"), [(3, 2), (4, 3), (3, 3), (2, 5)])
def test_mixed_propensities_are_the_probabilities_of_the_slates(
    arms: int, k: int, epsilon: float, name: str
) -> None:
    count = 6_000
    X = np.repeat(contexts(1), count, axis=0)
    slates = rank(Policy(name, epsilon=epsilon), trained(arms), X, seeds(count), k)
    assert_probable(slates, arms, k, everything=epsilon > 0.0)


def test_an_epsilon_of_0_changes_no_slate_and_claims_certainty() -> None:
    model, X, words = trained(20), contexts(50), seeds(50)
    plain = rank(Policy("linucb"), model, X, words, 5)
    assert rank(Policy("linucb", epsilon=0.0), model, X, words, 5) == plain
    assert {item.propensity for slate in plain for item in slate} == {1.0}


def test_chance_takes_each_rank_of_linucb_in_a_share_epsilon_of_the_visits() -> None:
    count, arms = 5_000, 50
    X = np.repeat(contexts(1), count, axis=0)
    slates = rank(Policy("linucb", epsilon=0.2), trained(arms), X, seeds(count), 5)
    best = products(rank(Policy("linucb"), trained(arms), X[:1], seeds(1), 5))[0][0]
    kept = sum(slate[0].product_id == best for slate in slates)
    assert stats.binomtest(kept, count, 0.8 + 0.2 / arms).pvalue > LEAST_P


def test_a_decision_is_logged_with_the_parameters_that_its_policy_uses() -> None:
    parameters = {name: Policy(name, alpha=0.3).parameters for name in POLICIES}
    assert parameters["linucb"] == parameters["lints"] == {"alpha": 0.3, "lambda": 1.0}
    assert parameters["lingreedy"] == {"epsilon": 0.1, "lambda": 1.0}
    assert parameters["popularity"] == parameters["random"] == {}
    assert Policy("linucb", 0.3, epsilon=0.05).parameters["epsilon"] == 0.05
    assert "epsilon" not in Policy("lints", epsilon=0.05).parameters


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "oracle"},
        {"alpha": -0.1},
        {"alpha": math.nan},
        {"lambda_": 0.0},
        {"lambda_": 9e-6},
        {"lambda_": math.inf},
        {"epsilon": 1.1},
    ],
)
def test_a_senseless_policy_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"policy|must be"):
        Policy(**wrong)
