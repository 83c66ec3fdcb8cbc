from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import pytest
from msgspec import structs

from server.live_state import (
    GRACE_S,
    POINTS,
    RECENT,
    SHOWN,
    WAITING,
    FreshnessTail,
    LiveState,
)
from server.sample import is_among
from shared.arm_statistics import Floats
from shared.catalogue import DataSet
from shared.events import Context
from tests.live_scenario import AT, SLATE, decision, outcomes


@pytest.fixture
def state(data: DataSet) -> LiveState:
    return LiveState(data.encoder, 1, hidden=None)


def test_a_visit_is_listed_with_its_slate_and_click(data: DataSet, state: LiveState) -> None:
    state.take([decision(data, 1)], outcomes(1, 2), 0.0)
    state.take([], [], GRACE_S)
    [visit] = state.visits
    assert (visit.number, visit.user_id, visit.slate, visit.clicked) == (1, 1, SLATE, 12)
    assert (visit.part, visit.weekend) == ("morning", True)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2]])
def test_the_parts_of_a_visit_may_come_in_any_order(
    data: DataSet, state: LiveState, order: list[int]
) -> None:
    first, second = outcomes(1, 2)
    parts = [([decision(data, 1)], []), ([], [first]), ([], [second])]
    for i in order:
        state.take(*parts[i], 0.0)
    state.take([], [], GRACE_S)
    assert [visit.clicked for visit in state.visits] == [12]


def test_a_visit_without_a_click_is_known_by_its_zeros(data: DataSet, state: LiveState) -> None:
    state.take([decision(data, 1)], outcomes(1, None), 0.0)
    state.take([decision(data, 2)], [], 0.0)  # still in its reward window
    state.take([], [], GRACE_S)
    assert [(visit.number, visit.clicked) for visit in state.visits] == [(1, None)]
    assert state.rates().shown == 0.0


def test_clicks_are_not_listed_before_visits_without(data: DataSet, state: LiveState) -> None:
    for number in range(1, 5):
        click = 1 if number % 2 else None
        state.take([decision(data, number)], outcomes(number, click), 0.01 * number)
    assert not state.visits
    state.take([], [], 1.0)
    assert [visit.user_id for visit in state.visits] == [1, 2, 3, 4]


def test_a_visit_decided_again_is_counted_once(data: DataSet, state: LiveState) -> None:
    state.take([decision(data, 1)], outcomes(1, 1), 0.0)
    state.take([], [], GRACE_S)
    state.take([decision(data, 1)], outcomes(1, 1), 1.0)
    state.take([], [], 1.0 + GRACE_S)
    assert state.rates().visits == 1


def test_the_click_rate_is_that_of_the_last_thousand(data: DataSet, state: LiveState) -> None:
    numbers = range(RECENT + 200)
    seen = [each for n in numbers for each in outcomes(n, 1 if n >= 200 else None)]
    state.take([decision(data, number) for number in numbers], seen, 0.0)
    state.take([], [], GRACE_S)
    rates = state.rates()
    assert (rates.visits, rates.over, rates.shown) == (RECENT + 200, RECENT, 1.0)
    assert (rates.random, rates.best) == (None, None)
    assert len(state.visits) == SHOWN


def test_random_and_best_are_those_of_the_same_visits(data: DataSet) -> None:
    asked: list[Context] = []

    def hidden(contexts: Sequence[Context]) -> tuple[Floats, Floats]:
        asked.extend(contexts)
        return np.full(len(contexts), 0.25), np.full(len(contexts), 0.75)

    state = LiveState(data.encoder, 1, hidden)
    state.take([decision(data, 1), decision(data, 2)], outcomes(1, 1) + outcomes(2, None), 0.0)
    state.take([], [], GRACE_S)
    rates = state.rates()
    assert (rates.random, rates.shown, rates.best) == (0.25, 0.5, 0.75)
    assert [context.occurred_at.hour for context in asked] == [9, 9]


def test_a_decision_of_another_encoder_is_left_out(data: DataSet, state: LiveState) -> None:
    other = structs.replace(decision(data, 1), encoder_id="another", x=[1.0])
    state.take([other], outcomes(1, 1), 0.0)
    state.take([], [], GRACE_S)
    assert state.rates().visits == 0


def test_an_outcome_of_no_certain_moment_is_left_out(data: DataSet, state: LiveState) -> None:
    first, second = outcomes(1, 2)
    nowhen = structs.replace(first.outcome, resolved_at=datetime.min)  # noqa: DTZ901
    state.take([decision(data, 1)], [first._replace(outcome=nowhen), second], 0.0)
    state.take([], [], GRACE_S)
    assert [visit.clicked for visit in state.visits] == [12]


def test_outcomes_without_a_decision_do_not_pile_up(data: DataSet, state: LiveState) -> None:
    history = [seen for number in range(2 * WAITING) for seen in outcomes(number, 1)]
    state.take([], history, 0.0)
    assert len(state._waiting) <= WAITING
    state.take([decision(data, -1)], outcomes(-1, 1), 1.0)
    state.take([], [], 1.0 + GRACE_S)
    assert state.rates().visits == 1


def test_what_waits_is_forgotten_where_part_of_the_log_is_left_out(
    data: DataSet, state: LiveState
) -> None:
    zeros_only = outcomes(1, 3)[:2]
    state.take([decision(data, 1)], zeros_only, 0.0)
    state.forget_waiting()
    state.take([], [], GRACE_S)
    assert state.rates().visits == 0  # else it would count as a visit without a click


def test_after_a_gap_there_is_no_rate_until_others_are_known(
    data: DataSet, state: LiveState
) -> None:
    state.take([decision(data, 1)], outcomes(1, 1), 0.0)
    state.take([], [], GRACE_S)
    state.forget_waiting()
    assert (state.rates().visits, state.rates().over, state.rates().shown) == (1, 0, None)
    state.take([decision(data, 2)], outcomes(2, None), 1.0)
    state.take([], [], 1.0 + GRACE_S)
    assert (state.rates().visits, state.rates().over, state.rates().shown) == (2, 1, 0.0)


@pytest.mark.parametrize("changes", [[2], [2, 1]])
def test_a_decision_of_which_half_was_seen_is_not_judged_where_the_sample_changes(
    data: DataSet, state: LiveState, changes: list[int]
) -> None:
    number = next(n for n in range(100) if not is_among(f"d-{n}", 2))
    now_s = AT.timestamp()
    first = outcomes(number, 2)[0]  # the click is in the second, which goes by unseen
    if changes == [2]:
        state.take([decision(data, number)], [first], now_s)
    for one_in in changes:
        state.thin(one_in, now_s + 0.1)
    if changes == [2, 1]:
        state.take([decision(data, number)], [first], now_s + 0.2)
    state.take([], [], now_s + 0.2 + GRACE_S)
    assert state.rates().visits == 0


def test_of_a_sample_all_visits_per_second_are_estimated(data: DataSet, state: LiveState) -> None:
    state.thin(4, 0.0)
    numbers = [number for number in range(200) if is_among(f"d-{number}", 4)]
    for number in numbers:
        state.take([decision(data, number)], outcomes(number, 1), 0.0)
    state.take([], [], 1.0)
    assert state.visits_per_s(1.0) == pytest.approx(4 * len(numbers) / 10.0)


def test_visits_per_second_are_those_of_the_last_ten(data: DataSet, state: LiveState) -> None:
    for number in range(50):
        state.take([decision(data, number)], outcomes(number, 1), 0.0)
    state.take([], [], 1.0)
    assert state.visits_per_s(1.0) == 5.0
    assert state.visits_per_s(12.0) == 0.0


def test_the_series_is_thinned_and_keeps_its_ends(data: DataSet, state: LiveState) -> None:
    for number in range(3 * POINTS):
        state.take([decision(data, number)], outcomes(number, 1), float(number))
        state.mark()
        state.mark()  # nothing new: no second point
    visits = [rates.visits for rates in state.series.values()]
    assert len(visits) <= POINTS + 1
    assert visits == sorted(set(visits))
    assert (visits[0], visits[-1]) == (1, 3 * POINTS - 1)


def test_freshness_runs_from_the_reaction_to_the_view(data: DataSet, state: LiveState) -> None:
    resolved_s = AT.timestamp()
    state.freshness.advanced(0, 0, resolved_s - 60.0)
    state.take([decision(data, 1)], outcomes(1, 1), resolved_s)
    state.freshness.advanced(0, 100, resolved_s + 0.02)
    state.take([], [], resolved_s + GRACE_S)
    found = state.freshness.freshness()
    assert found.samples == 1
    assert found.p50_ms == pytest.approx(20.0, abs=0.1)


def test_freshness_does_not_depend_on_what_is_known_first() -> None:
    early, late = FreshnessTail(1), FreshnessTail(1)
    for tail in (early, late):
        tail.advanced(0, 5, 100.0)
    early.outcome(0, 7, 101.0)
    early.advanced(0, 6, 101.1)
    early.advanced(0, 9, 101.5)
    late.advanced(0, 6, 101.1)
    late.advanced(0, 9, 101.5)
    late.outcome(0, 7, 101.0)
    assert early.freshness() == late.freshness()
    assert early.freshness().p50_ms == pytest.approx(500.0)


def test_what_the_view_held_from_the_start_is_no_sample() -> None:
    tail = FreshnessTail(1)
    tail.advanced(0, 5, 100.0)
    tail.outcome(0, 4, 99.0)
    assert tail.freshness().samples == 0


def test_a_state_that_was_replaced_starts_the_freshness_anew() -> None:
    tail = FreshnessTail(1)
    tail.advanced(0, 50, 100.0)
    tail.outcome(0, 60, 100.0)
    tail.advanced(0, 0, 101.0)
    tail.advanced(0, 70, 102.0)
    assert tail.freshness().samples == 0


def test_clocks_that_differ_make_no_negative_freshness() -> None:
    tail = FreshnessTail(1)
    tail.advanced(0, 0, 100.0)
    tail.outcome(0, 1, (AT + timedelta(days=1)).timestamp())
    tail.advanced(0, 2, 101.0)
    assert tail.freshness().p50_ms == 0.0
