"""Products that come and go while all runs."""

from collections.abc import Mapping

from shared.events import ProductChange
from shared.live_catalogue import Entry, LiveCatalogue
from shared.ports import Source
from tests.scenario import NOON


def change(
    product_id: int,
    *,
    retired: bool = False,
    from_offset: int | None = 0,
    outcomes_log: Source | None = None,
) -> ProductChange:
    """The product as it is from now on."""
    return ProductChange(
        product_id=product_id,
        name=f"product {product_id}",
        category="Brews",
        price=6.5,
        is_coffee=True,
        features={"is_coffee": 1.0},
        retired=retired,
        from_offset=from_offset,
        changed_at=NOON,
        outcomes_log=outcomes_log,
    )


class BusyCatalogue(LiveCatalogue):
    """Another thread adds a product after every look."""

    @property
    def entries(self) -> Mapping[int, Entry]:
        found = super().entries
        self.take(change(max(found) + 1))
        return found
