"""How the policies of an experiment compare, visit by visit, for the live page. Pure."""

from typing import Final

import msgspec

from server.settling import Judged
from shared.confidence import ALPHA, Apart, Tally, compared

MOST_VARIANTS: Final = 16
"""Further ones are not shown: a page has only so much room, and memory is bounded."""


class VariantSeen(msgspec.Struct, frozen=True):
    """One variant of an experiment, beside the first by name."""

    variant: str
    visits: int
    clicks: int
    click_rate: float
    uplift_share: float | None
    """Of what is possible over random slates, where a simulator knows it."""
    difference: float | None
    """Click rate minus the control's; None for the control itself."""
    low: float | None
    """The difference's confidence sequence: holds at whatever time one looks."""
    high: float | None


class ExperimentSeen(msgspec.Struct, frozen=True):
    """An experiment since this server has been watching."""

    experiment: str
    confidence: float
    """Of all intervals together."""
    variants: list[VariantSeen]
    """The control first."""


class _Sums:
    def __init__(self) -> None:
        self.tally = Tally()
        self.random = self.best = 0.0


class ExperimentTally:
    """Adds up the visits of the experiment that was met last.

    Args:
        hidden_known: whether the click rates of random and best slates are known.
    """

    def __init__(self, hidden_known: bool) -> None:
        self._hidden_known = hidden_known
        self._experiment: str | None = None
        self._sums: dict[str, _Sums] = {}

    def add(self, visit: Judged) -> None:
        """One visit; one outside of an experiment does not count."""
        experiment, variant = visit.experiment, visit.variant
        if experiment is None or variant is None:
            return
        if experiment != self._experiment:
            self._experiment, self._sums = experiment, {}
        if variant not in self._sums and len(self._sums) == MOST_VARIANTS:
            return
        sums = self._sums.setdefault(variant, _Sums())
        sums.tally.add(visit.visitor, float(visit.clicked))
        sums.random += visit.random
        sums.best += visit.best

    def seen(self) -> ExperimentSeen | None:
        """How it stands; None while there is none."""
        if self._experiment is None:
            return None
        names = sorted(self._sums)
        counts = {name: self._sums[name].tally.count for name in names}
        apart = compared(counts, names[0])
        variants = [self._variant(name, apart[name]) for name in names]
        return ExperimentSeen(self._experiment, 1.0 - ALPHA, variants)

    def _variant(self, name: str, apart: Apart | None) -> VariantSeen:
        sums = self._sums[name]
        count, possible = sums.tally.count, sums.best - sums.random
        known = self._hidden_known and possible > 0.0
        share = (count.reward - sums.random) / possible if known else None
        return VariantSeen(
            *(name, count.visits, int(count.reward), count.rate, share),
            *(apart or (None, None, None)),
        )
