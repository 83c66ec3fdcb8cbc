"""What slates are worth by the hidden click model, as running sums: shown, random, best. Pure."""

import numpy as np

from shared.arm_statistics import Floats, Integers
from shared.ground_truth import ROUNDING, best_click_probability, random_click_probability


def uplift_share(shown: float, random: float, best: float) -> float:
    """(shown - random) / (best - random) of three click rates; 0 where nothing is to be gained.

    So it is where all products fit a slate: every slate is clicked alike, but for rounding.
    """
    possible = best - random
    return (shown - random) / possible if possible > ROUNDING else 0.0


class ExpectedClicks:
    """Sums of click probabilities over the visits seen, without the dice.

    (shown - random) / (best - random) is the share of the possible uplift that is captured. The
    probabilities of random and best slates take a while to compute, and depend on the visit only
    through its kind, of which there are few: they are computed once, until others are given.
    """

    def __init__(self, k: int) -> None:
        self.shown = self.random = self.best = 0.0
        self._k = k
        self._known: tuple[Floats, tuple[Floats, Floats]] | None = None

    @property
    def totals(self) -> dict[tuple[str, ...], float]:
        """The sums by what they are of, as a metric has them."""
        return {("shown",): self.shown, ("random",): self.random, ("best",): self.best}

    def add(self, P: Floats, kinds: Integers, slates: Integers) -> None:
        """Count visits.

        Args:
            P: click probability of each product in each kind of visit (kinds × K); not changed
                later, but replaced.
            kinds: of each visit, a row of P (N).
            slates: what was shown to each visit, as columns of P (N × length).
        """
        counts = np.bincount(kinds, minlength=len(P))
        random, best = self._possible(P)
        self.random += float(counts @ random)
        self.best += float(counts @ best)
        p = P[kinds[:, None], slates]
        self.shown += float((1.0 - np.prod(1.0 - p, axis=1)).sum())

    def _possible(self, P: Floats) -> tuple[Floats, Floats]:
        """Click probability of a random and of the best slate in each kind of visit."""
        if self._known is None or self._known[0] is not P:
            k = self._k
            self._known = P, (random_click_probability(P, k), best_click_probability(P, k))
        return self._known[1]
