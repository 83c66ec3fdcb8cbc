"""What the variants of an experiment did, from their decisions and outcomes."""

from datetime import timedelta

import pytest

from reco.experiment_report import Possible, report
from shared.confidence import Count, difference
from shared.events import Decision, Outcome, SlateItem
from tests.scenario import NOON


def decision(number: int, variant: str | None, experiment: str | None = "e") -> Decision:
    return Decision(
        decision_id=f"d-{number}",
        visit_id=f"v-{number}",
        user_id=number,
        policy="linucb",
        parameters={"alpha": 0.2},
        x=[1.0],
        encoder_id="encoder",
        view=[0],
        slate=[SlateItem(product_id=1, score=0.0, mean=0.0, bonus=0.0, propensity=1.0)],
        decided_at=NOON + timedelta(seconds=number),
        experiment=experiment,
        variant=variant,
    )


def outcome(number: int, reward: float, rank: int = 1, at_s: float = 0.0) -> Outcome:
    return Outcome(
        outcome_id=f"d-{number}:{rank}",
        decision_id=f"d-{number}",
        product_id=rank,
        rank=rank,
        reward=reward,
        x=[1.0],
        encoder_id="encoder",
        decided_at=NOON,
        resolved_at=NOON + timedelta(seconds=at_s),
    )


def test_visits_and_clicks_are_counted_by_variant_once() -> None:
    decisions = [decision(n, "a" if n % 2 else "b") for n in range(200)]
    outcomes = [outcome(n, float(n % 2)) for n in range(199)]  # the last has no outcome yet
    found = report([*decisions, *decisions], [*outcomes, *outcomes])
    assert found.experiment == "e"
    assert found.open_decisions == 1
    a, b = found.variants
    assert (a.variant, a.visits, a.clicks, a.click_rate) == ("a", 99, 99, 1.0)
    assert (b.variant, b.visits, b.clicks, b.click_rate) == ("b", 100, 0, 0.0)
    assert a.difference is None
    assert b.difference == -1.0
    assert b.difference_interval == difference(Count(99, 99), Count(100, 0))
    assert b.differs


def test_a_click_below_the_first_rank_is_a_click() -> None:
    found = report([decision(1, "a")], [outcome(1, 0.0), outcome(1, 1.0, rank=2)])
    assert found.variants[0].clicks == 1


def test_the_control_comes_first_and_the_error_is_shared_among_the_comparisons() -> None:
    decisions = [decision(n, "abc"[n % 3]) for n in range(90)]
    outcomes = [outcome(n, 1.0) for n in range(90)]
    found = report(decisions, outcomes, control="b")
    assert [variant.variant for variant in found.variants] == ["b", "a", "c"]
    expected = difference(Count(30, 30), Count(30, 30), alpha=0.025)
    assert found.variants[1].difference_interval == expected
    assert not found.variants[1].differs
    with pytest.raises(ValueError, match="no variant 'x'"):
        report(decisions, outcomes, control="x")


def test_only_the_latest_experiment_counts_unless_another_is_asked_for() -> None:
    decisions = [decision(1, "a", "old"), decision(2, "b", "new")]
    outcomes = [outcome(1, 1.0), outcome(2, 0.0)]
    assert [v.variant for v in report(decisions, outcomes).variants] == ["b"]
    assert [v.variant for v in report(decisions, outcomes, "old").variants] == ["a"]


def test_without_an_experiment_policies_are_compared() -> None:
    found = report([decision(1, None, None)], [outcome(1, 1.0)])
    assert found.experiment is None
    assert found.variants[0].variant == "linucb"


def test_the_uplift_is_that_of_the_hidden_model() -> None:
    found = report(
        [decision(1, "a"), decision(2, "a")],
        [outcome(1, 0.0), outcome(2, 0.0)],
        possible={"v-1": Possible(0.6, 0.5, 0.7), "v-2": Possible(0.5, 0.5, 0.7)},
    )
    assert found.variants[0].uplift_share == pytest.approx(0.25)


def test_nothing_is_a_report_too() -> None:
    found = report([], [])
    assert (found.experiment, found.variants, found.open_decisions) == (None, [], 0)
