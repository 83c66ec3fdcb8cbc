"""The confidence sequence errs at any time in at most 5 % of the runs, and finds what there is."""

import numpy as np
import pytest

from shared.arm_statistics import Floats
from shared.confidence import ALPHA, Count, compared, difference

RUNS = 400
VISITS = 1_500


def missed(rates: Floats, seed: int) -> float:
    """Share of runs in which the interval excludes the true difference at any visit at all.

    Args:
        rates: click rate of both variants at each visit, 2 × VISITS.
        seed: of the dice.
    """
    wrong = 0
    for run in range(RUNS):
        rng = np.random.default_rng([seed, run])
        other = rng.random(VISITS) < 0.5
        clicks = rng.random(VISITS) < np.where(other, rates[1], rates[0])
        sums = [
            [np.cumsum(column).tolist() for column in (own, own & clicks, own * rate)]
            for own, rate in ((~other, rates[0]), (other, rates[1]))
        ]
        wrong += any(_misses(sums, at) for at in range(10, VISITS, 10))
    return wrong / RUNS


def _misses(sums: list[list[list[float]]], at: int) -> bool:
    (n, clicks, means), (other_n, other_clicks, other_means) = (
        [column[at] for column in columns] for columns in sums
    )
    if not n or not other_n:
        return False
    low, high = difference(Count(int(n), clicks), Count(int(other_n), other_clicks))
    return not low <= other_means / other_n - means / n <= high


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_stopping_when_one_likes_errs_in_at_most_5_percent_of_the_runs(rate: float) -> None:
    assert missed(np.full((2, VISITS), rate), seed=1) <= 0.05


def test_rates_may_drift_while_the_model_learns() -> None:
    rising = np.stack([np.linspace(0.3, 0.7, VISITS), np.linspace(0.5, 0.4, VISITS)])
    assert missed(rising, seed=2) <= 0.05


def test_a_difference_is_found_and_has_its_sign() -> None:
    low, high = difference(Count(2_000, 1_000.0), Count(2_000, 1_300.0))
    assert 0.0 < low < 0.15 < high < 0.3
    low, high = difference(Count(2_000, 1_300.0), Count(2_000, 1_000.0))
    assert -0.3 < low < -0.15 < high < 0.0


def test_the_interval_narrows_and_starts_from_everything() -> None:
    assert difference(Count(0, 0.0), Count(50, 30.0)) == (-1.0, 1.0)
    widths = [
        high - low
        for n in (100, 1_000, 10_000)
        for low, high in [difference(Count(n, n / 2), Count(n, n / 2))]
    ]
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] < 0.06


def test_each_variant_stands_beside_the_control_and_all_share_the_error() -> None:
    counts = {"a": Count(400, 100.0), "b": Count(400, 160.0), "c": Count(200, 30.0)}
    apart = compared(counts, control="a")
    assert apart["a"] is None
    for name in ("b", "c"):
        rates = [counts[each].reward / counts[each].visits for each in (name, "a")]
        interval = difference(counts["a"], counts[name], ALPHA / 2)
        assert apart[name] == (rates[0] - rates[1], *interval)


def test_a_single_variant_is_beside_none() -> None:
    assert compared({"a": Count(10, 1.0)}, control="a") == {"a": None}
