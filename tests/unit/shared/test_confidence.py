"""The confidence sequence errs at any time in at most 5 % of the runs, and finds what there is."""

import math

import numpy as np
import pytest

from shared.arm_statistics import Floats
from shared.confidence import ALPHA, GROUPS, LEAST_USERS, Tally, compared, difference
from tests.simulated_experiments import Shop, of_users, one_visit_each, told

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
    counts = one_visit_each(int(n), clicks), one_visit_each(int(other_n), other_clicks)
    low, high = difference(*counts)
    return not low <= other_means / other_n - means / n <= high


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.5])
def test_stopping_when_one_likes_errs_in_at_most_5_percent_of_the_runs(rate: float) -> None:
    assert missed(np.full((2, VISITS), rate), seed=1) <= 0.05


def test_rates_may_drift_while_the_model_learns() -> None:
    rising = np.stack([np.linspace(0.3, 0.7, VISITS), np.linspace(0.5, 0.4, VISITS)])
    assert missed(rising, seed=2) <= 0.05


@pytest.mark.parametrize(
    ("shop", "every"),
    [
        (Shop(1_000, 100_000), 1_000),
        (Shop(1_000, 100_000, spread=0.1), 1_000),
        (Shop(1_000, 100_000, spread=0.2), 1_000),
        (Shop(200, 60_000, spread=0.2), 1_000),
        (Shop(500, 20_000, spread=0.3, heavy=30.0), 500),
        (Shop(2_000, 2_000, spread=0.2), 50),
    ],
)
def test_it_errs_no_more_often_where_the_same_users_come_again(shop: Shop, every: int) -> None:
    alarms = sum(told(shop, every, seed).apart for seed in range(40))
    assert alarms <= 2


def test_it_costs_nothing_where_all_users_are_alike() -> None:
    of_again = told(Shop(1_000, 100_000), 1_000, seed=1).half_width
    low, high = difference(one_visit_each(50_000, 25_000), one_visit_each(50_000, 25_000))
    assert of_again == pytest.approx((high - low) / 2.0, rel=0.05)


def test_it_is_as_much_wider_as_users_differ() -> None:
    """Ten visits a user, all clicked or none: as if each user came once."""
    visits, clicks = np.full(400, 10), np.tile([0, 10], 200)
    low, high = difference(of_users(visits, clicks), of_users(visits, clicks))
    alone = one_visit_each(4_000, 2_000)
    wide = difference(alone, alone)[1]
    assert low == pytest.approx(-high)
    assert high == pytest.approx(wide * math.sqrt(10), rel=0.01)


def test_few_users_say_nothing_however_often_they_come() -> None:
    users = LEAST_USERS - 1
    few = of_users(np.full(users, 1_000), np.full(users, 100))
    many = of_users(np.full(100, 1_000), np.full(100, 900))
    assert difference(few, many) == (-1.0, 1.0)
    one_of_all = of_users(np.array([10_000, *[1] * 500]), np.zeros(501, np.int64))
    assert difference(one_of_all, many) == (-1.0, 1.0)
    assert difference(of_users(np.full(30, 1_000), np.full(30, 100)), many)[0] > 0.0


def test_a_difference_is_found_and_has_its_sign() -> None:
    low, high = difference(one_visit_each(2_000, 1_000), one_visit_each(2_000, 1_300))
    assert 0.0 < low < 0.15 < high < 0.3
    low, high = difference(one_visit_each(2_000, 1_300), one_visit_each(2_000, 1_000))
    assert -0.3 < low < -0.15 < high < 0.0


def test_the_interval_narrows_and_starts_from_everything() -> None:
    assert difference(one_visit_each(0, 0.0), one_visit_each(50, 30.0)) == (-1.0, 1.0)
    widths = [
        high - low
        for n in (100, 1_000, 10_000)
        for low, high in [difference(one_visit_each(n, n / 2), one_visit_each(n, n / 2))]
    ]
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] < 0.06


@pytest.mark.parametrize("clicks", [0, 100])
def test_rewards_that_do_not_vary_leave_an_interval(clicks: int) -> None:
    count = one_visit_each(100, clicks)
    low, high = difference(count, count)
    assert -0.3 < low < -0.2
    assert 0.2 < high < 0.3


def test_visits_are_added_up_by_user() -> None:
    rng = np.random.default_rng(3)
    tally, visits, clicks = Tally(), np.zeros(40, np.int64), np.zeros(40, np.int64)
    for user, clicked in zip(rng.integers(0, 40, 500), rng.random(500) < 0.3, strict=True):
        tally.add(str(user), float(clicked))
        visits[user] += 1
        clicks[user] += clicked
    assert tally.count == of_users(visits, clicks)
    assert tally.count.effective_users == pytest.approx(500**2 / (visits**2).sum())


def test_any_number_of_users_takes_so_much_memory_and_says_the_same() -> None:
    rng, tally = np.random.default_rng(4), Tally()
    for number in range(10 * GROUPS):
        tally.add(str(number), float(rng.random() < 0.3))
    count = tally.count
    assert count.users <= GROUPS
    assert 1.0 <= count.design_effect < 1.1


def test_each_variant_stands_beside_the_control_and_all_share_the_error() -> None:
    counts = {
        "a": one_visit_each(400, 100),
        "b": one_visit_each(400, 160),
        "c": one_visit_each(200, 30),
    }
    apart = compared(counts, control="a")
    assert apart["a"] is None
    for name in ("b", "c"):
        interval = difference(counts["a"], counts[name], ALPHA / 2)
        assert apart[name] == (counts[name].rate - counts["a"].rate, *interval)


def test_a_single_variant_is_beside_none() -> None:
    assert compared({"a": one_visit_each(10, 1)}, control="a") == {"a": None}
