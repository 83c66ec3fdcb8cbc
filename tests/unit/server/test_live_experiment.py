import pytest

from server.live_experiment import MOST_VARIANTS, ExperimentTally
from server.settling import Judged
from shared.confidence import Count, difference


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
    assert (other.low, other.high) == difference(Count(400, 200), Count(400, 100))
    assert control.uplift_share == pytest.approx(0.5)
    assert other.uplift_share == pytest.approx(0.0)


def test_several_comparisons_share_the_error() -> None:
    tally = ExperimentTally(hidden_known=False)
    for name in "abc":
        for number in range(100):
            tally.add(Judged(number % 2 == 0, 0.0, 0.0, "e", name, f"{number}"))
    seen = tally.seen()
    assert seen is not None
    assert (seen.variants[1].low, seen.variants[1].high) == difference(
        Count(100, 50), Count(100, 50), 0.025
    )
    assert [each.uplift_share for each in seen.variants] == [None] * 3


def test_a_new_experiment_starts_from_nothing_and_names_are_bounded() -> None:
    tally = ExperimentTally(hidden_known=False)
    tally.add(Judged(True, 0.0, 0.0, "old", "a", "1"))
    for number in range(2 * MOST_VARIANTS):
        tally.add(Judged(True, 0.0, 0.0, "new", f"v{number:02d}", "1"))
    seen = tally.seen()
    assert seen is not None
    assert seen.experiment == "new"
    assert len(seen.variants) == MOST_VARIANTS
