"""A confidence sequence for the difference of two click rates: true at all times at once.

Whoever looks every day and stops when the interval leaves 0 errs far more often than 5 % with an
ordinary 95 % interval. This one may be looked at after every visit.

An experiment divides users, not visits, and a user's visits are alike. So the unit is the user:
per variant v with n_v visits and rate r_v = rewards / visits (Liang and Zeger 1986, linearised),

    C_v = U/(U-1) Σ_u (rewards of u - r_v · visits of u)²     over its U users
    B_v = n_v r_v (1 - r_v)                                   if each visit were a unit
    f_v = max(1, C_v / B_v)                                   the design effect (Kish 1965)

f_v is never below 1: where a user's first visit differs from later ones, they may offset each
other in C_v, but not on the way. The boundary is the normal mixture (Robbins 1970) over both
variants, with estimated variances (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024,
"Time-uniform central limit theory and asymptotic confidence sequences"), by which the sums S_v of
rewards minus r_v's mean stay in Π_v √(ρ/(B_v+ρ)) exp(S_v² / (2 f_v (B_v+ρ))) < 1/α. So (μ_1, μ_2)
stay in an ellipse, and their difference in its shadow:

    d ± √( 2 Σ_v f_v (B_v+ρ)/n_v² · (log 1/α + ½ Σ_v log((B_v+ρ)/ρ)) )

μ_v is what all users together would by now have earned per visit with this variant, as the models
were at each time: rates may drift while they learn. What is assumed:

- Users come to a variant by chance, and one's clicks tell nothing of another's but through what
  the models have learned.
- The central limit theorem, over users: below `LEAST_USERS`, each weighed by how often it visits,
  the interval is everything. ρ keeps it wide while clicks are few.
- A user's visits are alike rather than opposite: then the sums at two times are no less
  correlated than those of independent visits, and leave the boundary no more often (Slepian 1962).

`python -m tests.benchmarks.false_alarms` measures how often it errs.
"""

import math
import zlib
from collections.abc import Mapping
from typing import Final, NamedTuple

RHO: Final = 50.0
"""Makes the interval narrowest at about 1,000 visits a variant where half of them are clicked."""

ALPHA: Final = 0.05

LEAST_USERS: Final = 30
"""Effective users a variant needs: (Σ visits)² / Σ visits², over users."""

GROUPS: Final = 4_096
"""Users of a variant are put together in at most so many groups, so that memory is bounded.

Groups are as independent as users: only their variance is known a little less well.
"""


class Count(NamedTuple):
    """What one variant has seen."""

    visits: int
    reward: float
    """Sum of rewards in [0, 1]: clicks."""
    users: int
    """Or groups of users, like the sums of squares."""
    visits_squared: float
    """Σ over users of a user's visits²."""
    visits_by_reward: float
    """Σ of visits · reward."""
    reward_squared: float
    """Σ of reward²."""

    @property
    def rate(self) -> float:
        """Reward per visit."""
        return self.reward / self.visits

    @property
    def effective_users(self) -> float:
        """As many users of equally many visits would know as much; 0 without visits."""
        return self.visits**2 / self.visits_squared if self.visits else 0.0

    @property
    def binomial_variance(self) -> float:
        """Of the sum of rewards, if visits were independent."""
        return self.visits * self.rate * max(1.0 - self.rate, 0.0)

    @property
    def design_effect(self) -> float:
        """How many times that it is, since a user's visits are alike."""
        if self.binomial_variance <= 0.0 or self.users < 2:
            return 1.0
        squares = (
            self.reward_squared
            - 2.0 * self.rate * self.visits_by_reward
            + self.rate**2 * self.visits_squared
        )
        return max(1.0, squares * self.users / (self.users - 1) / self.binomial_variance)


class Tally:
    """Adds up the visits of one variant."""

    def __init__(self) -> None:
        self._groups: dict[int, tuple[int, float]] = {}
        self._visits, self._reward = 0, 0.0
        self._visits_squared = self._visits_by_reward = self._reward_squared = 0.0

    def add(self, user: str, reward: float) -> None:
        """One visit.

        Args:
            user: who came.
            reward: in [0, 1].
        """
        group = zlib.crc32(user.encode()) % GROUPS
        visits, before = self._groups.get(group, (0, 0.0))
        self._groups[group] = visits + 1, before + reward
        self._visits += 1
        self._reward += reward
        self._visits_squared += 2 * visits + 1
        self._visits_by_reward += before + (visits + 1) * reward
        self._reward_squared += (2.0 * before + reward) * reward

    @property
    def count(self) -> Count:
        """So far."""
        return Count(
            self._visits,
            self._reward,
            len(self._groups),
            self._visits_squared,
            self._visits_by_reward,
            self._reward_squared,
        )


def enough_users(count: Count) -> bool:
    """The central limit theorem may be relied on."""
    return count.effective_users >= LEAST_USERS


def difference(one: Count, other: Count, alpha: float = ALPHA) -> tuple[float, float]:
    """Interval for the rate of `other` minus the rate of `one`; (-1, 1) while that is unknown."""
    if not enough_users(one) or not enough_users(other):
        return -1.0, 1.0
    centre = other.rate - one.rate
    spreads = [count.binomial_variance + RHO for count in (one, other)]
    evidence = math.log(1.0 / alpha) + sum(math.log(spread / RHO) for spread in spreads) / 2.0
    squares = sum(
        count.design_effect * spread / count.visits**2
        for count, spread in zip((one, other), spreads, strict=True)
    )
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
        return Apart(count.rate - beside.rate, *difference(beside, count, alpha))

    return {name: None if name == control else apart(each) for name, each in counts.items()}
