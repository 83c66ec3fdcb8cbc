"""The simulated shoppers' reaction: the hidden model, asked by stream mode in their place."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec import structs

from reco.uplift import ExpectedClicks
from server.stream import React
from shared.arm_statistics import Floats
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
        self._know(self._catalogue.products, self._catalogue.arms)

    def _know(self, products: Sequence[Product], offered: Sequence[int]) -> None:
        prices = [product.price for product in self._data.products]
        least, most = min(prices), max(prices)
        # What is dear is so by the prepared prices: a new dish does not make the others cheap.
        within = [structs.replace(p, price=min(max(p.price, least), most)) for p in products]
        self.truth = GroundTruth(within, self._data.encoder, self._seed)
        self.column = {product.product_id: i for i, product in enumerate(products)}
        self.offered = [self.column[arm] for arm in offered]
        self.place = {column: i for i, column in enumerate(self.offered)}


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
        P = truth.click_probabilities([visit.context for visit in visits])
        columns = [[shop.column[product_id] for product_id in slate] for slate in slates]
        if expected is not None:
            _add(expected, shop, P, columns)
        of_slates: list[list[float]] = np.take_along_axis(P, np.array(columns), axis=1).tolist()
        return [
            truth.examine(visit.visit_id, slate[:depth], row[:depth])
            for visit, slate, row in zip(visits, slates, of_slates, strict=True)
        ]

    return react


def _add(expected: ExpectedClicks, shop: _Shop, P: Floats, columns: list[list[int]]) -> None:
    # A slate that was ranked just before one of its products was retired has no place among those
    # that are possible now.
    whole = [row for row, slate in enumerate(columns) if all(c in shop.place for c in slate)]
    slates = [[shop.place[column] for column in columns[row]] for row in whole]
    expected.add(P[np.ix_(whole, shop.offered)], slates)


def feedback_rule(name: str, depth: int) -> Feedback:
    """`cascade`, or for comparison `top1`, which gives only the clicked or first item an update."""
    if name == "top1":
        return top1
    return lambda clicked_rank, length: cascade(clicked_rank, length, depth)
