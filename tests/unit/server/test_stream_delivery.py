import pytest
from confluent_kafka import KafkaError

from server.delivery import AtLeastOnce, Delivery, ExactlyOnce
from server.stream import StreamServer
from shared.catalogue import DataSet
from shared.events import VISITS
from shared.ports import BrokerUnavailable, Fenced, Source
from shared.testing import Crash, CrashPoints
from tests.scripted_kafka import ScriptedClient, failure
from tests.unit.server.stream_bench import TOPICS, World


@pytest.fixture
def world(data: DataSet) -> World:
    return World(data)


def ten_served_and_ten_refused(world: World, server: StreamServer) -> None:
    world.arrive(range(10))
    server.run_once(0.0)
    world.arrive(range(10, 20))
    world.broker.acknowledges = False
    with pytest.raises(BrokerUnavailable):
        server.run_once(0.0)


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
    server = world.server()
    ten_served_and_ten_refused(world, server)
    assert sum(world.broker._groups["servers", VISITS].committed.values()) == 10
    world.broker.acknowledges = True
    assert len(server.run_once(0.0)) == 10
    assert sum(world.broker._groups["servers", VISITS].committed.values()) == 20


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


@pytest.mark.parametrize(("visits", "waits"), [(3, 1), (4, 0)])
def test_exactly_once_a_short_batch_waits_for_the_one_before_and_a_long_one_is_ranked_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch, visits: int, waits: int
) -> None:
    monkeypatch.setattr("server.stream._BLOCK", 3)
    settled: list[bool] = []
    delivery = ExactlyOnce(world.broker.transactional_producer("server-1"))
    monkeypatch.setattr(delivery, "settle", lambda: settled.append(True))
    world.arrive(range(visits))
    assert len(world.server(delivery=delivery).run_once(0.0)) == visits
    assert len(settled) == waits


def test_exactly_once_a_refused_commit_shows_nothing_and_the_batch_comes_again(
    world: World,
) -> None:
    server = world.exact()
    ten_served_and_ten_refused(world, server)
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


def delivery_of(world: World, exact: bool) -> Delivery:
    if exact:
        return ExactlyOnce(world.broker.transactional_producer("server-1"))
    return AtLeastOnce(world.broker.producer())


@pytest.mark.parametrize("exact", [False, True])
def test_visits_that_come_beside_an_error_of_another_partition_are_decided(
    world: World, exact: bool
) -> None:
    visits = world.arrive(range(20))
    client = ScriptedClient({p: world.broker.records(VISITS, p) for p in range(TOPICS[VISITS])})
    client.put(client.given(range(TOPICS[VISITS])))
    client.beside = [failure(1, KafkaError.TOPIC_AUTHORIZATION_FAILED)]
    server = world.server(delivery=delivery_of(world, exact), consumer=client.consumer(VISITS))
    assert len(server.run_once(0.0)) == 20
    with pytest.raises(BrokerUnavailable):
        server.run_once(0.0)
    assert server.run_once(0.0) == []
    decided = sorted(decision.visit_id for decision in world.decisions())
    assert decided == sorted(visit.visit_id for visit in visits)
    assert sum(client.committed.values()) == 20


@pytest.mark.parametrize("exact", [False, True])
def test_visits_whose_partitions_are_taken_away_as_they_are_read_are_left_to_the_heir(
    world: World, exact: bool
) -> None:
    world.arrive(range(20))
    client = ScriptedClient({p: world.broker.records(VISITS, p) for p in range(TOPICS[VISITS])})
    client.put(client.given([0]))
    client.beside = [client.taken_away]
    server = world.server(delivery=delivery_of(world, exact), consumer=client.consumer(VISITS))
    assert server.run_once(0.0) == []
    assert (world.decisions(), client.committed, server.positions) == ([], {}, {})


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
    for _ in range(40):
        assert server.run_once(0.0) == []
    assert committed == reached
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


def test_visits_of_a_topic_that_was_made_again_are_new_though_it_has_grown_beyond_what_was_decided(
    world: World,
) -> None:
    world.broker.recreate(VISITS, "first")
    world.arrive(range(40))
    server = world.exact()
    server.run_once(0.0)
    world.broker.recreate(VISITS, "second")
    world.broker._groups["servers", VISITS].committed.clear()  # a broker drops them with the topic
    world.arrive(range(40, 200))
    server.assigned(list(range(TOPICS[VISITS])))
    assert len(server.run_once(0.0)) == 160
    assert server.counts.skipped == 0


def test_the_broker_is_asked_which_log_it_is_only_where_visits_come_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = list[str](), world.broker.source

    def source(topic: str) -> Source:
        asked.append(topic)
        return answer(topic)

    monkeypatch.setattr(world.broker, "source", source)
    server = world.exact()
    for start in range(0, 40, 10):
        world.arrive(range(start, start + 10))
        assert len(server.run_once(0.0)) == 10
    assert asked == [VISITS]
    world.broker._groups["servers", VISITS].committed.clear()
    server.assigned(list(range(TOPICS[VISITS])))
    assert server.run_once(0.0) == []
    assert asked == [VISITS, VISITS]


def test_leaving_waits_for_the_last_offsets_where_nobody_has_yet(world: World) -> None:
    world.arrive(range(10))
    server = world.server()
    server.run_once(0.0)
    world.broker.available = False
    with pytest.raises(BrokerUnavailable):
        server.leave()
    exact = world.exact()
    exact.leave()
