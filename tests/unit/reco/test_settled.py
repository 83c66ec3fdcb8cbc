"""What counts is chosen without regard to the reaction, in the middle of the first window too."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from msgspec import structs

from reco.settled import EARLY, OPEN, left_out
from shared.events import Decision, Outcome
from tests.unit.reco.test_experiment_report import decision, outcome

WINDOW_S = 300


def asked(number: int, via: str = "http") -> Decision:
    """One decision a second."""
    return structs.replace(decision(number, None), via=via)


def silent(number: int) -> Outcome:
    """Its window ended."""
    return outcome(number, 0.0, at_s=number + WINDOW_S)


def clicked(number: int) -> Outcome:
    return outcome(number, 1.0, at_s=number + 5)


@pytest.mark.parametrize("via", ["http", "stream"])
@pytest.mark.parametrize("now_s", [310, 330, 600])
def test_the_click_rate_of_what_counts_is_right_from_the_first_window_on(
    via: str, now_s: int
) -> None:
    rng = np.random.default_rng(now_s)
    kept = clicks = 0
    for _ in range(100):
        decisions, outcomes = [], []
        for number, click in enumerate((rng.random(now_s) < 0.4).tolist()):
            end = clicked(number) if click else silent(number)
            known = end.resolved_at <= decision(now_s, None).decided_at
            if known or via == "stream":  # over HTTP nothing is heard of the open ones
                decisions.append(asked(number, via))
            outcomes += [end] if known else []
        out = left_out(decisions, outcomes)
        assert set(out.values()) <= {OPEN, EARLY}
        counted = [each for each in outcomes if each.decision_id not in out]
        kept += len(counted)
        clicks += sum(each.reward > 0.0 for each in counted)
    assert kept > 60 * (now_s - WINDOW_S)
    error = (0.24 / kept) ** 0.5
    assert clicks / kept == pytest.approx(0.4, abs=3.5 * error)


def test_in_the_first_window_nothing_counts_over_http() -> None:
    out = left_out([asked(1), asked(2)], [clicked(1), clicked(2)])
    assert out == {"d-1": EARLY, "d-2": EARLY}


def test_where_all_is_known_at_once_everything_counts() -> None:
    decisions = [asked(number, "stream") for number in range(4)]
    ends = [outcome(number, float(number % 2), at_s=number) for number in range(4)]
    assert left_out(decisions, ends) == {}


def test_one_that_is_lost_holds_up_no_other() -> None:
    decisions = [asked(number, "stream") for number in range(400)]
    ends = [silent(number) for number in range(1, 400, 2)]
    ends += [clicked(number) for number in range(2, 400, 2)]
    assert left_out(decisions, ends) == {"d-0": OPEN}


def test_one_way_of_asking_does_not_hold_up_the_other() -> None:
    decisions = [asked(1), asked(2, "stream")]
    assert left_out(decisions, [clicked(1), clicked(2)]) == {"d-1": EARLY}


def test_a_click_beside_zeros_is_a_click() -> None:
    zeros_above = outcome(7, 0.0), outcome(7, 1.0, rank=2)
    assert left_out([asked(7)], zeros_above) == {"d-7": EARLY}


def test_times_without_a_zone_are_utc() -> None:
    bare = datetime(2026, 1, 1, 12)  # noqa: DTZ001
    first = structs.replace(asked(1), decided_at=bare)
    second = structs.replace(asked(2), decided_at=bare.replace(tzinfo=UTC) + timedelta(seconds=1))
    ends = [structs.replace(outcome(n, 0.0), resolved_at=bare) for n in (1, 2)]
    assert left_out([first, second], ends) == {"d-2": EARLY}


def test_nothing_leaves_nothing_out() -> None:
    assert left_out([], []) == {}
