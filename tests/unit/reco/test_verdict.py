import numpy as np
import pytest

from reco.rebuild import Report
from reco.verdict import Expected, Late, Verdict, judge
from shared.events import Decision, Outcome, SlateItem
from tests.scenario import NOON, outcome

COLUMN = {1: 0, 2: 1, 3: 2}


def decision(number: int, product: int) -> Decision:
    item = SlateItem(product_id=product, score=0.0, mean=0.0, bonus=0.0, propensity=1.0)
    return Decision(
        decision_id=f"d-{number}",
        visit_id=f"v-{number}",
        user_id=1,
        policy="linucb",
        parameters={},
        x=[0.0],
        encoder_id="e",
        view=[0],
        slate=[item],
        decided_at=NOON,
    )


def verdict(
    visits: int,
    decisions: list[Decision],
    outcomes: list[Outcome],
    replay: Report | None = None,
    shown: float = 0.5,
    late: Late | None = None,
    best: float = 0.6,
) -> Verdict:
    """Product 1 is clicked with `shown`, random slates with 0.4, the best with `best`."""
    hidden = Expected(
        np.tile([shown, 0.3, best], (visits, 1)), np.full(visits, 0.4), np.full(visits, best)
    )
    return judge(
        [f"v-{number}" for number in range(visits)],
        hidden,
        COLUMN,
        decisions,
        outcomes,
        replay or Report(outcomes=7, arms=2),
        freshness_ms=[1.0, 2.0, 3.0],
        kills=0,
        broker="b",
        store="s",
        late=late,
    )


def test_rates_come_from_the_outcomes_and_the_hidden_model() -> None:
    decisions = [decision(number, 1) for number in range(4)]
    outcomes = [outcome(n, 1, reward=float(n == 0), decision_id=f"d-{n}") for n in range(4)]
    result = verdict(4, decisions, outcomes)
    assert (result.visits, result.outcomes, result.click_rate) == (4, 4, 0.25)
    assert (result.click_rate_random, result.click_rate_best) == pytest.approx((0.4, 0.6))
    assert result.uplift_captured == pytest.approx((0.25 - 0.4) / 0.2)
    assert result.click_rate_expected == pytest.approx(0.5)
    assert result.uplift_captured_expected == pytest.approx(0.5)
    assert (result.freshness_ms.p50, result.verdict) == (2.0, "pass")


def test_history_is_not_counted_among_the_outcomes_of_visits() -> None:
    past = outcome(0, 1, reward=1.0, decision_id="history-1", outcome_id="history-1:1")
    result = verdict(1, [decision(0, 1)], [past])
    assert (result.outcomes, result.click_rate) == (0, 0.0)


def test_a_visit_that_was_not_decided_fails() -> None:
    result = verdict(2, [decision(0, 1)], [])
    assert result.verdict == "fail"
    assert result.reasons == ["1 of 2 visits were not decided"]


def test_a_visit_decided_again_counts_once_and_is_reported() -> None:
    result = verdict(1, [decision(0, 1), decision(0, 2)], [])
    assert (result.visits, result.decided_twice, result.verdict) == (1, 1, "pass")
    assert result.click_rate_expected == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("report", "why"),
    [
        (Report(differing_bits=3), "3 bits"),
        (Report(lag=2), "2 outcomes were not learned from"),
        (Report(violations=["partition 1: Σn"]), "partition 1: Σn"),
    ],
)
def test_a_state_that_is_not_that_of_the_log_fails(report: Report, why: str) -> None:
    result = verdict(1, [decision(0, 1)], [], report)
    assert result.verdict == "fail"
    assert why in result.reasons[0]


@pytest.mark.parametrize(("visits", "expected"), [(199, "pass"), (200, "fail")])
def test_slates_no_better_than_random_fail_once_there_were_enough(
    visits: int, expected: str
) -> None:
    decisions = [decision(number, 1) for number in range(visits)]
    assert verdict(visits, decisions, [], shown=0.4).verdict == expected


def test_slates_of_all_products_pass_as_none_could_be_better() -> None:
    decisions = [decision(number, 1) for number in range(200)]
    result = verdict(200, decisions, [], shown=0.4, best=0.4)
    assert (result.verdict, result.uplift_captured_expected) == ("pass", 0.0)


def test_far_more_late_clicks_than_were_asked_for_fail() -> None:
    decisions = [decision(number, 1) for number in range(2_000)]
    result = verdict(2_000, decisions, [], late=Late(late=283, clicks=1_306, asked=0.02))
    assert result.verdict == "fail"
    assert result.reasons == [
        "283 of 1,306 clicks came after their window's end (22%, 2% were meant to): "
        "servers or shoppers do not keep up"
    ]


@pytest.mark.parametrize(
    ("visits", "late"),
    [
        (2_000, Late(late=130, clicks=1_300, asked=0.02)),
        (199, Late(late=50, clicks=100, asked=0.02)),
        (200, Late(late=0, clicks=0, asked=0.02)),
    ],
)
def test_some_late_clicks_more_or_few_visits_do_not(visits: int, late: Late) -> None:
    decisions = [decision(number, 1) for number in range(visits)]
    result = verdict(visits, decisions, [], late=late)
    assert (result.verdict, result.late) == ("pass", late)
