import numpy as np
import pytest

from reco.uplift import ExpectedClicks
from shared.ground_truth import best_click_probability, random_click_probability


def test_the_sums_are_those_of_the_visits_one_by_one() -> None:
    generator = np.random.default_rng(3)
    of_kinds, kinds = generator.random((4, 20)), generator.integers(0, 4, 50)
    P = of_kinds[kinds]
    slates = [generator.permutation(20)[: 3 if i < 30 else 5] for i in range(50)]
    expected = ExpectedClicks(5)
    expected.add(of_kinds, kinds[:30], np.array(slates[:30]))
    expected.add(of_kinds, kinds[30:], np.array(slates[30:]))
    assert expected.random == pytest.approx(random_click_probability(P, 5).sum())
    assert expected.best == pytest.approx(best_click_probability(P, 5).sum())
    shown = sum(1 - np.prod(1 - row[slate]) for row, slate in zip(P, slates, strict=True))
    assert expected.shown == pytest.approx(shown)


def test_the_best_slate_is_worth_the_best() -> None:
    P = np.linspace(0.0, 0.9, 10)[np.newaxis]
    expected = ExpectedClicks(3)
    expected.add(P, np.array([0]), np.array([[9, 8, 7]]))
    assert expected.shown == pytest.approx(expected.best)
    assert expected.random < expected.best


def test_what_is_possible_follows_the_probabilities() -> None:
    before, after = np.full((2, 10), 0.1), np.full((2, 10), 0.3)
    expected = ExpectedClicks(2)
    for P in (before, after, before):
        expected.add(P, np.array([1]), np.array([[0, 1]]))
    assert expected.best == pytest.approx(2 * (1 - 0.9**2) + (1 - 0.7**2))
    assert expected.random == pytest.approx(expected.best) == expected.shown
