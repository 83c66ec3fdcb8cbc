"""The simulated shoppers' reaction: the hidden model, asked by stream mode in their place."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec import structs

from reco.uplift import ExpectedClicks
from server.stream import React
from shared.arm_statistics import Floats, Integers
from shared.cascade import Feedback, cascade, top1
from shared.catalogue import DataSet, Product
from shared.events import Visit
from shared.ground_truth import GroundTruth
from shared.live_catalogue import LiveCatalogue

FEEDBACK: Final = ("cascade", "top1")


class _Shop:
    """The hidden model of the products there are: of new ones by the same rules."""

    def __init__(self, data: DataSet, seed: int, catalogue: LiveCatalogue | None) -> None:
        self._data = data
        self._seed = seed
        self._catalogue = catalogue
        self._version = -1
        self.update()

    def update(self) -> None:
        """Take in new products."""
        if self._catalogue is None or self._catalogue.version == self._version:
            if self._version < 0:
                self._version = 0
                self._know(self._data.products, self._data.arms)
            return
        self._version = self._catalogue.version
        entries = self._catalogue.entries  # once: another thread may change the catalogue
        # Of those that are being added, too: one that is added again may still be on a slate.
        products = [entry.product for entry in entries.values()]
        self._know(products, [arm for arm, entry in entries.items() if entry.is_ranked])

    def _know(self, products: Sequence[Product], offered: Sequence[int]) -> None:
        prices = [product.price for product in self._data.products]
        least, most = min(prices), max(prices)
        # What is dear is so by the prepared prices: a new dish does not make the others cheap.
        within = [structs.replace(p, price=min(max(p.price, least), most)) for p in products]
        self.truth = GroundTruth(within, self._data.encoder, self._seed)
        self.column = {product.product_id: i for i, product in enumerate(products)}
        here = [self.column[arm] for arm in offered]
        self.offered: Floats = self.truth.probabilities[:, here]
        """Click probabilities of the products that are ranked now."""
        self.place: Integers = np.full(len(products), -1)
        """Column in `offered` of each product; -1 of those that were retired."""
        self.place[here] = np.arange(len(here))


def reaction(
    data: DataSet,
    seed: int,
    depth: int,
    expected: ExpectedClicks | None = None,
    catalogue: LiveCatalogue | None = None,
) -> React:
    """How the shoppers of this world react to their slates, looking at the first `depth` ranks.

    The dice are a hash of seed, visit and product: whichever replica serves a visit, however often,
    the same slate gets the same reaction. What the slates are worth is added to `expected`.
    Products that `catalogue` brings later are liked by the same rules.
    """
    shop = _Shop(data, seed, catalogue)

    def react(visits: Sequence[Visit], slates: Sequence[Sequence[int]]) -> list[int | None]:
        shop.update()
        truth = shop.truth
        kinds = truth.kinds([visit.context for visit in visits])
        columns = np.array([[shop.column[product] for product in slate] for slate in slates])
        if expected is not None:
            _add(expected, shop, kinds, columns)
        of_slates: list[list[float]] = truth.probabilities[kinds[:, None], columns].tolist()
        return [
            truth.examine(visit.visit_id, slate[:depth], row[:depth])
            for visit, slate, row in zip(visits, slates, of_slates, strict=True)
        ]

    return react


def _add(expected: ExpectedClicks, shop: _Shop, kinds: Integers, columns: Integers) -> None:
    # A slate that was ranked just before one of its products was retired has no place among those
    # that are possible now.
    places = shop.place[columns]
    whole = (places >= 0).all(axis=1)
    expected.add(shop.offered, kinds[whole], places[whole])


def feedback_rule(name: str, depth: int) -> Feedback:
    """`cascade`, or for comparison `top1`, which gives only the clicked or first item an update."""
    if name == "top1":
        return top1
    return lambda clicked_rank, length: cascade(clicked_rank, length, depth)
