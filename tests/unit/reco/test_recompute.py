"""Any decision follows from the log alone, whatever the policy."""

from collections.abc import Iterator

import numpy as np
import pytest
from msgspec import structs

from reco.recompute import CannotRecompute, recompute
from server.joint_solver import JointSolver
from server.model_view import ModelView
from server.scorer import JOINT, Policy, rank, seeds_of
from shared.catalogue import DataSet
from shared.events import OUTCOMES as TOPIC
from shared.events import Decision, Outcome, encode, key_of
from shared.shared_linucb import Hyperparameters
from shared.testing import FakeBroker, FakeClock, FakeStore
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
        self.broker = FakeBroker({TOPIC: PARTITIONS})
        self.clock, store = FakeClock(), FakeStore()
        self.rules = Rules.of(data.config, data.arms, PARTITIONS)
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
            arm = int(self._rng.choice(self.data.arms))
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
            self.broker.append(TOPIC, self.rules.partitions[arm], key_of(arm), encode(outcome))
            if number % batch == batch - 1:
                self.catch_up()
        self.catch_up()

    def catch_up(self) -> None:
        for _ in range(3):
            self.clock.now_s += 3.0
            self.trainer.run_once(0.0)
            self.view.refresh()

    def decide(self, number: int) -> Decision:
        x = self._rng.random(D)
        decision_id = f"d-{number}"
        with self.view.locked() as view:
            [slate] = rank(self.policy, view.model, x[None], seeds_of([decision_id]), 5)
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
