"""The demo's run beside the prototype's rule on the same visits: how much sooner it learns."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from reco.learners import learner
from reco.shoppers import feedback_rule
from reco.simulation import Rates, Window, simulate, windows
from reco.verdict import Expected
from reco.worlds import world_of
from server.scorer import Policy
from shared.catalogue import DataSet
from shared.events import Decision
from shared.ground_truth import slate_click_probability
from shared.settings import LAMBDA, SLATE_LENGTH
from shared.shared_linucb import Hyperparameters

RULE: Final = Policy("linucb", 1.0, LAMBDA)
"""What the prototype served with: each product for itself, α = 1."""

RULE_NAME: Final = "the prototype's rule"

_WIDTH: Final = 24


def rule_rates(data: DataSet, visits: int, seed: int, run_id: str) -> Rates:
    """The prototype's rule, simulated on the visits of this run from a cold start."""
    world = world_of("seed", data)
    bandit = learner(world, RULE, Hyperparameters(), estimates=False)
    feedback = feedback_rule("cascade", SLATE_LENGTH)
    return simulate(world, bandit, visits, seed, feedback, run_id=run_id)


def served_rates(
    visit_ids: Sequence[str],
    hidden: Expected,
    column: Mapping[int, int],
    decisions: Iterable[Decision],
) -> Rates:
    """What was served: the first decision of each visit; a visit without one got a random slate."""
    shown = hidden.random.copy()
    number = {visit_id: i for i, visit_id in enumerate(visit_ids)}
    for decision in decisions:
        row = number.pop(decision.visit_id, None)
        if row is not None:
            at = [column[item.product_id] for item in decision.slate]
            shown[row] = slate_click_probability(hidden.probabilities[row, at])
    return Rates(shown, hidden.random, hidden.best)


def compared(runs: Mapping[str, Rates]) -> dict[str, list[Window]]:
    """Windows of each run; the last one may be short."""
    return {name: windows([rates]) for name, rates in runs.items()}


def chart(curves: Mapping[str, Sequence[Window]], tell: Callable[[str], None]) -> None:
    """The share of the possible uplift by visit, as bars in a terminal."""
    tell("")
    tell("share of the possible uplift, by visit (random slates 0 %, best possible 100 %)")
    names = list(curves)
    tell(f"{'visits':>12}  " + "  ".join(f"{name:<{_WIDTH + 6}}" for name in names).rstrip())
    for row in zip(*curves.values(), strict=True):
        span = f"{row[0].start:,}-{row[0].end:,}"
        cells = (f"{_bar(window.uplift_share)} {window.uplift_share:5.0%}" for window in row)
        tell(f"{span:>12}  " + "  ".join(cells))


def _bar(share: float) -> str:
    length = round(min(max(share, 0.0), 1.0) * _WIDTH)
    return "█" * length + "·" * (_WIDTH - length)
