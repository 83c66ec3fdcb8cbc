"""What the variants of an experiment did, from their decisions and outcomes."""

from datetime import timedelta

import numpy as np
import pytest
from msgspec import structs
from rich.console import Console

from reco.experiment_report import ExperimentReport, Possible, report
from reco.experiment_table import table
from shared.confidence import difference
from shared.events import Decision, Outcome, SlateItem
from tests.scenario import NOON
from tests.simulated_experiments import of_users, one_visit_each


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
    assert b.difference_interval == difference(one_visit_each(99, 99), one_visit_each(100, 0))
    assert b.differs


def test_a_click_below_the_first_rank_is_a_click() -> None:
    found = report([decision(1, "a")], [outcome(1, 0.0), outcome(1, 1.0, rank=2)])
    assert found.variants[0].clicks == 1


def test_the_control_comes_first_and_the_error_is_shared_among_the_comparisons() -> None:
    decisions = [decision(n, "abc"[n % 3]) for n in range(90)]
    outcomes = [outcome(n, 1.0) for n in range(90)]
    found = report(decisions, outcomes, control="b")
    assert [variant.variant for variant in found.variants] == ["b", "a", "c"]
    expected = difference(one_visit_each(30, 30), one_visit_each(30, 30), alpha=0.025)
    assert found.variants[1].difference_interval == expected
    assert not found.variants[1].differs
    with pytest.raises(ValueError, match="no variant 'x'"):
        report(decisions, outcomes, control="x")


def test_only_the_latest_experiment_counts_unless_another_is_asked_for() -> None:
    decisions = [decision(1, "a", "old"), decision(2, "b", "new")]
    outcomes = [outcome(1, 1.0), outcome(2, 0.0)]
    assert [v.variant for v in report(decisions, outcomes).variants] == ["b"]
    assert [v.variant for v in report(decisions, outcomes, "old").variants] == ["a"]


def test_the_unit_is_the_user_or_the_visit_of_nobody_in_particular() -> None:
    replace = structs.replace
    decisions = [replace(decision(n, "ab"[n % 2]), user_id=n % 80) for n in range(800)]
    outcomes = [outcome(n, float(n % 80 < 40)) for n in range(800)]
    found = report(decisions, outcomes)
    users = of_users(np.full(40, 10), np.repeat([10, 0], 20))
    assert [variant.users for variant in found.variants] == [40, 40]
    assert found.variants[1].difference_interval == pytest.approx(difference(users, users))
    asked = [replace(each, user_id=0, via="http") for each in decisions]
    late = replace(decision(800, "a"), via="http")  # so that all before it count
    found = report([*asked, late], [*outcomes, outcome(800, 0.0)])
    alone = one_visit_each(400, 200)
    assert [variant.users for variant in found.variants] == [400, 400]
    assert found.variants[1].difference_interval == pytest.approx(difference(alone, alone))


def test_without_an_experiment_policies_stand_side_by_side_and_no_verdict_is_given() -> None:
    decisions = [decision(n, None, None) for n in range(200)]
    decisions = [structs.replace(d, policy=("a", "b")[n < 100]) for n, d in enumerate(decisions)]
    found = report(decisions, [outcome(n, float(n < 100)) for n in range(200)])
    assert found.experiment is None
    a, b = found.variants
    assert (a.variant, b.variant) == ("a", "b")
    assert (b.difference, b.difference_interval, b.differs) == (1.0, None, False)
    said = text(found)
    assert "Nothing divided the users" in said
    assert "differ" not in said.split("Nothing")[1]


def test_too_few_users_are_said_to_be_too_few() -> None:
    decisions = [structs.replace(decision(n, "ab"[n % 2]), user_id=n % 20) for n in range(2_000)]
    found = report(decisions, [outcome(n, float(n % 2)) for n in range(2_000)])
    assert found.variants[1].difference_interval == (-1.0, 1.0)
    assert "too few users of b and of a to tell" in text(found)


def test_what_is_not_settled_is_left_out_and_counted() -> None:
    decisions = [decision(n, "a") for n in range(40)]
    outcomes = [outcome(n, 0.0, at_s=n + 30) for n in range(10)]  # a window of 30 seconds
    outcomes += [outcome(n, 1.0, at_s=n) for n in range(10, 40, 2)]  # and clicks at once
    found = report(decisions, outcomes)
    assert (found.variants[0].visits, found.variants[0].clicks) == (11, 1)
    assert (found.open_decisions, found.early_decisions) == (15, 14)
    said = text(found)
    assert "left out: 15 with no outcome yet" in said
    assert "left out: 14 with an outcome that is known before" in said
    with pytest.raises(ValueError, match="there are none yet"):
        report(decisions[21:], outcomes, control="a")


def text(found: ExperimentReport) -> str:
    """As people read it, on one line."""
    console = Console(width=200)
    with console.capture() as capture:
        for line in table(found):
            console.print(line)
    return " ".join(capture.get().split())


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
