"""API and page follow a catalogue that changes; the API divides users as the stream does."""

from dataclasses import dataclass

import msgspec
import numpy as np
import pytest

from server.answers import Answers
from server.api_types import RankContext, RankRequest
from server.experiment import Traffic, parse
from server.live_feed import LiveFeed
from server.ranking import Job, Ranker
from server.scorer import Policy, seeds_of
from shared.catalogue import DataSet
from shared.events import Context
from shared.features import CONTEXT_FEATURES
from shared.live_catalogue import LiveCatalogue
from shared.reward_window import Waiting
from shared.testing import FakeClock
from tests.products import BusyCatalogue, change
from tests.scenario import NOON
from tests.unit.server.api_bench import StillView, grown

CONTEXT = Context(
    age=30,
    gender="F",
    latitude=-33.9,
    longitude=151.2,
    traffic_source="Search",
    occurred_at=NOON.replace(tzinfo=None),
)

ASKED = msgspec.convert(msgspec.to_builtins(CONTEXT), RankContext)


def test_the_api_names_new_products_and_says_which_are_retired(data: DataSet) -> None:
    catalogue = LiveCatalogue(data.products)
    answers = Answers(catalogue, CONTEXT_FEATURES)
    assert not any(product.retired for product in answers.products.products)
    catalogue.take(change(201, retired=False))
    catalogue.take(change(1, retired=True))
    found = {product.product_id: product for product in answers.products.products}
    assert (found[201].name, found[201].retired) == ("product 201", False)
    assert found[1].retired
    assert len(found) == len(data.products) + 1


def test_a_product_that_is_added_while_the_api_lists_them_is_not_called_retired(
    data: DataSet,
) -> None:
    products = Answers(BusyCatalogue(data.products), CONTEXT_FEATURES).products.products
    assert [product.product_id for product in products if product.retired] == []


def ranker(view: StillView, data: DataSet, traffic: Traffic) -> Ranker:
    return Ranker(view, traffic, data.encoder, None, utc_now=lambda: NOON, clock=FakeClock())


def test_the_api_gives_each_user_the_policy_of_the_stream(data: DataSet) -> None:
    traffic = parse("linucb:50,random:50", Policy, "e")
    jobs = [Job(f"d-{user}", RankRequest(context=ASKED, k=3, user_id=user)) for user in range(40)]
    for user, waiting in enumerate(ranker(StillView(data), data, traffic).decide(jobs)):
        assert isinstance(waiting, Waiting)
        decision = waiting.decision
        variant = traffic.variant_of(user)
        assert (decision.experiment, decision.variant) == ("e", variant.name)
        assert decision.policy == variant.policy.name
        certain = decision.slate[0].propensity == 1.0
        assert certain == (variant.name == "linucb")


def test_a_request_without_a_user_is_divided_by_its_decision(data: DataSet) -> None:
    traffic = parse("linucb:50,random:50", Policy, "e")
    jobs = [Job(f"d-{i}", RankRequest(context=ASKED, k=3)) for i in range(200)]
    decided = ranker(StillView(data), data, traffic).decide(jobs)
    names = [each.decision.variant for each in decided if isinstance(each, Waiting)]
    assert len(names) == len(jobs)
    assert 60 < names.count("random") < 140
    assert names[0] == traffic.variant_of(int(seeds_of(["d-0"])[0])).name


@dataclass
class Page:
    """The page's feed over a view whose products change."""

    view: StillView
    catalogue: LiveCatalogue
    feed: LiveFeed


@pytest.fixture
def page(data: DataSet) -> Page:
    view, catalogue = StillView(data), LiveCatalogue(data.products)
    feed = LiveFeed(view, Policy(), data, 2, None, lambda: 0.0, catalogue)
    return Page(view, catalogue, feed)


def test_the_page_follows_products_that_come_and_go(page: Page) -> None:
    _, visits, samples = page.feed.next(0, 0)
    page.catalogue.take(change(201, retired=False))
    page.catalogue.take(change(1, retired=True))
    page.view.model = grown(page.view.model, [*range(2, 201), 201])
    best = page.feed.explain(CONTEXT, 5)  # before the page has noticed
    assert best.slate[0].product_id == 201
    assert best.slate[0].name == "product 201"
    page.feed.sample()
    text, _, after = page.feed.next(visits, samples)
    assert text
    assert b'"setting":' in text
    assert b'"product 201"' in text
    assert b'"Brews"' in text  # a category of its own in the table
    again, _, _ = page.feed.next(visits, after)
    assert again is None
    assert page.feed.learning(201, CONTEXT)
    with pytest.raises(KeyError):
        page.feed.learning(1, CONTEXT)


def test_the_page_keeps_the_histories_of_products_that_stay(page: Page) -> None:
    page.view.model.solution.theta[5] += 1.0
    page.feed.sample()
    before = page.feed.learning(6, CONTEXT)
    page.view.model = grown(page.view.model, [*range(2, 201), 201])
    page.feed.sample()
    after = page.feed.learning(6, CONTEXT)
    assert [point.mean for point in after[:2]] == [point.mean for point in before[:2]]
    assert np.isfinite([point.sd for point in after]).all()


def test_a_product_that_the_catalogue_does_not_know_yet_has_a_name_all_the_same(page: Page) -> None:
    page.view.model = grown(page.view.model, [*range(1, 201), 777])
    page.feed.sample()
    assert page.feed.explain(CONTEXT, 1).slate[0].name == "product 777"
