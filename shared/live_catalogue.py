"""The catalogue as it is now: the prepared products, and the changes that came on `products`. Pure.

Whoever folds the same changes has the same catalogue. A change is the product's whole state, so the
topic can be compacted to the last one of each product.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import NamedTuple

from shared.catalogue import Product
from shared.events import ProductChange
from shared.ports import Source


class Entry(NamedTuple):
    """What is known of a product."""

    product: Product
    features: dict[str, float]
    """By name; empty for prepared products, whose features are in the data folder."""
    retired: bool
    from_offset: int | None
    """First outcomes offset of its partition that may be the product's; None while it is added."""
    log: Source | None = None
    """The outcomes log that this offset is of; None: of every log."""

    @property
    def was_ranked(self) -> bool:
        """Whether it is ranked, or was before it was retired."""
        return self.from_offset is not None

    @property
    def is_ranked(self) -> bool:
        """Whether it is ranked now."""
        return self.was_ranked and not self.retired

    def first_offset(self, log: Source | None) -> int | None:
        """The first offset of this log that may be the product's; None while it is added.

        A log that was made after the product has outcomes of it from the start: its offset says
        nothing there.
        """
        if self.from_offset is None or self.log is None or log is None:
            return self.from_offset
        return self.from_offset if self.log.is_same_log(log) else 0


def arms_id(arms: Iterable[int]) -> str:
    """Names a set of product_ids, in whatever order: 16 hexadecimal digits.

    A decision says by it what could have been shown, and whoever has the catalogue's changes finds
    the set again (`reco.catalogue_history`).
    """
    text = ",".join(map(str, sorted(arms)))
    return blake2b(text.encode(), digest_size=8).hexdigest()


class LiveCatalogue:
    """Products by id; grows with every change.

    Args:
        products: the prepared ones.
    """

    def __init__(self, products: Iterable[Product]) -> None:
        self.version = 0
        """Counts the changes."""
        self._entries = {
            product.product_id: Entry(product, {}, retired=False, from_offset=0)
            for product in products
        }

    @property
    def entries(self) -> Mapping[int, Entry]:
        """All products ever known, the prepared ones first. For any thread.

        Whoever needs to know several things of them derives all from one look: the next one may
        find more products.
        """
        return dict(self._entries)

    @property
    def arms(self) -> list[int]:
        """What is ranked, in the order in which it became known."""
        return [arm for arm, entry in self.entries.items() if entry.is_ranked]

    @property
    def products(self) -> list[Product]:
        """All products that were ever ranked, retired ones too: their history remains."""
        return [entry.product for entry in self.entries.values() if entry.was_ranked]

    def entry(self, product_id: int) -> Entry | None:
        """One product; None if it is not known."""
        return self._entries.get(product_id)

    def take(self, change: ProductChange) -> None:
        """The next change of the topic."""
        product = Product(
            change.product_id, change.name, change.category, change.price, change.is_coffee
        )
        self._entries[change.product_id] = Entry(
            product, change.features, change.retired, change.from_offset, change.outcomes_log
        )
        self.version += 1
