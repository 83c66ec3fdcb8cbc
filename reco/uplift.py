"""What slates are worth by the hidden click model, as running sums: shown, random, best. Pure."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import numpy as np

from shared.arm_statistics import Floats, Integers
from shared.ground_truth import best_click_probability, random_click_probability

_REMEMBERED: Final = 4_096


class ExpectedClicks:
    """Sums of click probabilities over the visits seen, without the dice.

    (shown - random) / (best - random) is the share of the possible uplift that is captured. The
    probabilities of random and best slates take a while to compute, and depend on the visit only
    through its kind, of which there are few: each is computed once.
    """

    def __init__(self, k: int) -> None:
        self.shown = self.random = self.best = 0.0
        self._k = k
        self._known: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def add(self, P: Floats, kinds: Integers, slates: Sequence[Sequence[int]]) -> None:
        """Count visits.

        Args:
            P: click probability of each product in each kind of visit (kinds × K).
            kinds: of each visit, a row of P (N).
            slates: what was shown to each visit, as columns of P.
        """
        for kind, count in enumerate(np.bincount(kinds).tolist()):
            if count:
                random, best = self._possible(P[kind])
                self.random += count * random
                self.best += count * best
        lengths = np.array([len(slate) for slate in slates])
        for length in np.unique(lengths).tolist():
            alike = np.flatnonzero(lengths == length)
            columns = np.array([slates[at] for at in alike.tolist()], np.int64)
            p = P[kinds[alike, None], columns]
            self.shown += float((1.0 - np.prod(1.0 - p, axis=1)).sum())

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
