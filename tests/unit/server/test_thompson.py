"""The probabilities of Thompson's slates, against a fine rule, against dice, and where known."""

from importlib import import_module
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.thompson import next_probabilities, propensities
from shared.arm_statistics import Floats, Integers

integrate: Any = import_module("scipy.integrate")
stats: Any = import_module("scipy.stats")


def arms(seed: int, count: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return rng.normal(0.2, 0.3, count), 10.0 ** rng.uniform(-1.7, 0.0, count)


def drawn(mean: Floats, deviation: Floats, seed: int, k: int) -> Integers:
    scores = np.random.default_rng(seed).normal(mean, deviation)
    return np.argsort(-scores)[:k]


def by_fine_rule(mean: Floats, deviation: Floats, slate: Integers) -> Floats:
    """Probabilities of the slate's beginnings by Simpson's rule on 40,001 points."""
    t = np.linspace((mean - 9 * deviation).min(), (mean + 9 * deviation).max(), 40_001)
    above, left, found = np.ones_like(t), set(range(len(mean))), []
    for arm in slate.tolist():
        left.discard(arm)
        f = stats.norm.pdf(t, mean[arm], deviation[arm]) * above
        others = np.prod([stats.norm.cdf(t, mean[j], deviation[j]) for j in left], axis=0)
        found.append(integrate.simpson(f * others, x=t))
        below = integrate.cumulative_simpson(f, x=t, initial=0)
        above = below[-1] - below
    return np.array(found)


@given(seed=st.integers(0, 10_000), count=st.integers(5, 14))
@settings(max_examples=10)
def test_they_agree_with_a_fine_rule(seed: int, count: int) -> None:
    mean, deviation = arms(seed, count)
    slate = drawn(mean, deviation, seed + 1, 5)
    exact = by_fine_rule(mean, deviation, slate)
    tolerance = 1e-6 if exact[-1] > 1e-8 else 1e-4
    found = np.cumprod(propensities(mean, deviation, slate))
    np.testing.assert_allclose(found[exact > 1e-12], exact[exact > 1e-12], rtol=tolerance)
    rows = next_probabilities(mean, deviation, slate)
    other_way = np.cumprod(rows[np.arange(5), slate])
    np.testing.assert_allclose(other_way[exact > 1e-12], exact[exact > 1e-12], rtol=tolerance)


def test_they_agree_with_the_dice() -> None:
    mean, deviation = np.array([0.3, 0.25, 0.1, 0.0]), np.array([0.02, 0.2, 0.3, 0.5])
    count = 200_000
    scores = np.random.default_rng(3).normal(mean, deviation, (count, 4))
    orders = np.argsort(-scores, axis=1)[:, :2]
    for first, second in permutations(range(4), 2):
        slate = np.array([first, second])
        shown = int((orders == slate).all(axis=1).sum())
        p = float(propensities(mean, deviation, slate).prod())
        assert stats.binomtest(shown, count, p).pvalue > 1e-4


@pytest.mark.parametrize("narrow", [1e-3, 1e-6, 1e-8, 1e-9, 1e-12, 0.0])
@pytest.mark.parametrize("wide", [0.5, 500.0, 5e5])
def test_a_score_that_hardly_moves_is_first_as_often_as_all_others_are_below_it(
    narrow: float, wide: float
) -> None:
    mean, deviation = np.array([0.3, 0.1, 0.2, -0.4]), np.array([narrow, wide, wide, wide])
    z = (mean[0] - mean[1:]) / wide
    expected = stats.norm.cdf(z).prod()
    assert propensities(mean, deviation, np.array([0, 1]))[0] == pytest.approx(expected, rel=1e-5)
    first, _ = next_probabilities(mean, deviation, np.array([0, 1]))
    assert first[0] == pytest.approx(expected, rel=1e-5)
    assert first.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_probabilities_of_all_slates_add_up_to_1(k: int) -> None:
    mean, deviation = arms(5, 5)
    total = sum(
        float(propensities(mean, deviation, np.array(slate)).prod())
        for slate in permutations(range(5), k)
    )
    assert total == pytest.approx(1.0, abs=1e-9)


def test_each_rank_shows_something_that_no_rank_above_shows() -> None:
    mean, deviation = arms(6, 30)
    slate = drawn(mean, deviation, 7, 5)
    rows = next_probabilities(mean, deviation, slate)
    np.testing.assert_allclose(rows.sum(axis=1), 1.0, rtol=1e-12)
    for rank, row in enumerate(rows):
        assert not row[slate[:rank]].any()


def test_a_slate_that_can_not_be_has_probability_0() -> None:
    mean, deviation = np.array([0.0, 1.0, 2.0]), np.full(3, 0.01)
    assert propensities(mean, deviation, np.array([0, 1])).tolist() == [0.0, 0.0]


def test_one_arm_is_certain() -> None:
    assert propensities(np.zeros(1), np.ones(1), np.array([0])) == pytest.approx([1.0], abs=1e-9)
