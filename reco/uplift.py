"""What slates are worth by the hidden click model, as running sums: shown, random, best. Pure."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import numpy as np

from shared.arm_statistics import Floats
from shared.ground_truth import (
    best_click_probability,
    random_click_probability,
    slate_click_probability,
)

_REMEMBERED: Final = 4_096


class ExpectedClicks:
    """Sums of click probabilities over the visits seen, without the dice.

    (shown - random) / (best - random) is the share of the possible uplift that is captured. The
    probabilities of random and best slates take a while to compute, and depend on the visit only
    through its row of click probabilities, of which there are few: each is computed once.
    """

    def __init__(self, k: int) -> None:
        self.shown = self.random = self.best = 0.0
        self._k = k
        self._known: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def add(self, P: Floats, slates: Sequence[Sequence[int]]) -> None:
        """Count visits.

        Args:
            P: click probability of each product (N × K).
            slates: what was shown to each visit, as columns of P.
        """
        for row, slate in zip(P, slates, strict=True):
            random, best = self._possible(row)
            self.random += random
            self.best += best
            self.shown += slate_click_probability(row[list(slate)])

    def _possible(self, row: Floats) -> tuple[float, float]:
        key = row.tobytes()
        known = self._known.get(key)
        if known is None:
            P = row[np.newaxis]
            random = random_click_probability(P, self._k)[0]
            best = best_click_probability(P, self._k)[0]
            known = self._known[key] = (float(random), float(best))
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return known
