"""The catalogue with all that it once was: what a decision was chosen from, by its name. Pure."""

from collections.abc import Iterable

from shared.catalogue import Product
from shared.events import ProductChange
from shared.live_catalogue import LiveCatalogue, arms_id


class CatalogueHistory(LiveCatalogue):
    """A catalogue that keeps its changes.

    What compaction has taken from the topic `products` is missing here as well.

    Args:
        products: the prepared ones.
    """

    def __init__(self, products: Iterable[Product]) -> None:
        self._prepared = list(products)
        self._changes: list[ProductChange] = []
        super().__init__(self._prepared)

    def take(self, change: ProductChange) -> None:
        """See `LiveCatalogue.take`."""
        self._changes.append(change)
        super().take(change)

    def sets(self, wanted: Iterable[str | None]) -> dict[str | None, list[int]]:
        """What was ranked at some time, in the catalogue's order, by its name.

        Those that were never ranked as far as is known here are left out.

        Args:
            wanted: names (`shared.live_catalogue.arms_id`). None is that of decisions of before
                sets had names: the one set there is, while there have been no changes.
        """
        missing, found = set(wanted), dict[str | None, list[int]]()
        past = LiveCatalogue(self._prepared)
        if None in missing and not self._changes:
            found[None] = past.arms
        missing.discard(None)
        changes = iter(self._changes)
        while missing:
            name = arms_id(past.arms)
            if name in missing:
                found[name] = past.arms
                missing.discard(name)
            if (change := next(changes, None)) is None:
                break
            past.take(change)
        return found
