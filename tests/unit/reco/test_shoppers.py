"""The simulated shoppers' reaction while products come and go."""

from producer.simulate import Shoppers
from reco.shoppers import reaction
from reco.uplift import ExpectedClicks
from shared.catalogue import DataSet
from shared.live_catalogue import LiveCatalogue
from tests.products import BusyCatalogue, change
from tests.scenario import NOON


def test_products_that_are_added_while_shoppers_react_stop_no_server(data: DataSet) -> None:
    catalogue = BusyCatalogue(data.products)
    react = reaction(data, 5, 5, ExpectedClicks(3), catalogue)
    visits = [Shoppers(data.users, 5, "run").visit(number, NOON) for number in range(4)]
    for _ in range(3):
        newest = catalogue.arms[-1]
        assert len(react(visits, [[42, 8, newest]] * len(visits))) == len(visits)


def test_a_product_that_is_just_being_added_again_may_be_on_a_slate(data: DataSet) -> None:
    catalogue = LiveCatalogue(data.products)
    catalogue.take(change(201))
    react = reaction(data, 5, 5, ExpectedClicks(3), catalogue)
    visit = Shoppers(data.users, 5, "run").visit(1, NOON)
    before = react([visit], [[201, 42, 8]])
    catalogue.take(change(201, from_offset=None))
    assert react([visit], [[201, 42, 8]]) == before
