"""Servers in stream mode on fakes, in this process."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from producer.simulate import Shoppers
from reco.shoppers import feedback_rule, reaction
from server.delivery import AtLeastOnce, Delivery, ExactlyOnce
from server.experiment import Traffic
from server.freshness import FreshnessProbe
from server.scorer import Model, Policy
from server.stream import StreamServer
from server.view import View
from shared.catalogue import DataSet
from shared.events import (
    DEAD_LETTERS,
    DECISIONS,
    OUTCOMES,
    VISITS,
    Decision,
    Outcome,
    Visit,
    decode_decision,
    decode_outcome,
    encode,
    key_of,
)
from shared.linucb import untrained
from shared.partitioner import partition_of
from shared.ports import EventConsumer
from shared.testing import CrashPoints, FakeBroker, FakeClock
from tests.scenario import NOON

TOPICS = {VISITS: 2, DECISIONS: 2, OUTCOMES: 3, DEAD_LETTERS: 1}
SEED = 5


class FixedView:
    """A view of a model that has learned nothing."""

    def __init__(self, data: DataSet) -> None:
        arms = np.array(data.arms)
        zeros = np.zeros(len(arms), np.int64)
        solution = untrained(len(arms), data.encoder.d, 1.0)
        self.view = View(
            Model(arms, zeros, zeros, solution, np.arange(len(arms))),
            [3, 1, 4],
            stale=False,
            arms_id="5c39e1b4d2f06a87",
        )

    @contextmanager
    def locked(self) -> Iterator[View]:
        yield self.view


class World:
    """A broker with visits, and servers on it."""

    def __init__(self, data: DataSet) -> None:
        self.data = data
        self.broker = FakeBroker(TOPICS)
        self.clock = FakeClock()
        self.view = FixedView(data)
        self.freshness = FreshnessProbe(TOPICS[OUTCOMES], self.clock)
        self.shoppers = Shoppers(data.users, SEED, "run")

    def server(
        self,
        step: CrashPoints | None = None,
        feedback: str = "cascade",
        depth: int = 5,
        delivery: Delivery | None = None,
        consumer: EventConsumer | None = None,
    ) -> StreamServer:
        at_step: Callable[[str], None] = step or (lambda name: None)
        consumer = consumer or self.broker.consumer(VISITS, "servers")
        server = StreamServer(
            consumer,
            delivery or AtLeastOnce(self.broker.producer(), at_step),
            self.view,
            Traffic.to(Policy("linucb", alpha=0.5)),
            self.data.encoder,
            reaction(self.data, SEED, depth),
            feedback_rule(feedback, depth),
            source=lambda: self.broker.source(VISITS),
            k=5,
            utc_now=lambda: NOON,
            clock=self.clock,
            freshness=self.freshness,
            step=at_step,
        )
        consumer.subscribe(server)
        return server

    def exact(self, name: str = "server-1", step: CrashPoints | None = None) -> StreamServer:
        """A server that writes each batch in one transaction."""
        delivery = ExactlyOnce(self.broker.transactional_producer(name))
        return self.server(step, delivery=delivery)

    def arrive(self, numbers: Sequence[int]) -> list[Visit]:
        visits = [self.shoppers.visit(number, NOON) for number in numbers]
        for visit in visits:
            key = key_of(visit.user_id)
            self.broker.append(VISITS, partition_of(key, TOPICS[VISITS]), key, encode(visit))
        return visits

    def decisions(self) -> list[Decision]:
        return [decode_decision(value) for value in self._values(DECISIONS)]

    def outcomes(self) -> list[Outcome]:
        return [decode_outcome(value) for value in self._values(OUTCOMES)]

    def _values(self, topic: str) -> list[bytes]:
        partitions = range(TOPICS[topic])
        return [r.value or b"" for p in partitions for r in self.broker.records(topic, p)]
