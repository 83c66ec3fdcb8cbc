"""What the learning report says was reached."""

import numpy as np
import pytest

from reco.simulation import Rates
from tests.learning.figures import Runs, Verdict, verdicts
from tests.learning.plan import DISJOINT, OTHERS, SEEDS_RULE, SHARED, SHARED_ONLY

VISITS = 4_000


def runs(share: float, *seeds: int, early: float | None = None) -> Runs:
    """Runs that capture this share of the uplift, of which `early` in the first 200 visits."""
    shares = np.full(VISITS, share)
    shares[:200] = share if early is None else early
    random, best = np.full(VISITS, 0.5), np.full(VISITS, 0.7)
    return dict.fromkeys(seeds, Rates(random + 0.2 * shares, random, best))


def of(found: list[Verdict], asked: str) -> Verdict:
    [verdict] = [verdict for verdict in found if verdict.asked.startswith(asked)]
    return verdict


def test_a_window_that_is_below_what_was_asked_is_missed() -> None:
    found = list(verdicts({"seed": {SHARED: runs(0.97, 1, 2, early=0.5)}}))
    told = [(verdict.asked, verdict.reached) for verdict in found]
    assert told == [
        ("visits 0-200: at least 78 %", False),
        ("visits 200-500: at least 93 %", True),
        ("visits 500-1,000: at least 96 %", True),
        ("visits 2,000-4,000: at least 98 %", False),
    ]
    assert found[0].measured.startswith("50.00 %")


@pytest.mark.parametrize(("early", "reached"), [(0.85, True), (0.75, False)])
def test_ahead_in_every_window_means_the_worst_of_them(early: float, reached: bool) -> None:
    lines = {SHARED: runs(0.9, 1, early=early), DISJOINT: runs(0.8, 1), SEEDS_RULE: runs(0.1, 1)}
    verdict = of(list(verdicts({"extra": lines})), "ahead of disjoint")
    assert verdict.reached is reached
    assert (
        f"{100 * (early - 0.8):+.1f} points (0-200, {DISJOINT.label}, 1 seed)" in verdict.measured
    )


def test_a_lead_that_is_asked_from_a_visit_on_forgives_what_was_before() -> None:
    lines = {SHARED: runs(0.9, 1, early=0.1), SHARED_ONLY: runs(0.8, 1)}
    assert of(list(verdicts({"extra": lines})), "ahead of shared only").reached


def test_lines_are_compared_on_the_seeds_that_both_have() -> None:
    """Else a rival with few seeds wins or loses by which seeds those are."""
    ours = {**runs(0.9, 1), **runs(0.2, 2, 3, 4)}
    verdict = of(
        list(verdicts({"seed": {SHARED: ours, OTHERS[0]: runs(0.8, 1)}})), "ahead of the other"
    )
    assert verdict.reached


def test_nothing_is_said_of_lines_that_were_not_run() -> None:
    assert not list(verdicts({"seed": {DISJOINT: runs(0.9, 1)}, "extra": {}}))
