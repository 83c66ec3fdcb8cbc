"""The sets of products that a catalogue has had are found by their names."""

from msgspec import structs

from reco.catalogue_history import CatalogueHistory
from shared.catalogue import Product
from shared.events import ProductChange
from shared.live_catalogue import arms_id
from tests.scenario import NOON

SOUP = Product(1, "Soup", "Starters", 8.0, False)
FLAT_WHITE = Product(2, "Flat White", "Drinks", 5.0, True)
COLD_BREW = ProductChange(
    product_id=3,
    name="Cold Brew",
    category="Drinks",
    price=6.5,
    is_coffee=True,
    features={},
    retired=False,
    from_offset=None,
    changed_at=NOON,
)
PLACED = structs.replace(COLD_BREW, from_offset=7)


def changed() -> CatalogueHistory:
    """Cold Brew came, the soup went and came back, Cold Brew went."""
    history = CatalogueHistory(iter([SOUP, FLAT_WHITE]))
    soup = structs.replace(PLACED, product_id=1, name="Soup", from_offset=0)
    gone, retired = structs.replace(soup, retired=True), structs.replace(PLACED, retired=True)
    for change in (COLD_BREW, PLACED, gone, soup, retired):
        history.take(change)
    return history


def test_a_set_is_found_in_the_catalogues_order_whenever_it_was_ranked() -> None:
    history = changed()
    assert history.arms == [1, 2]
    sets = [[1, 2], [1, 2, 3], [2, 3]]
    names = [arms_id(arms) for arms in sets]
    assert history.sets(names) == dict(zip(names, sets, strict=True))


def test_a_set_that_never_was_is_not_found() -> None:
    assert changed().sets([arms_id([3]), arms_id([1, 3]), arms_id([])]) == {}


def test_the_set_of_decisions_that_name_none_is_known_while_nothing_has_changed() -> None:
    assert CatalogueHistory([SOUP, FLAT_WHITE]).sets([None]) == {None: [1, 2]}
    assert changed().sets([None]) == {}
