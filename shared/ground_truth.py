"""The hidden model of the simulated world, in the place of real shoppers.

Whoever learns must never look in here. The server may ask it for a reaction.
"""

import itertools
import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import numpy as np

from shared.arm_statistics import Floats, Integers
from shared.catalogue import Product
from shared.events import Context
from shared.features import Encoder

BASE: Final = -2.5
MORNING_COFFEE: Final = 2.5
WEEKEND_TREAT: Final = 1.8
YOUNG_AND_DEAR: Final = -3.0
FROM_SEARCH: Final = 0.5
TREATS: Final = ("Pizzas", "Burgers & Sandwiches")

ROUNDING: Final = 1e-12
"""Click rates that differ by less are the same."""


class GroundTruth:
    """Click probabilities by four rules, and dice that fall the same for whoever throws them.

    Args:
        products: the catalogue; their order is that of the columns.
        encoder: for the range of ages.
        seed: of the dice.
        extra: added to each product's logit: a liking that no feature explains.
        swapped: coffee is liked at the weekend, pizza and burgers in the morning.
    """

    def __init__(
        self,
        products: Sequence[Product],
        encoder: Encoder,
        seed: int,
        *,
        extra: Floats | float = 0.0,
        swapped: bool = False,
    ) -> None:
        prices = np.array([product.price for product in products])
        spread = float(prices.max() - prices.min()) or 1.0
        dear = (prices - prices.min()) / spread > 0.8
        coffee = np.array([product.is_coffee for product in products])
        treat = np.array([product.category in TREATS for product in products])
        if swapped:
            coffee, treat = treat, coffee
        # The rules know sixteen kinds of visit: one row each.
        morning, weekend, young, search = np.array(list(itertools.product((0, 1), repeat=4))).T
        logit = np.full((16, len(products)), BASE + extra)
        logit += MORNING_COFFEE * np.outer(morning, coffee)
        logit += WEEKEND_TREAT * np.outer(weekend, treat)
        logit += YOUNG_AND_DEAR * np.outer(young, dear)
        logit += FROM_SEARCH * search[:, None]
        self.probabilities: Floats = 1.0 / (1.0 + np.exp(-logit))
        """Of a click on each product when it is looked at, for each kind of visit: 16 × K."""
        self._age_range = encoder.ranges["age"]
        self._seed = f"{seed}|".encode()

    def click_probabilities(self, contexts: Sequence[Context]) -> Floats:
        """Probability of a click on each product when it is looked at, N × K."""
        return self.probabilities.take(self.kinds(contexts), axis=0)

    def kinds(self, contexts: Sequence[Context]) -> Integers:
        """Which row of `probabilities` each visit has, N."""
        least, most = self._age_range
        hours = np.array([context.occurred_at.hour for context in contexts])
        weekend = np.array([context.occurred_at.weekday() >= 5 for context in contexts])
        ages = np.array([context.age for context in contexts])
        search = np.array([context.traffic_source == "Search" for context in contexts])
        morning, young = (hours >= 6) & (hours < 12), (ages - least) / (most - least) < 0.25
        kinds: Integers = 8 * morning + 4 * weekend + 2 * young + search
        return kinds

    def would_click(self, visit_id: str, product_id: int, probability: float) -> bool:
        """Throw the dice of this visit and product."""
        return self._thrown(self._dice_of(visit_id), product_id) < probability

    def examine(
        self, visit_id: str, slate: Sequence[int], probabilities: Sequence[float] | Floats
    ) -> int | None:
        """Look from the top down until the first click; its rank (from 1), or None.

        Args:
            visit_id: whose dice.
            slate: product_ids, best first.
            probabilities: of a click on each of them.
        """
        dice = self._dice_of(visit_id)
        for rank, (product_id, p) in enumerate(zip(slate, probabilities, strict=True), start=1):
            if self._thrown(dice, product_id) < p:
                return rank
        return None

    def _dice_of(self, visit_id: str) -> blake2b:
        return blake2b(self._seed + f"{visit_id}|".encode(), digest_size=8)

    @staticmethod
    def _thrown(dice: blake2b, product_id: int) -> float:
        own = dice.copy()
        own.update(b"%d" % product_id)
        return (int.from_bytes(own.digest(), "little") >> 11) * 2.0**-53


def slate_click_probability(p: Floats) -> float:
    """Probability that a slate is clicked: 1 - Π(1 - p) over its items."""
    return float(1.0 - np.prod(1.0 - p))


def best_click_probability(P: Floats, k: int) -> Floats:
    """Click probability of the best possible k-slate, N, from the probabilities of all (N × K)."""
    k = min(k, P.shape[1])
    best = np.partition(P, -k, axis=1)[:, -k:]
    result: Floats = 1.0 - np.prod(1.0 - best, axis=1)
    return result


def random_click_probability(P: Floats, k: int) -> Floats:
    """Click probability of a uniformly random k-slate, exactly, N.

    Where it is as good as the best (all products fit, or are liked alike), it is equal to that, to
    the bit. The mean of Π(1 - p) over all k-subsets is e_k(1 - p) / C(K, k), e_k being the
    elementary symmetric polynomial, built up product by product.
    """
    k = min(k, P.shape[1])
    e = np.zeros((k + 1, len(P)))
    e[0] = 1.0
    for q in (1.0 - P).T:
        for degree in range(k, 0, -1):
            e[degree] += q * e[degree - 1]
    drawn, best = 1.0 - e[k] / math.comb(P.shape[1], k), best_click_probability(P, k)
    # Where all slates are alike, the two differ by rounding, and a share of that means nothing.
    result: Floats = np.where(best - drawn > ROUNDING, drawn, best)
    return result
