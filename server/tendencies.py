"""What the model has come to expect of whole groups of products, by time of the week. Pure."""

from collections.abc import Sequence
from copy import copy
from datetime import datetime
from itertools import product as pairs
from typing import Final

import msgspec
import numpy as np
from msgspec import structs

from server.scorer import Model
from shared.arm_statistics import Floats, Integers
from shared.catalogue import Product
from shared.events import Context
from shared.features import Encoder
from shared.linucb import means

DAYS: Final = {"weekday": 5, "weekend": 10}
"""A day of January 2026 for each: a Monday and a Saturday."""
PARTS: Final = {"morning": 9, "afternoon": 15, "evening": 21, "night": 3}
"""An hour of each."""
COFFEE: Final = "Coffee"

_SHOPPERS: Final = 1_000


class Tendencies(msgspec.Struct, frozen=True):
    """The table: a row for each group, a column for each time of the week."""

    groups: list[str]
    times: list[str]
    chances: list[list[float | None]]
    """Estimated chance of a click when looked at; None where no product was looked at yet."""
    n: list[int]
    """How often products of the group have been looked at."""


class Table:
    """Asks a model about groups of products, for the average shopper.

    Args:
        products: in the order of the model's arms.
        encoder: the model's.
        shoppers: contexts of typical shoppers; their times do not matter.
    """

    def __init__(
        self, products: Sequence[Product], encoder: Encoder, shoppers: Sequence[Context]
    ) -> None:
        self._put(products)
        self.times = [f"{day} {part}" for day, part in pairs(DAYS, PARTS)]
        # The estimate is linear in x, so that of the average x is the average estimate.
        self._X = np.stack(
            [
                _average(encoder, shoppers, DAYS[day], PARTS[part])
                for day, part in pairs(DAYS, PARTS)
            ]
        )

    def of(self, products: Sequence[Product]) -> "Table":
        """The same about other products."""
        other = copy(self)
        other._put(products)
        return other

    def _put(self, products: Sequence[Product]) -> None:
        names = [COFFEE if product.is_coffee else product.category for product in products]
        # Coffee first: it is what one looks for.
        self.groups = sorted(set(names), key=lambda name: (name != COFFEE, name))
        member = [[name == group for name in names] for group in self.groups]
        self._member = np.array(member).reshape(len(self.groups), len(names))  # of none as well

    def estimates(self, model: Model) -> Floats:
        """Times × arms: quick, for under the lock."""
        return means(self._X, model.solution)

    def tendencies(self, estimates: Floats, n: Integers) -> Tendencies:
        """Averages over each group, products weighted by how often they were looked at (n)."""
        weights = self._member * n
        totals = weights.sum(axis=1)
        averages = (weights @ estimates.T) / np.maximum(totals, 1)[:, None]
        return Tendencies(
            self.groups,
            self.times,
            [
                [round(value, 4) for value in row] if total else [None] * len(self.times)
                for row, total in zip(averages.tolist(), totals.tolist(), strict=True)
            ],
            [int(total) for total in totals.tolist()],
        )


def _average(encoder: Encoder, shoppers: Sequence[Context], day: int, hour: int) -> Floats:
    at = datetime(2026, 1, day, hour)  # noqa: DTZ001 (shop-local)
    asked = [structs.replace(shopper, occurred_at=at) for shopper in shoppers[:_SHOPPERS]]
    average: Floats = encoder.encode(asked).X.mean(axis=0)
    return average
