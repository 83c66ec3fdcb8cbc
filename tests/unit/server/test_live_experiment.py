import pytest

from server.live_experiment import MOST_VARIANTS, ExperimentTally
from server.settling import Judged
from shared.confidence import difference
from tests.simulated_experiments import one_visit_each


def test_without_an_experiment_there_is_nothing_to_show() -> None:
    tally = ExperimentTally(hidden_known=True)
    tally.add(Judged(True, 0.5, 0.7, None, None, "1"))
    assert tally.seen() is None


def test_each_variant_is_compared_with_the_first_by_name() -> None:
    tally = ExperimentTally(hidden_known=True)
    for number in range(400):
        tally.add(Judged(number % 4 == 0, 0.25, 0.75, "e", "random", f"{number}"))
        tally.add(Judged(number % 2 == 0, 0.25, 0.75, "e", "linucb", f"{number}"))
    seen = tally.seen()
    assert seen is not None
    control, other = seen.variants
    assert (seen.experiment, seen.confidence) == ("e", 0.95)
    assert (control.variant, control.visits, control.clicks, control.click_rate) == (
        *("linucb", 400, 200, 0.5),
    )
    assert (control.difference, control.low, control.high) == (None, None, None)
    assert other.difference == -0.25
    assert other.low is not None
    assert other.high is not None
    alone = difference(one_visit_each(400, 200), one_visit_each(400, 100))
    # Some users share a group.
    assert (other.low, other.high) == pytest.approx(alone, abs=0.01)
    assert control.uplift_share == pytest.approx(0.5)
    assert other.uplift_share == pytest.approx(0.0)


def test_several_comparisons_share_the_error() -> None:
    tally = ExperimentTally(hidden_known=False)
    for name in "abc":
        for number in range(100):
            tally.add(Judged(number % 2 == 0, 0.0, 0.0, "e", name, f"{number}"))
    seen = tally.seen()
    assert seen is not None
    count = one_visit_each(100, 50)
    found = seen.variants[1].low, seen.variants[1].high
    assert found == pytest.approx(difference(count, count, 0.025), abs=0.01)
    assert [each.uplift_share for each in seen.variants] == [None] * 3


def test_the_unit_is_the_user() -> None:
    tally = ExperimentTally(hidden_known=False)
    for number in range(4_000):
        user = number % 400
        tally.add(Judged(user < 200, 0.0, 0.0, "e", "ab"[user % 2], f"{user}"))
    seen = tally.seen()
    assert seen is not None
    alone = one_visit_each(2_000, 1_000)
    high = seen.variants[1].high
    assert high is not None
    assert high > 2.5 * difference(alone, alone)[1]  # the root of ten, were they all alike


def test_a_new_experiment_starts_from_nothing_and_names_are_bounded() -> None:
    tally = ExperimentTally(hidden_known=False)
    tally.add(Judged(True, 0.0, 0.0, "old", "a", "1"))
    for number in range(2 * MOST_VARIANTS):
        tally.add(Judged(True, 0.0, 0.0, "new", f"v{number:02d}", "1"))
    seen = tally.seen()
    assert seen is not None
    assert seen.experiment == "new"
    assert len(seen.variants) == MOST_VARIANTS
