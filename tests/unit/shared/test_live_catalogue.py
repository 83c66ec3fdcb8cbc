"""The catalogue follows its changes, and the last change of a product is all that counts."""

from functools import partial

import msgspec
import pytest
from confluent_kafka import KafkaError
from msgspec import structs

from shared.catalogue import Product
from shared.events import OUTCOMES, PRODUCTS, encode, key_of
from shared.live_catalogue import LiveCatalogue, arms_id
from shared.ports import BrokerUnavailable, Source
from shared.products_feed import ProductsFeed
from shared.testing import FakeBroker
from tests import products
from tests.scenario import NESTED
from tests.scripted_kafka import ScriptedClient, failure

LOG = Source("cluster", OUTCOMES, 12, topic_id="first")
SOUP = Product(1, "Soup", "Starters", 8.0, False)
FLAT_WHITE = Product(2, "Flat White", "Drinks", 5.0, True)
change = partial(products.change, from_offset=7)


def test_the_prepared_products_are_ranked_from_the_beginning() -> None:
    catalogue = LiveCatalogue([SOUP, FLAT_WHITE])
    assert catalogue.arms == [1, 2]
    assert catalogue.products == [SOUP, FLAT_WHITE]
    entry = catalogue.entry(1)
    assert entry
    assert (entry.from_offset, entry.retired) == (0, False)
    assert catalogue.version == 0


def test_a_product_is_ranked_once_its_place_in_the_log_is_known() -> None:
    catalogue = LiveCatalogue([SOUP])
    catalogue.take(change(3, from_offset=None))
    assert (catalogue.arms, catalogue.version) == ([1], 1)
    assert [product.product_id for product in catalogue.products] == [1]
    catalogue.take(change(3))
    assert (catalogue.arms, catalogue.version) == ([1, 3], 2)


def test_a_retired_product_is_known_and_not_ranked_and_may_come_back() -> None:
    catalogue = LiveCatalogue([SOUP, FLAT_WHITE])
    catalogue.take(change(2, retired=True, from_offset=0))
    assert catalogue.arms == [1]
    assert len(catalogue.products) == 2
    catalogue.take(change(2, from_offset=0))
    assert catalogue.arms == [1, 2]


def test_a_set_of_products_has_a_name_of_its_own_in_whatever_order() -> None:
    assert arms_id([192, 8, 42]) == arms_id([8, 42, 192]) == "231a4aecc430b96b"
    names = [arms_id(arms) for arms in ([], [8], [8, 42], [84, 2], [8, 4, 2], [8, 42, 192])]
    assert len(set(names)) == len(names)


def test_a_compacted_topic_gives_the_same_catalogue() -> None:
    changes = [change(3, from_offset=None), change(4), change(3), change(4, retired=True)]
    whole, compacted = LiveCatalogue([SOUP]), LiveCatalogue([SOUP])
    for each in changes:
        whole.take(each)
    for each in changes[2:]:
        compacted.take(each)
    assert whole.entries == compacted.entries


class Followed:
    """A catalogue that follows a fake topic."""

    def __init__(self) -> None:
        self.broker = FakeBroker({PRODUCTS: 1})
        self.catalogue = LiveCatalogue([SOUP])
        self.feed = ProductsFeed(self.broker.consumer(PRODUCTS, "alone"), self.catalogue)

    def put(self, value: bytes | None) -> None:
        self.broker.append(PRODUCTS, 0, key_of(3), value)


def test_a_feed_takes_in_what_is_there() -> None:
    followed = Followed()
    followed.feed.follow()
    assert followed.catalogue.version == 0
    followed.put(encode(change(3)))
    followed.put(encode(change(4)))
    followed.feed.catch_up()
    assert followed.catalogue.arms == [1, 3, 4]
    followed.put(encode(change(4, retired=True)))
    followed.feed.follow()
    assert followed.catalogue.arms == [1, 3]


def test_a_feed_passes_over_what_is_no_change(caplog: pytest.LogCaptureFixture) -> None:
    followed = Followed()
    for value in (b"{", None, NESTED, msgspec.json.encode({"product_id": 5}), encode(change(3))):
        followed.put(value)
    followed.feed.catch_up()
    assert followed.catalogue.arms == [1, 3]
    assert len(caplog.records) == 3


def test_a_feed_says_where_a_products_outcomes_begin() -> None:
    followed = Followed()
    followed.put(encode(change(3)))
    followed.put(encode(change(4, from_offset=None)))
    followed.feed.catch_up()
    assert followed.feed.first_offset(1, LOG) == 0
    assert followed.feed.first_offset(3, LOG) == 7
    assert followed.feed.first_offset(5, LOG) is None
    with pytest.raises(BrokerUnavailable, match="product 4 is being added"):
        followed.feed.first_offset(4, LOG)


@pytest.mark.parametrize(
    ("of", "now", "first"),
    [
        (LOG, LOG, 7),
        (LOG, structs.replace(LOG, topic_id="made again"), 0),
        (LOG, structs.replace(LOG, partitions=13), 0),
        (LOG, structs.replace(LOG, cluster_id="another"), 0),
        (LOG, structs.replace(LOG, topic_id=""), 7),  # a broker that has no ids
        (structs.replace(LOG, topic_id=""), LOG, 7),
        (LOG, None, 7),
        (None, LOG, 7),  # a record of before logs were named
    ],
)
def test_in_another_log_than_its_own_a_product_begins_at_the_start(
    of: Source | None, now: Source | None, first: int
) -> None:
    followed = Followed()
    followed.put(encode(change(3, outcomes_log=of)))
    followed.feed.catch_up()
    assert followed.feed.first_offset(3, now) == first
    assert followed.catalogue.arms == [1, 3]


def test_a_product_that_comes_beside_an_error_is_known() -> None:
    followed = Followed()
    followed.put(encode(change(3)))
    client = ScriptedClient({0: followed.broker.records(PRODUCTS, 0)})
    client.beside = [failure(0, KafkaError.TOPIC_AUTHORIZATION_FAILED)]
    feed = ProductsFeed(client.consumer(PRODUCTS), followed.catalogue)
    feed.catch_up()
    assert followed.catalogue.arms == [1, 3]


def test_a_feed_whose_broker_is_away_says_so() -> None:
    followed = Followed()
    followed.broker.available = False
    with pytest.raises(BrokerUnavailable):
        followed.feed.catch_up()
