import numpy as np

from reco.head_to_head import RULE_NAME, chart, compared, rule_rates, served_rates
from reco.simulation import Rates
from reco.verdict import Expected
from shared.catalogue import DataSet
from shared.events import Decision, SlateItem
from tests.scenario import NOON


def decision(visit_id: str, *products: int) -> Decision:
    items = [
        SlateItem(product_id=product, score=0.0, mean=0.0, bonus=0.0, propensity=1.0)
        for product in products
    ]
    return Decision(
        decision_id=f"d-{visit_id}",
        visit_id=visit_id,
        user_id=1,
        policy="linucb",
        parameters={},
        x=[],
        encoder_id="e",
        view=[],
        slate=items,
        decided_at=NOON,
    )


def test_the_first_decision_of_each_visit_counts_and_one_without_is_random() -> None:
    hidden = Expected(
        np.array([[0.5, 0.2], [0.5, 0.2]]), np.array([0.3, 0.3]), np.array([0.6, 0.6])
    )
    decided = [decision("a", 8, 9), decision("a", 9), decision("stranger", 8)]
    rates = served_rates(["a", "b"], hidden, {8: 0, 9: 1}, decided)
    np.testing.assert_allclose(rates.shown, [0.6, 0.3])
    np.testing.assert_array_equal(hidden.random, [0.3, 0.3])


def test_the_rule_meets_the_visits_of_the_run_by_name(data: DataSet) -> None:
    one, again, other = (rule_rates(data, 30, 7, run_id) for run_id in ("demo", "demo", "else"))
    np.testing.assert_array_equal(one.shown, again.shown)
    np.testing.assert_array_equal(one.best, other.best)
    assert not np.array_equal(one.shown, other.shown)


def test_the_chart_shows_both_runs_window_by_window() -> None:
    flat = Rates(np.full(300, 0.6), np.full(300, 0.5), np.full(300, 0.7))
    poor = Rates(np.full(300, 0.4), np.full(300, 0.5), np.full(300, 0.7))
    lines: list[str] = []
    chart(compared({"shared-linucb": flat, RULE_NAME: poor}), lines.append)
    assert "shared-linucb" in lines[2]
    assert RULE_NAME in lines[2]
    assert lines[3].split()[0] == "0-200"
    assert "50%" in lines[3]
    assert "-50%" in lines[3]
    assert lines[4].split()[0] == "200-300"
