"""The hidden model of the simulated world, in the place of real shoppers.

Whoever learns must never look in here. The server may ask it for a reaction.
"""

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import numpy as np

from shared.arm_statistics import Floats
from shared.catalogue import Product
from shared.events import Context
from shared.features import Encoder

BASE: Final = -2.5
MORNING_COFFEE: Final = 2.5
WEEKEND_TREAT: Final = 1.8
YOUNG_AND_DEAR: Final = -3.0
FROM_SEARCH: Final = 0.5
TREATS: Final = ("Pizzas", "Burgers & Sandwiches")


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
        self._dear = (prices - prices.min()) / spread > 0.8
        self._coffee = np.array([product.is_coffee for product in products])
        self._treat = np.array([product.category in TREATS for product in products])
        if swapped:
            self._coffee, self._treat = self._treat, self._coffee
        self._base = BASE + extra
        self._age_range = encoder.ranges["age"]
        self._seed = f"{seed}|".encode()

    def click_probabilities(self, contexts: Sequence[Context]) -> Floats:
        """Probability of a click on each product when it is looked at, N × K."""
        least, most = self._age_range
        morning = np.array([6 <= context.occurred_at.hour < 12 for context in contexts])
        weekend = np.array([context.occurred_at.weekday() >= 5 for context in contexts])
        young = np.array([(context.age - least) / (most - least) < 0.25 for context in contexts])
        search = np.array([context.traffic_source == "Search" for context in contexts])
        logit = np.full((len(contexts), len(self._dear)), self._base)
        logit += MORNING_COFFEE * np.outer(morning, self._coffee)
        logit += WEEKEND_TREAT * np.outer(weekend, self._treat)
        logit += YOUNG_AND_DEAR * np.outer(young, self._dear)
        logit += FROM_SEARCH * search[:, None]
        probabilities: Floats = 1.0 / (1.0 + np.exp(-logit))
        return probabilities

    def would_click(self, visit_id: str, product_id: int, probability: float) -> bool:
        """Throw the dice of this visit and product."""
        text = self._seed + f"{visit_id}|{product_id}".encode()
        word = int.from_bytes(blake2b(text, digest_size=8).digest(), "little")
        return (word >> 11) * 2.0**-53 < probability

    def examine(
        self, visit_id: str, slate: Sequence[int], probabilities: Sequence[float] | Floats
    ) -> int | None:
        """Look from the top down until the first click; its rank (from 1), or None.

        Args:
            visit_id: whose dice.
            slate: product_ids, best first.
            probabilities: of a click on each of them.
        """
        for rank, (product_id, p) in enumerate(zip(slate, probabilities, strict=True), start=1):
            if self.would_click(visit_id, product_id, float(p)):
                return rank
        return None


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

    The mean of Π(1 - p) over all k-subsets is e_k(1 - p) / C(K, k), e_k being the elementary
    symmetric polynomial, built up product by product.
    """
    k = min(k, P.shape[1])
    e = np.zeros((k + 1, len(P)))
    e[0] = 1.0
    for q in (1.0 - P).T:
        for degree in range(k, 0, -1):
            e[degree] += q * e[degree - 1]
    result: Floats = 1.0 - e[k] / math.comb(P.shape[1], k)
    return result
