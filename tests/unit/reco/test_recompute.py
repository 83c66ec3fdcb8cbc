"""Any decision follows from the logs alone, whatever the policy."""

from collections.abc import Iterator

import numpy as np
import pytest
from msgspec import structs

from reco.catalogue_history import CatalogueHistory
from reco.policy_options import joint_solver
from reco.recompute import CannotRecompute, recompute
from server.joint_solver import JointSolver
from server.model_view import ModelView
from server.restriction import allowed, part
from server.scorer import JOINT, Policy, rank, seeds_of
from shared.catalogue import DataSet
from shared.events import OUTCOMES as TOPIC
from shared.events import PRODUCTS, Decision, Outcome, ProductChange, encode, key_of
from shared.partitioner import partition_of
from shared.products_feed import ProductsFeed
from shared.shared_linucb import Hyperparameters
from shared.testing import FakeBroker, FakeClock, FakeStore
from tests.products import change
from tests.scenario import NOON
from trainer.apply import Rules
from trainer.loop import Trainer

PARTITIONS = 3
"""Kept few, for a short test."""
D = 15


class Shop:
    """A trainer and a server's view on a fake broker and store."""

    def __init__(self, data: DataSet, policy: Policy, hyper: Hyperparameters | None = None) -> None:
        self.data, self.policy = data, policy
        self.broker = FakeBroker({TOPIC: PARTITIONS, PRODUCTS: 1})
        self.history = CatalogueHistory(data.products)
        self._products = ProductsFeed(self.broker.consumer(PRODUCTS, "shop"), self.history)
        self.clock, store = FakeClock(), FakeStore()
        self.rules = Rules.of(data.config, data.arms, PARTITIONS, newcomers=self._products)
        consumer = self.broker.consumer(TOPIC, "g", reset="error")
        self.trainer = Trainer(
            consumer,
            self.broker.producer(),
            store,
            lambda: self.broker.source(TOPIC),
            self.rules,
            writer="w",
            clock=self.clock,
        )
        consumer.subscribe(self.trainer)
        joint = (
            JointSolver(data.arms, data.features, data.encoder.roles, hyper or Hyperparameters())
            if policy.name in JOINT
            else None
        )
        self.view = ModelView(
            store, data.arms, data.config, PARTITIONS, 1.0, self.clock, joint=joint
        )
        self._rng = np.random.default_rng(7)

    def learn(self, count: int, batch: int) -> None:
        """Outcomes come, and the view follows them a few at a time."""
        for number in range(count):
            arm = int(self._rng.choice(self.history.arms))
            outcome = Outcome(
                outcome_id=f"d-{self._rng.integers(2**62)}:1",
                decision_id="d",
                product_id=arm,
                rank=1,
                reward=float(self._rng.random() < 0.2),
                x=self._rng.random(D).tolist(),
                encoder_id=self.data.encoder.id,
                decided_at=NOON,
                resolved_at=NOON,
            )
            partition = partition_of(key_of(arm), PARTITIONS)
            self.broker.append(TOPIC, partition, key_of(arm), encode(outcome))
            if number % batch == batch - 1:
                self.catch_up()
        self.catch_up()

    def catch_up(self) -> None:
        for _ in range(3):
            self.clock.now_s += 3.0
            self.trainer.run_once(0.0)
            self.view.refresh()

    def change(self, change: ProductChange) -> None:
        """A product comes or goes, for trainer and server."""
        self.broker.append(PRODUCTS, 0, key_of(change.product_id), encode(change))
        self._products.catch_up()
        joint = joint_solver(self.policy.name, None, self.data, self.history)
        self.view.rank_these(self.history.arms, joint)
        self.catch_up()

    def decide(
        self, number: int, candidates: list[int] | None = None, exclude: list[int] | None = None
    ) -> Decision:
        x = self._rng.random(D)
        decision_id = f"d-{number}"
        with self.view.locked() as view:
            model = part(view.model, allowed(view.model.arms, candidates, exclude))
            [slate] = rank(self.policy, model, x[None], seeds_of([decision_id]), 5)
            return Decision(
                decision_id=decision_id,
                visit_id="v",
                user_id=1,
                policy=self.policy.name,
                parameters=self.policy.parameters | view.parameters,
                x=x.tolist(),
                encoder_id=self.data.encoder.id,
                view=view.positions,
                slate=slate,
                decided_at=NOON,
                arms_id=view.arms_id,
                candidates=candidates,
                exclude=exclude,
            )


def decisions(shop: Shop) -> Iterator[Decision]:
    """Some early, some late, some before the variances were estimated and some after."""
    for number, count in enumerate((0, 7, 150, 150)):
        shop.learn(count, batch=40)
        yield shop.decide(number)


@pytest.mark.parametrize("name", ["linucb", "shared-linucb", "shared", "lints", "popularity"])
def test_a_decision_is_computed_again_from_the_log_alone(data: DataSet, name: str) -> None:
    shop = Shop(data, Policy(name))
    for decision in list(decisions(shop)):
        consumer = shop.broker.consumer(TOPIC, "again", reset="error")
        slate = recompute(decision, consumer, shop.rules, data)
        assert [item.product_id for item in slate] == [i.product_id for i in decision.slate]
        np.testing.assert_allclose(
            [item.score for item in slate],
            [item.score for item in decision.slate],
            rtol=0,
            atol=1e-12,
        )


@pytest.mark.parametrize("name", ["linucb", "shared-linucb", "lints"])
def test_a_decision_is_computed_again_from_the_products_that_it_was_chosen_from(
    data: DataSet, name: str
) -> None:
    shop = Shop(data, Policy(name))
    shop.learn(100, batch=50)
    made = [shop.decide(1), shop.decide(2, candidates=data.arms[:9]), shop.decide(3, None, [192])]
    best = made[0].slate[0].product_id
    shop.change(change(best, retired=True))
    shop.change(change(201))
    shop.learn(100, batch=50)
    made += [shop.decide(4), shop.decide(5, None, data.arms[:150]), shop.decide(6, [201])]
    for decision in made:
        consumer = shop.broker.consumer(TOPIC, "again", reset="error")
        slate = recompute(decision, consumer, shop.rules, data, shop.history)
        assert [item.product_id for item in slate] == [i.product_id for i in decision.slate]
        scores = [item.score for item in decision.slate]
        assert [item.score for item in slate] == pytest.approx(scores, abs=1e-12)
    assert made[-1].slate[0].product_id == 201
    with pytest.raises(CannotRecompute, match="a set of products"):
        recompute(made[-1], shop.broker.consumer(TOPIC, "again"), shop.rules, data)
    old = structs.replace(made[0], arms_id=None)
    with pytest.raises(CannotRecompute, match="does not say which products"):
        recompute(old, shop.broker.consumer(TOPIC, "again"), shop.rules, data, shop.history)


def test_of_a_log_that_no_longer_holds_all_nothing_is_computed_again(data: DataSet) -> None:
    shop = Shop(data, Policy())
    shop.learn(30, batch=30)
    decision = shop.decide(1)
    beyond = structs.replace(decision, view=[1_000, *decision.view[1:]])
    with pytest.raises(CannotRecompute, match="or the log is another"):
        recompute(beyond, shop.broker.consumer(TOPIC, "again"), shop.rules, data)
    shop.broker.trim(TOPIC, 1, 2)
    with pytest.raises(CannotRecompute, match="partition 1 of the outcomes' log holds 2 to"):
        recompute(decision, shop.broker.consumer(TOPIC, "again"), shop.rules, data)


def test_a_record_without_the_variances_is_refused(data: DataSet) -> None:
    shop = Shop(data, Policy("shared-linucb"))
    shop.catch_up()
    bare = structs.replace(shop.decide(1), parameters={"alpha": 1.4})
    with pytest.raises(CannotRecompute, match="lack tau2"):
        recompute(bare, shop.broker.consumer(TOPIC, "again"), shop.rules, data)


def test_a_record_from_before_there_were_ratios_is_computed_as_it_was_then(data: DataSet) -> None:
    shop = Shop(data, Policy("shared-linucb"), Hyperparameters(rho=0.0, nu=1.0))
    shop.learn(150, batch=40)
    decision = shop.decide(1)
    said = {name: v for name, v in decision.parameters.items() if name not in ("rho", "nu")}
    old = structs.replace(decision, parameters=said)
    slate = recompute(old, shop.broker.consumer(TOPIC, "again"), shop.rules, data)
    assert [item.product_id for item in slate] == [item.product_id for item in decision.slate]
    assert [item.score for item in slate] == pytest.approx([i.score for i in decision.slate])


def test_another_data_folder_is_refused(data: DataSet) -> None:
    shop = Shop(data, Policy())
    shop.catch_up()
    other = structs.replace(shop.decide(1), encoder_id="other")
    with pytest.raises(CannotRecompute, match="use the folder"):
        recompute(other, shop.broker.consumer(TOPIC, "again"), shop.rules, data)


def test_an_unknown_policy_is_refused(data: DataSet) -> None:
    shop = Shop(data, Policy())
    shop.catch_up()
    other = structs.replace(shop.decide(1), policy="clairvoyance")
    with pytest.raises(CannotRecompute, match="clairvoyance"):
        recompute(other, shop.broker.consumer(TOPIC, "again"), shop.rules, data)
