"""A confidence sequence for the difference of two click rates: true at all times at once.

Whoever looks every day and stops when the interval leaves 0 errs far more often than 5 % with an
ordinary 95 % interval. This one may be looked at after every visit.

Howard, Ramdas, McAuliffe and Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence
sequences", normal mixture (after Robbins 1970). Per variant v, with n_v visits and S_v the sum of
reward minus its mean at the time, exp(λS_v - λ²V_v/2) is a supermartingale for V_v = n_v/4, as
rewards lie in [0, 1] (Hoeffding). Averaged over λ ~ N(0, 1/ρ) and multiplied for both variants
(their visits come in any order, decided by anyone who does not know the next reward):

    Π_v √(ρ/(V_v+ρ)) exp(S_v² / (2(V_v+ρ))) < 1/α    at all times, but for a chance of α (Ville)

So (μ_1, μ_2) stay in an ellipse with half axes ∝ √(V_v+ρ)/n_v, and their difference in its shadow:

    d ± √( 2 Σ_v (V_v+ρ)/n_v² · (log 1/α + ½ Σ_v log((V_v+ρ)/ρ)) )

Nothing is assumed about the rewards but their range. They may drift, as they do while a model
learns: μ_v is then the mean of what the variant's visits so far were to be expected to earn.
"""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

RHO: Final = 50.0
"""Makes the interval narrowest at about 1,000 visits a variant."""

ALPHA: Final = 0.05


class Count(NamedTuple):
    """What one variant has seen."""

    visits: int
    reward: float
    """Sum of rewards in [0, 1]: clicks."""


def difference(one: Count, other: Count, alpha: float = ALPHA) -> tuple[float, float]:
    """Interval for the rate of `other` minus the rate of `one`; (-1, 1) while that is unknown."""
    if not one.visits or not other.visits:
        return -1.0, 1.0
    centre = other.reward / other.visits - one.reward / one.visits
    spreads = [count.visits / 4.0 + RHO for count in (one, other)]
    evidence = math.log(1.0 / alpha) + sum(math.log(spread / RHO) for spread in spreads) / 2.0
    squares = sum(s / c.visits**2 for s, c in zip(spreads, (one, other), strict=True))
    half_width = math.sqrt(2.0 * squares * evidence)
    return max(-1.0, centre - half_width), min(1.0, centre + half_width)


class Apart(NamedTuple):
    """How far a variant is from the control."""

    difference: float
    """Its rate minus the control's."""
    low: float
    high: float


def compared(counts: Mapping[str, Count], control: str) -> dict[str, Apart | None]:
    """Each variant beside the control; None for the control itself.

    All intervals together are wrong with a chance of `ALPHA` at most: they share it.

    Args:
        counts: of variants with at least one visit each.
        control: one of them.
    """
    beside, alpha = counts[control], ALPHA / max(len(counts) - 1, 1)

    def apart(count: Count) -> Apart:
        own, its = count.reward / count.visits, beside.reward / beside.visits
        return Apart(own - its, *difference(beside, count, alpha))

    return {name: None if name == control else apart(each) for name, each in counts.items()}
