"""A small run of servers and a trainer, without either: decisions and the outcomes' log."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from producer.simulate import Shoppers
from reco.catalogue_history import CatalogueHistory
from reco.past_models import PastModels
from reco.policy_options import joint_solver
from reco.shoppers import feedback_rule, reaction
from server.api_types import RankRequest
from server.experiment import Traffic
from server.joint_solver import JointSolver
from server.ranking import Job, Ranker
from server.scorer import Policy
from server.view import View
from shared.catalogue import DataSet
from shared.events import OUTCOMES, Decision, Outcome, ProductChange, decode_outcome, encode, key_of
from shared.live_catalogue import arms_id
from shared.partitioner import partition_of
from shared.ports import Record
from shared.reward_window import Waiting
from shared.settings import LAMBDA
from shared.shared_linucb import Hyperparameters
from shared.testing import FakeClock
from tests.scenario import NOON
from trainer.apply import Rules

VISITS = 300
BATCH = 20
PARTITIONS = 12

Ends = list[int]
"""Next offset of each partition."""


def newest(batch: int, ends: Ends) -> Ends:
    """A view that lags behind nothing."""
    return ends


class Still:
    """Gives a view that is there already."""

    def __init__(self, view: View) -> None:
        self._view = view

    @contextmanager
    def locked(self) -> Iterator[View]:
        """See `Viewing.locked`."""
        yield self._view


class Logged:
    """What the topics hold in the end.

    Args:
        data: the shop.
        policy: what all servers rank by.
        gamma: forgetting factor.
        hyper: of a policy whose arms are solved together.
        request: what the request of a visit, by number, asks beside the context.
        changes: of the catalogue, before a batch.
        view: where the server of a batch stands, of where the log ends.
        visits: how many.
    """

    def __init__(
        self,
        data: DataSet,
        policy: Policy,
        *,
        gamma: float = 1.0,
        hyper: Hyperparameters | None = None,
        request: Callable[[int], dict[str, list[int]]] = lambda number: {},
        changes: Mapping[int, ProductChange] | None = None,
        view: Callable[[int, Ends], Ends] = newest,
        visits: int = VISITS,
    ) -> None:
        self.decisions: list[Decision] = []
        self.records: dict[int, list[Record]] = {}
        self.history = CatalogueHistory(data.products)
        self._data, self._policy, self._gamma, self._hyper = data, policy, gamma, hyper
        shoppers = Shoppers(data.users, 5, "run")
        react, feedback = reaction(data, 5, 5, catalogue=self.history), feedback_rule("cascade", 5)
        ends = [0] * PARTITIONS
        for batch, start in enumerate(range(0, visits, BATCH)):
            if changes and batch in changes:
                self.history.take(changes[batch])
            numbers = range(start, start + BATCH)
            arrived = [shoppers.visit(number, NOON) for number in numbers]
            asked = [
                {"context": msgspec.to_builtins(visit.context), **request(number)}
                for number, visit in zip(numbers, arrived, strict=True)
            ]
            jobs = [
                Job(f"d-{number}", each)
                for number, each in zip(
                    numbers, msgspec.convert(asked, list[RankRequest]), strict=True
                )
            ]
            ranker = self._ranker(view(batch, ends))
            decided = ranker.decide(jobs)
            made = [
                msgspec.structs.replace(
                    each.decision, via="stream"
                )  # what comes of it is known at once
                for each in decided
                if isinstance(each, Waiting)
            ]
            assert len(made) == len(jobs)
            shown = [[item.product_id for item in decision.slate] for decision in made]
            for decision, clicked in zip(made, react(arrived, shown), strict=True):
                for place, reward in feedback(clicked, len(decision.slate)):
                    self._publish(decision, place, reward)
            self.decisions += made
            ends = [len(self.records.get(partition, [])) for partition in range(PARTITIONS)]

    def models(self) -> PastModels:
        """As the trainer's rules and the log make them."""
        return PastModels(self.history.arms, self.rules, self.records, LAMBDA, {}, self._solver)

    @property
    def rules(self) -> Rules:
        """Those of the trainer."""
        arms = list(self.history.entries)
        return Rules.of(self._data.config_of(self._gamma), arms, PARTITIONS)

    @property
    def outcomes(self) -> list[Outcome]:
        """All of the log."""
        return [decode_outcome(r.value or b"") for log in self.records.values() for r in log]

    def _solver(self, arms: Sequence[int]) -> JointSolver | None:
        return joint_solver(self._policy.name, self._hyper, self._data, self.history, arms)

    def _ranker(self, positions: Ends) -> Ranker:
        models = self.models()  # from the log's start, so that nothing is brought forward
        models.advance(positions)
        arms = models.model.arms.tolist()
        view = View(models.model, positions, False, models.parameters, arms_id=arms_id(arms))
        return Ranker(
            Still(view),
            Traffic.to(self._policy),
            self._data.encoder,
            None,
            utc_now=lambda: NOON,
            clock=FakeClock(),
        )

    def _publish(self, decision: Decision, place: int, reward: int) -> None:
        product = decision.slate[place - 1].product_id
        outcome = Outcome(
            outcome_id=f"{decision.decision_id}:{place}",
            decision_id=decision.decision_id,
            product_id=product,
            rank=place,
            reward=float(reward),
            x=decision.x,
            encoder_id=decision.encoder_id,
            decided_at=NOON,
            resolved_at=NOON,
        )
        partition = partition_of(key_of(product), PARTITIONS)
        log = self.records.setdefault(partition, [])
        log.append(Record(OUTCOMES, partition, len(log), key_of(product), encode(outcome)))
