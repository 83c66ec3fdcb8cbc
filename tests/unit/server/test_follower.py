"""The thread beside the serving follows the rows and the products."""

import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from producer.new_products import NewProduct
from reco.product_changes import add, retire
from server.follower import STUCK_AFTER_S, Follower
from server.joint_solver import JointSolver
from server.model_view import ModelView
from shared.catalogue import Product
from shared.events import OUTCOMES, PRODUCTS
from shared.features import Roles
from shared.live_catalogue import LiveCatalogue
from shared.products_feed import ProductsFeed
from shared.shared_linucb import Hyperparameters
from shared.testing import FakeBroker, FakeClock, FakeStore
from tests.scenario import ARMS, CONFIG, NOON, PARTITIONS
from tests.waiting import until

PREPARED = [Product(arm, f"product {arm}", "Pizzas", 10.0, False) for arm in ARMS]
NEW = NewProduct(Product(77, "New", "Pizzas", 9.0, False), {})


ROLES = Roles(np.array([0.0, 0.0, 1.0]), np.array([1.0, 1.0, 0.0]))


class Shared(LiveCatalogue):
    """A catalogue that another thread may change once its arms have been read."""

    meanwhile: Callable[[], None] | None = None

    @property
    def arms(self) -> list[int]:
        found, change = super().arms, self.meanwhile
        self.meanwhile = None
        if change:
            change()
        return found


class Followed:
    """A catalogue on a fake broker, and followers of it."""

    def __init__(self) -> None:
        self.broker = FakeBroker({PRODUCTS: 1, OUTCOMES: PARTITIONS})
        self.catalogue = Shared(PREPARED)
        self.feed = ProductsFeed(self.broker.consumer(PRODUCTS, "alone"), self.catalogue)
        self.stop = threading.Event()
        self.clock = FakeClock()

    def follower(self, leads: bool = True) -> Follower:
        view = ModelView(FakeStore(), list(ARMS), CONFIG, PARTITIONS, 1.0, lambda: 0.0)
        return Follower(view, self.stop, self.feed, leads=leads, clock=self.clock)

    def add(self) -> None:
        consumer = self.broker.consumer(OUTCOMES, "admin")
        producer = self.broker.producer()
        log = self.broker.source(OUTCOMES)
        add([NEW], self.catalogue, producer, consumer.watermarks, lambda: log, lambda: NOON)

    def retire(self, product_id: int) -> None:
        retire([product_id], self.catalogue, self.broker.producer(), lambda: NOON)


def ranked(follower: Follower) -> list[int]:
    with follower.view.locked() as view:
        arms: list[int] = view.model.arms.tolist()
        return arms


def ranks(follower: Follower, product_id: int) -> bool:
    return product_id in ranked(follower)


def test_a_product_that_is_added_is_ranked_while_it_runs() -> None:
    followed = Followed()
    follower = followed.follower()
    follower.start()
    try:
        assert follower.await_view(20.0)
        assert not ranks(follower, 77)
        followed.add()
        until(lambda: ranks(follower, 77), "the new product ranked")
    finally:
        followed.stop.set()
        follower.join()
    assert follower.failure == ""


def test_one_that_does_not_lead_ranks_only_what_the_leader_has_read() -> None:
    followed = Followed()
    leader, other = followed.follower(), followed.follower(leads=False)
    followed.add()
    other._follow_products()
    assert not ranks(other, 77)
    leader._follow_products()
    other._follow_products()
    assert ranks(leader, 77)
    assert ranks(other, 77)


def test_what_the_leader_changes_meanwhile_comes_with_the_next_round() -> None:
    followed = Followed()
    leader = followed.follower()
    solved: list[list[int]] = []

    def solver(catalogue: LiveCatalogue, arms: Sequence[int]) -> JointSolver:
        solved.append(list(arms))
        Z = np.zeros((len(arms), 1))
        return JointSolver(arms, Z, ROLES, Hyperparameters(), estimates=False)

    view = ModelView(FakeStore(), list(ARMS), CONFIG, PARTITIONS, 1.0, lambda: 0.0)
    other = Follower(view, followed.stop, followed.feed, solver, leads=False)
    followed.add()
    leader._follow_products()
    followed.retire(ARMS[0])
    followed.catalogue.meanwhile = leader._follow_products
    for _ in range(2):
        other._follow_products()
        other.view.refresh(0.0)
        assert ranked(other) == solved[-1]
    assert solved == [[*ARMS, 77], [*ARMS[1:], 77]]


def test_a_broker_that_is_away_leaves_the_catalogue_as_it_is() -> None:
    followed = Followed()
    follower = followed.follower()
    followed.add()
    followed.broker.available = False
    follower._follow_products()
    assert not ranks(follower, 77)
    followed.broker.available = True
    follower._follow_products()
    assert ranks(follower, 77)


def test_whatever_ends_it_ends_the_serving_too(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Followed()
    follower = followed.follower()

    def fail(wait_s: float) -> None:
        raise ZeroDivisionError("nobody thought of it")

    monkeypatch.setattr(follower.view, "refresh", fail)
    follower.run()
    assert followed.stop.is_set()
    assert "nobody thought of it" in follower.failure


def test_one_that_hangs_is_missed_until_it_is_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    followed, hangs, goes_on = Followed(), threading.Event(), threading.Event()
    follower = followed.follower()
    refresh = follower.view.refresh

    def hang(wait_s: float) -> None:
        if follower.view.ready:
            hangs.set()
            goes_on.wait(20.0)
        refresh(wait_s)

    monkeypatch.setattr(follower.view, "refresh", hang)
    follower.start()
    assert hangs.wait(20.0)
    assert follower.heartbeat.not_alive() == []
    followed.clock.now_s += STUCK_AFTER_S + 1.0
    said = ["the loop that follows the model has not come round for 301 s"]
    assert follower.heartbeat.not_alive() == said
    followed.stop.set()
    goes_on.set()
    follower.join()
    followed.clock.now_s += STUCK_AFTER_S + 1.0
    assert follower.heartbeat.not_alive() == []
