"""A decision is found in the log, with what came of it and what the logs give again."""

import pytest
from msgspec import structs

from reco.commands.inspect_decision import _lines
from reco.decision_report import find_decision, find_outcomes, report_of
from shared.catalogue import Product
from shared.events import DECISIONS, OUTCOMES, Decision, Outcome, SlateItem, encode
from shared.live_catalogue import LiveCatalogue
from shared.ports import Record
from tests.scenario import NOON, outcome


def slate(*products: int) -> list[SlateItem]:
    return [SlateItem(each, 0.5, 0.25, 0.25, 1.0) for each in products]


DECISION = Decision(
    decision_id="d-1",
    visit_id="v-1",
    user_id=7,
    policy="linucb",
    parameters={"alpha": 0.2},
    x=[0.5],
    encoder_id="encoder",
    view=[3, 1],
    slate=slate(8, 42, 61),
    decided_at=NOON,
)
CATALOGUE = LiveCatalogue([Product(8, "Soup", "Starters", 8.0, False)])


def of(rank: int, reward: float) -> Outcome:
    arm = [8, 42, 61][rank - 1]
    made = outcome(rank, arm, reward=reward, outcome_id=f"d-1:{rank}", decision_id="d-1")
    return structs.replace(made, rank=rank)


def records(topic: str, *values: bytes | None) -> list[Record]:
    return [Record(topic, 0, offset, b"key", value) for offset, value in enumerate(values)]


@pytest.mark.parametrize("name", ["d-1", 'd-"ü\\'])
def test_the_first_decision_of_a_name_is_found(name: str) -> None:
    mine = structs.replace(DECISION, decision_id=name)
    again = structs.replace(mine, user_id=8)
    others = [structs.replace(DECISION, decision_id=other) for other in (name + "2", "x" + name)]
    values = [b"{poison " + name.encode(), None, *map(encode, (*others, mine, again))]
    assert find_decision(records(DECISIONS, *values), name) == mine
    assert find_decision(records(DECISIONS, *values), "d-3") is None


def test_its_outcomes_are_found_each_once_and_by_rank() -> None:
    other = structs.replace(of(1, 0.0), decision_id="d-12")
    second, first, twice = of(2, 1.0), of(1, 0.0), of(2, 0.0)
    values = [b"d-1", None, *map(encode, (other, second, first, twice))]
    assert find_outcomes(records(OUTCOMES, *values), "d-1") == [first, second]


@pytest.mark.parametrize(
    ("outcomes", "came_of_it", "rewards"),
    [
        ([of(1, 0.0), of(2, 1.0)], "clicked", [0.0, 1.0, None]),
        ([of(1, 0.0), of(2, 0.0), of(3, 0.0)], "not clicked", [0.0, 0.0, 0.0]),
        ([], "open", [None, None, None]),
    ],
)
def test_what_came_of_it_is_said_rank_by_rank(
    outcomes: list[Outcome], came_of_it: str, rewards: list[float | None]
) -> None:
    report = report_of(DECISION, outcomes, CATALOGUE, "no log", {0: 0, 1: 0})
    assert report.came_of_it == came_of_it
    assert [shown.reward for shown in report.slate] == rewards
    assert [shown.name for shown in report.slate] == ["Soup", "unknown here", "unknown here"]


@pytest.mark.parametrize(
    ("outcomes", "starts", "came_of_it"),
    [
        ([of(1, 0.0)], {0: 3, 1: 1}, "not clicked"),
        ([of(1, 0.0)], {0: 4, 1: 0}, "unknown"),
        ([], {0: 0, 1: 2}, "unknown"),
        ([of(2, 1.0)], {0: 4, 1: 2}, "clicked"),
        ([of(1, 0.0), of(2, 0.0)], {0: 4, 1: 2}, "unknown"),
        ([of(1, 0.0), of(2, 0.0), of(3, 0.0)], {0: 4, 1: 2}, "not clicked"),
    ],
)
def test_that_there_was_no_click_is_not_said_where_its_record_may_have_been_deleted(
    outcomes: list[Outcome], starts: dict[int, int], came_of_it: str
) -> None:
    assert report_of(DECISION, outcomes, CATALOGUE, "no log", starts).came_of_it == came_of_it


def test_the_logs_give_the_same_slate_or_another_or_none() -> None:
    same = report_of(DECISION, [], CATALOGUE, slate(8, 42, 61), {}).recomputed
    other = report_of(DECISION, [], CATALOGUE, slate(8, 61, 42), {}).recomputed
    none = report_of(DECISION, [], CATALOGUE, "the log is gone", {}).recomputed
    assert (same.slate, same.same, same.why_not) == ([8, 42, 61], True, None)
    assert (other.slate, other.same, other.why_not) == ([8, 61, 42], False, None)
    assert (none.slate, none.same, none.why_not) == (None, None, "the log is gone")


@pytest.mark.parametrize(
    ("via", "user_id", "whom"),
    [("http", 0, "nobody in particular"), ("http", 7, "user 7"), ("stream", 0, "user 0")],
)
def test_over_http_user_0_is_nobody(via: str, user_id: int, whom: str) -> None:
    shown = _lines(structs.replace(DECISION, via=via, user_id=user_id))
    assert f" for {whom} (visit v-1)" in shown[0]
