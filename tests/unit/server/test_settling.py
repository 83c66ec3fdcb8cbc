"""The rates of the live page count what would be known whatever the reaction, from any start on."""

from datetime import timedelta
from zlib import crc32

import numpy as np
import pytest
from msgspec import structs

from server.live_state import GRACE_S, LiveState, OutcomeSeen
from server.sample import is_among
from server.settling import MOST_HELD, Judged, Settling
from shared.catalogue import DataSet
from shared.events import Decision
from tests.live_scenario import AT, decision, outcomes

WINDOW_S = 300.0


@pytest.fixture(scope="module")
def asked(data: DataSet) -> Decision:
    return structs.replace(decision(data, 1), via="http")


def made(asked: Decision, number: int, at_s: float) -> Decision:
    decided_at = AT + timedelta(seconds=at_s)
    return structs.replace(asked, decision_id=f"d-{number}", decided_at=decided_at)


def judged(clicked: bool) -> Judged:
    return Judged(clicked, 0.0, 0.0, None, None, "1")


def counted(asked: Decision, seed: int, from_s: float, to_s: float, *, gap: bool = False) -> float:
    """The click rate after having looked on between these times; at 10 visits a second, 40 %."""
    rng = np.random.default_rng(seed)
    events = []
    for number, at_s in enumerate(np.arange(0.0, to_s, 0.1).tolist()):
        click = bool(rng.random() < 0.4)
        events.append((at_s + (2.0 if click else WINDOW_S), number, at_s, click))
    settling, found = Settling(), []
    for known_s, number, at_s, click in sorted(events):
        if gap and 700.0 <= known_s < 760.0:
            settling.forget()
        elif from_s <= known_s < to_s:
            resolved_s = AT.timestamp() + known_s
            settling.add(made(asked, number, at_s), resolved_s, judged(click))
            found += settling.settled()
    assert found
    return sum(each.clicked for each in found) / len(found)


@pytest.mark.parametrize(
    ("from_s", "to_s", "gap"),
    [
        (0.0, 330.0, False),  # the first windows end
        (0.0, 450.0, False),
        (500.0, 900.0, False),  # the page was opened later
        (0.0, 1_200.0, True),  # part of the log was left out
    ],
)
def test_the_click_rate_is_right_whenever_one_begins_and_looks(
    asked: Decision, from_s: float, to_s: float, gap: bool
) -> None:
    rates = [counted(asked, seed, from_s, to_s, gap=gap) for seed in range(10)]
    assert np.mean(rates) == pytest.approx(0.4, abs=0.03)


def end(number: int, clicked_rank: int | None, at_s: float) -> list[OutcomeSeen]:
    at = AT + timedelta(seconds=at_s)
    return [
        each._replace(outcome=structs.replace(each.outcome, resolved_at=at))
        for each in outcomes(number, clicked_rank)
    ]


def test_over_http_visits_are_listed_at_once_and_counted_when_their_time_is_over(
    data: DataSet, asked: Decision
) -> None:
    state = LiveState(data.encoder, 1, hidden=None)
    for number in range(4):
        state.take([made(asked, number, 1.0 + number)], end(number, 1, 1.0), float(number))
    state.take([], [], 3.0 + GRACE_S)
    assert len(state.visits) == 4
    assert (state.rates().visits, state.rates().shown) == (4, None)
    state.take([made(asked, 4, 3.5)], end(4, None, 40.0), 40.0)
    state.take([], [], 40.0 + GRACE_S)
    assert (state.rates().over, state.rates().shown) == (3, 1.0)
    state.take([made(asked, 5, 9.0)], end(5, None, 50.0), 50.0)
    state.take([], [], 50.0 + GRACE_S)
    assert (state.rates().over, state.rates().shown) == (5, 0.8)


def test_what_was_held_is_not_counted_where_part_of_the_log_is_left_out(
    data: DataSet, asked: Decision
) -> None:
    state = LiveState(data.encoder, 1, hidden=None)
    state.take([made(asked, 1, 1.0)], end(1, 1, 1.0), 0.0)
    state.take([], [], GRACE_S)
    state.forget_waiting()
    state.take([made(asked, 2, 20.0)], end(2, None, 20.0), 20.0)
    state.take([made(asked, 3, 30.0)], end(3, None, 30.0), 30.0)
    state.take([], [], 30.0 + GRACE_S)
    assert (state.rates().visits, state.rates().over, state.rates().shown) == (3, 1, 0.0)


@pytest.mark.parametrize("to_s", [500.0, 700.0, 1_200.0])
def test_the_click_rate_is_right_while_the_share_that_is_seen_changes(
    data: DataSet, asked: Decision, to_s: float
) -> None:
    clicks = visits = 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        events = []
        for number, at_s in enumerate(np.arange(0.0, to_s, 0.1).tolist()):
            click = bool(rng.random() < 0.4)
            events.append((at_s + (2.0 if click else WINDOW_S), number, at_s, click))
        shares = [(200.0, 4), (420.0, 8), (450.0, 2), (600.0, 1), (900.0, 4)]
        state, one_in = LiveState(data.encoder, 1, hidden=None), 1
        for known_s, number, at_s, click in sorted(event for event in events if event[0] < to_s):
            now_s = AT.timestamp() + known_s
            while shares and shares[0][0] <= known_s:
                one_in = shares.pop(0)[1]
                state.thin(one_in, now_s)
            if is_among(f"d-{number}", one_in):
                made_here = structs.replace(
                    made(asked, number, at_s), experiment="menu", variant="all"
                )
                state.take([made_here], end(number, 1 if click else None, known_s), now_s)
        state.take([], [], AT.timestamp() + to_s + GRACE_S)
        seen = state.experiment.seen()
        assert seen is not None
        clicks, visits = clicks + seen.variants[0].clicks, visits + seen.variants[0].visits
    assert visits > 1_000
    assert clicks / visits == pytest.approx(0.4, abs=0.04)


def test_more_than_there_is_room_for_are_a_sample_of_clicked_and_not(asked: Decision) -> None:
    settling = Settling()
    many = 3 * MOST_HELD
    for number in range(many):
        settling.add(made(asked, number, float(number)), AT.timestamp(), judged(True))
        assert len(settling._held) <= MOST_HELD
    settling.add(made(asked, many, float(many)), AT.timestamp(), judged(False))
    expected = sum(crc32(b"d-%d" % number) % 4 == 0 for number in range(many))
    assert len(settling.settled()) == expected
