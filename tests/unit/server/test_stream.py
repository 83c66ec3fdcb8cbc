from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
import numpy as np
import pytest

from producer.simulate import Shoppers
from reco.shoppers import feedback_rule, reaction
from server.delivery import AtLeastOnce, Delivery, ExactlyOnce
from server.experiment import Traffic
from server.freshness import FreshnessProbe
from server.model_view import View
from server.scorer import Model, Policy
from server.stream import StreamServer
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
from shared.ports import BrokerUnavailable, Fenced
from shared.testing import Crash, CrashPoints, FakeBroker, FakeClock
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
            Model(arms, zeros, zeros, solution, np.arange(len(arms))), [3, 1, 4], stale=False
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
    ) -> StreamServer:
        at_step: Callable[[str], None] = step or (lambda name: None)
        consumer = self.broker.consumer(VISITS, "servers")
        server = StreamServer(
            consumer,
            delivery or AtLeastOnce(self.broker.producer(), at_step),
            self.view,
            Traffic.to(Policy("linucb", alpha=0.5)),
            self.data.encoder,
            reaction(self.data, SEED, depth),
            feedback_rule(feedback, depth),
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


@pytest.fixture
def world(data: DataSet) -> World:
    return World(data)


def test_every_visit_gets_a_decision_that_says_all_that_is_needed_to_repeat_it(
    world: World,
) -> None:
    visits = {visit.visit_id: visit for visit in world.arrive(range(20))}
    served = world.server().run_once(0.0)
    decisions = world.decisions()
    assert {decision.visit_id for decision in decisions} == visits.keys()
    assert sorted(d.decision_id for d in decisions) == sorted(
        item.decision.decision_id for item in served
    )
    for decision in decisions:
        visit = visits[decision.visit_id]
        assert decision.x == world.data.encoder.encode([visit.context]).X[0].tolist()
        assert decision.view == [3, 1, 4]
        assert (decision.policy, decision.parameters) == ("linucb", {"alpha": 0.5, "lambda": 1.0})
        assert decision.encoder_id == world.data.encoder.id
        assert len({item.product_id for item in decision.slate}) == 5
        assert not decision.stale


def test_a_stale_view_is_said_in_the_decision(world: World) -> None:
    world.view.view = world.view.view._replace(stale=True)
    world.arrive([1])
    world.server().run_once(0.0)
    assert world.decisions()[0].stale


def test_ranks_up_to_the_click_get_outcomes_and_those_behind_it_none(world: World) -> None:
    world.arrive(range(200))
    served = world.server().run_once(0.0)
    by_decision: dict[str, list[Outcome]] = {}
    for outcome in world.outcomes():
        by_decision.setdefault(outcome.decision_id, []).append(outcome)
    clicked = 0
    for item in served:
        outcomes = sorted(by_decision[item.decision.decision_id], key=lambda o: o.rank)
        slate = [each.product_id for each in item.decision.slate]
        assert [o.product_id for o in outcomes] == slate[: len(outcomes)]
        assert [o.outcome_id for o in outcomes] == [
            f"{item.decision.decision_id}:{rank}" for rank in range(1, len(outcomes) + 1)
        ]
        expected = [0.0] * len(outcomes)
        if item.clicked is not None:
            clicked += 1
            assert outcomes[-1].product_id == item.clicked
            expected[-1] = 1.0
        else:
            assert len(outcomes) == 5
        assert [o.reward for o in outcomes] == expected
        assert all(o.x == item.decision.x for o in outcomes)
    assert 50 < clicked < 150


def test_a_shopper_who_looks_at_two_ranks_tells_of_two_at_most(world: World) -> None:
    world.arrive(range(50))
    world.server(depth=2).run_once(0.0)
    assert {outcome.rank for outcome in world.outcomes()} == {1, 2}


def test_top1_feedback_gives_one_outcome_a_visit(world: World) -> None:
    world.arrive(range(50))
    served = world.server(feedback="top1").run_once(0.0)
    outcomes = world.outcomes()
    assert len(outcomes) == 50
    clicks = {item.decision.decision_id: item.clicked for item in served}
    for outcome in outcomes:
        assert outcome.reward == float(clicks[outcome.decision_id] is not None)
        assert clicks[outcome.decision_id] in (None, outcome.product_id)


def test_the_same_visit_reacts_the_same_on_every_replica(data: DataSet) -> None:
    one, other = World(data), World(data)
    one.arrive(range(30))
    for number in reversed(range(30)):
        other.arrive([number])
    clicks = [
        {item.visit.visit_id: item.clicked for item in world.server().run_once(0.0)}
        for world in (one, other)
    ]
    assert clicks[0] == clicks[1]


def test_poison_among_visits_is_set_aside_and_the_rest_is_served(world: World) -> None:
    [good] = world.arrive([1])
    for value in (b"{", b"", None, encode(good).replace(b'"age":', b'"age":"x')):
        world.broker.append(VISITS, 0, b"k", value)
    server = world.server()
    assert len(server.run_once(0.0)) == 1
    letters = world.broker.records(DEAD_LETTERS, 0)
    assert [letter.value for letter in letters][:2] == [b"{", b""]
    assert all(dict(letter.headers)["topic"] == VISITS.encode() for letter in letters)
    assert server.counts.dead_letters == 4


def test_an_unknown_category_and_a_number_out_of_range_are_counted(world: World) -> None:
    visit = world.shoppers.visit(1, NOON)
    odd = msgspec.structs.replace(visit.context, traffic_source="Carrier pigeon", age=200)
    world.broker.append(VISITS, 0, b"1", encode(msgspec.structs.replace(visit, context=odd)))
    server = world.server()
    server.run_once(0.0)
    assert (server.counts.unknown_categories, server.counts.clipped) == (1, 1)


@pytest.mark.parametrize("crash_at", range(4))
def test_kill_9_of_the_server_leaves_no_visit_undecided(world: World, crash_at: int) -> None:
    visits = world.arrive(range(10))
    steps = CrashPoints(crash_at)
    victim = world.server(steps)
    with pytest.raises(Crash):
        victim.run_once(0.0)
    victim._consumer.close()
    world.server().run_once(0.0)
    decided = [decision.visit_id for decision in world.decisions()]
    assert set(decided) == {visit.visit_id for visit in visits}
    again = [decision.decision_id for decision in world.decisions()]
    assert len(set(again)) == 10  # decided again under the same id: the trainer knows it


def test_offsets_are_committed_only_after_the_acknowledgement(world: World) -> None:
    world.arrive(range(10))
    server = world.server()
    server.run_once(0.0)
    world.arrive(range(10, 20))
    world.broker.acknowledges = False
    with pytest.raises(BrokerUnavailable):
        server.run_once(0.0)
    assert sum(world.broker._groups["servers", VISITS].committed.values()) == 10
    world.broker.acknowledges = True
    assert len(server.run_once(0.0)) == 10
    assert sum(world.broker._groups["servers", VISITS].committed.values()) == 20


def test_freshness_runs_from_the_reaction_once_a_visit(world: World) -> None:
    world.arrive([1])
    world.server().run_once(0.0)
    world.clock.now_s = 0.003
    for partition in range(TOPICS[OUTCOMES]):
        world.freshness.advanced(partition, 100)
    samples = world.freshness.take_ms()
    assert samples == [3.0] * len(world.decisions())


def test_servers_of_a_group_share_the_visits(world: World) -> None:
    one, other = world.server(), world.server()
    for server in (one, other, one, other):
        server.run_once(0.0)
    world.arrive(range(40))
    served = [len(server.run_once(0.0)) for server in (one, other)]
    assert sum(served) == 40
    assert min(served) > 0


@pytest.mark.parametrize("crash_at", range(3))
def test_exactly_once_a_killed_server_leaves_every_visit_decided_once(
    world: World, crash_at: int
) -> None:
    visits = world.arrive(range(10))
    victim = world.exact(step=CrashPoints(crash_at))
    with pytest.raises(Crash):
        victim.run_once(0.0)
    victim._consumer.close()
    world.exact().run_once(0.0)
    decided = [decision.visit_id for decision in world.decisions()]
    assert sorted(decided) == sorted(visit.visit_id for visit in visits)


def test_exactly_once_what_came_meanwhile_is_one_transaction_however_much_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.stream._BLOCK", 3)
    visits, steps = world.arrive(range(20)), CrashPoints()
    served = world.exact(step=steps).run_once(0.0)
    sent = sorted(visit.visit_id for visit in visits)
    assert sorted(each.visit.visit_id for each in served) == sent
    assert sorted(decision.visit_id for decision in world.decisions()) == sent
    assert (steps.seen.count("sent"), steps.seen.count("completed")) == (7, 1)


def test_exactly_once_a_refused_commit_shows_nothing_and_the_batch_comes_again(
    world: World,
) -> None:
    world.arrive(range(10))
    server = world.exact()
    server.run_once(0.0)
    world.arrive(range(10, 20))
    world.broker.acknowledges = False
    with pytest.raises(BrokerUnavailable):
        server.run_once(0.0)
    assert len(world.decisions()) == 10
    assert server.counts.visits == 10
    world.broker.acknowledges = True
    assert len(server.run_once(0.0)) == 10
    assert len({decision.visit_id for decision in world.decisions()}) == 20
    assert (len(world.decisions()), server.counts.visits) == (20, 20)


def test_exactly_once_a_commit_without_an_answer_is_not_made_again(world: World) -> None:
    world.arrive(range(10))
    server = world.exact()
    server.run_once(0.0)
    world.arrive(range(10, 20))
    world.broker.loses_commits = 1
    with pytest.raises(BrokerUnavailable):
        server.run_once(0.0)
    assert server.run_once(0.0) == []
    assert len(world.decisions()) == 20


def test_exactly_once_a_fenced_server_drops_its_batch_and_rejoins(world: World) -> None:
    world.arrive(range(10))
    zombie = world.exact("same name")
    zombie.run_once(0.0)
    successor = world.broker.transactional_producer("same name")
    successor.begin()
    world.arrive(range(10, 20))
    with pytest.raises(Fenced):
        zombie.run_once(0.0)
    assert len(world.decisions()) == 10
    zombie.run_once(0.0)
    decided = [decision.visit_id for decision in world.decisions()]
    assert len(decided) == len(set(decided)) == 20


def test_exactly_once_who_lost_its_partitions_unaware_decides_nothing_twice(world: World) -> None:
    world.arrive(range(10))
    zombie = world.exact("one")
    zombie._consumer.poll(0, 0.0)  # joins, and reads nothing yet
    world.broker._groups["servers", VISITS].members.clear()
    heir = world.exact("other")
    assert len(heir.run_once(0.0)) == 10
    with pytest.raises(Fenced):
        zombie.run_once(0.0)
    assert len(world.decisions()) == 10


@pytest.mark.parametrize("exact", [False, True])
def test_offsets_that_were_lost_are_stored_again_though_nothing_new_comes(
    world: World, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a commit is that comes while the group divides its partitions anew."""
    world.arrive(range(40))
    server = world.exact() if exact else world.server()
    server.run_once(0.0)
    committed = world.broker._groups["servers", VISITS].committed
    reached = dict(committed)
    assert sum(reached.values()) == 40
    committed.clear()
    server.assigned(list(reached))
    monkeypatch.setattr("server.stream.POLL_RECORDS", 3)  # they come in parts
    while committed != reached:
        assert server.run_once(0.0) == []
    assert server.counts.skipped == 40
    assert len(world.decisions()) == 40


def test_offsets_that_the_broker_has_forgotten_lead_to_no_second_decision(world: World) -> None:
    world.arrive(range(10))
    server = world.exact()
    server.run_once(0.0)
    world.broker._groups["servers", VISITS].committed.clear()
    world.arrive(range(10, 20))
    world.broker.acknowledges = False
    with pytest.raises(BrokerUnavailable):
        server.run_once(0.0)  # now it asks the group, which knows nothing
    world.broker.acknowledges = True
    assert len(server.run_once(0.0)) == 10
    decided = [decision.visit_id for decision in world.decisions()]
    assert len(decided) == len(set(decided)) == 20
    assert (server.counts.visits, server.counts.skipped) == (20, 10)


def test_visits_of_a_topic_that_was_made_again_are_new(world: World) -> None:
    world.arrive(range(40))
    server = world.exact()
    server.run_once(0.0)
    world.broker.recreate(VISITS, "another")
    world.arrive(range(40, 44))
    assert len(server.run_once(0.0)) == 4
    assert server.counts.skipped == 0


def test_leaving_waits_for_the_last_offsets_where_nobody_has_yet(world: World) -> None:
    world.arrive(range(10))
    server = world.server()
    server.run_once(0.0)
    world.broker.available = False
    with pytest.raises(BrokerUnavailable):
        server.leave()
    exact = world.exact()
    exact.leave()
