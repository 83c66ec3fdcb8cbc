from collections.abc import Iterable

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from producer.service import VisitProducer
from producer.simulate import Shoppers
from reco.observed_producer import ObservedProducer
from reco.observed_server import ObservedServer
from reco.observed_trainer import ObservedTrainer, wrote
from reco.shoppers import feedback_rule, reaction
from reco.uplift import ExpectedClicks
from server.delivery import AtLeastOnce
from server.experiment import Traffic
from server.freshness import FreshnessProbe
from server.guard import Gate
from server.model_view import ModelView
from server.ranking import RankCounts
from server.readiness import api_not_ready
from server.scorer import Policy
from server.stream import StreamServer
from shared.catalogue import DataSet
from shared.events import DEAD_LETTERS, DECISIONS, OUTCOMES, VISITS, encode, key_of
from shared.kafka_admin import Committed
from shared.metrics import ProducerMetrics, ServerMetrics, TrainerMetrics, exposition
from shared.partitioner import partition_of
from shared.ports import Watermarks
from shared.testing import FakeBroker, FakeClock, FakeStore
from tests import scenario
from tests.scenario import NOON

TOPICS = {VISITS: 2, DECISIONS: 2, OUTCOMES: 3, DEAD_LETTERS: 1}


def value(registry: CollectorRegistry, sample: str, **labels: str) -> float:
    """A sample's value; the sum over the labels that are not given."""
    found = [
        each.value
        for family in text_string_to_metric_families(exposition(registry).decode())
        for each in family.samples
        if each.name == sample and labels.items() <= each.labels.items()
    ]
    assert found, f"no sample {sample} {labels}"
    return sum(found)


class FakeLog:
    """The broker, as `KafkaAdmin` asks it."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self.stored: dict[int, int] = {}

    def watermarks(self, topic: str, partitions: Iterable[int]) -> dict[int, Watermarks]:
        return {p: self._broker.watermarks(topic, p) for p in partitions}

    def committed(self, group: str, topic: str, partitions: Iterable[int]) -> dict[int, Committed]:
        assert group == "servers"
        return {p: Committed(self.stored[p]) for p in partitions if p in self.stored}


class Publishing:
    """What came of slates, on its way to Kafka."""

    error = ""


class ServerWorld:
    def __init__(self, data: DataSet) -> None:
        self.broker, self.clock = FakeBroker(TOPICS), FakeClock()
        self.log = FakeLog(self.broker)
        self.metrics, self.expected = ServerMetrics(), ExpectedClicks(5)
        self.over_http, self.gate, self.resolver = RankCounts(), Gate(), Publishing()
        self.shoppers = Shoppers(data.users, 5, "run")
        self.store = FakeStore()
        self.view = ModelView(self.store, data.arms, data.config, 3, 1.0, self.clock)
        consumer = self.broker.consumer(VISITS, "servers")
        self.server = StreamServer(
            consumer,
            AtLeastOnce(self.broker.producer()),
            self.view,
            Traffic.to(Policy("linucb", alpha=0.5)),
            data.encoder,
            reaction(data, 5, 5, self.expected),
            feedback_rule("cascade", 5),
            source=lambda: self.broker.source(VISITS),
            k=5,
            utc_now=lambda: NOON,
            clock=self.clock,
            freshness=FreshnessProbe(3, self.clock, self.metrics.freshness.observe),
        )
        consumer.subscribe(self.server)
        self.service = ObservedServer(
            self.metrics,
            self.server,
            self.view,
            self.log,
            group="servers",
            model="m",
            policy="linucb",
            delivery="at-least-once",
            expected=self.expected,
            stale_limit_s=30.0,
            over_http=self.over_http,
            api_not_ready=lambda: api_not_ready(self.resolver, self.gate),
        )

    def arrive(self, count: int) -> None:
        for number in range(count):
            visit = self.shoppers.visit(number, NOON)
            key = key_of(visit.user_id)
            self.broker.append(VISITS, partition_of(key, 2), key, encode(visit))

    def value(self, sample: str, **labels: str) -> float:
        return value(self.metrics.registry, sample, **labels)


@pytest.fixture
def world(data: DataSet) -> ServerWorld:
    return ServerWorld(data)


def test_a_server_shows_what_it_has_counted(world: ServerWorld) -> None:
    world.arrive(40)
    world.broker.append(VISITS, 0, b"1", b"{poison")
    world.view.refresh()
    world.server.run_once(0.0)
    counts = world.server.counts
    assert world.value("reco_visits_total") == 40
    assert world.value("reco_decisions_total", via="stream") == 40
    assert world.value("reco_clicks_total") == counts.clicks > 0
    assert world.value("reco_outcomes_total") == counts.outcomes
    assert world.value("reco_dead_letters_total", topic=VISITS) == 1
    assert world.service.counts()["visits"] == world.service.done() == 40


def test_a_server_shows_how_many_visits_came_again(world: ServerWorld) -> None:
    world.arrive(40)
    world.view.refresh()
    world.server.run_once(0.0)
    assert world.value("reco_visits_skipped_total") == 0
    committed = world.broker._groups["servers", VISITS].committed
    owned = list(committed)
    committed.clear()  # the broker has forgotten where the group was
    world.server.assigned(owned)
    world.server.run_once(0.0)
    assert world.value("reco_visits_skipped_total") == 40
    assert world.value("reco_visits_total") == 40


def test_what_a_server_decides_over_http_counts_in_its_rate(world: ServerWorld) -> None:
    world.arrive(40)
    world.view.refresh()
    world.server.run_once(0.0)
    world.over_http.decisions = 20
    assert world.service.done() == world.value("reco_visits_total") == 60
    assert world.service.counts()["over_http"] == 20


def test_a_server_shows_what_its_slates_are_worth_beside_random_and_best(
    world: ServerWorld,
) -> None:
    world.arrive(40)
    world.view.refresh()
    world.server.run_once(0.0)
    shown, random, best = (
        world.value("reco_expected_clicks_total", slates=slates)
        for slates in ("shown", "random", "best")
    )
    assert 0 < random < best < 40
    assert 0 < shown < best


def test_a_server_behind_is_behind_what_the_group_has_committed_until_it_reads(
    world: ServerWorld,
) -> None:
    world.arrive(40)
    ends = {p: world.broker.watermarks(VISITS, p).end for p in range(2)}
    assert world.service.lag() == (VISITS, {})
    world.server.assigned([0, 1])
    world.log.stored = {0: 3}
    assert world.service.lag() == (VISITS, {0: ends[0] - 3, 1: ends[1]})
    world.server.run_once(0.0)
    assert world.service.lag() == (VISITS, {0: 0, 1: 0})


def test_a_server_is_ready_with_a_whole_view_that_is_not_too_old(world: ServerWorld) -> None:
    assert "not whole" in world.service.not_ready()[0]
    world.view.refresh()
    assert "assigned" in world.service.not_ready()[0]
    world.server.run_once(0.0)
    assert world.service.not_ready() == []
    world.store.available = False
    world.clock.now_s += 31.0
    world.view.refresh()
    assert "31 s old" in world.service.not_ready()[0]
    assert world.service.state().stale


def test_a_server_is_not_ready_where_its_api_is_not(world: ServerWorld) -> None:
    world.view.refresh()
    world.server.run_once(0.0)
    world.resolver.error = "the broker at 10.0.0.7:9092 does not answer"
    assert world.service.not_ready() == [world.resolver.error]
    world.gate.draining = True
    assert world.service.not_ready() == [world.resolver.error, "the server is shutting down"]


def test_a_server_says_where_its_view_stands(world: ServerWorld) -> None:
    assert world.service.state().view_age_s is None
    world.view.refresh()
    world.clock.now_s += 0.5
    state = world.service.state()
    assert (state.positions, state.view_age_s) == ({0: 0, 1: 0, 2: 0}, 0.5)
    assert world.value("reco_view_age_seconds") == 0.5
    assert world.value("reco_view_stale") == 0.0
    assert world.value("reco_view_offset", partition="2") == 0.0
    assert world.value("reco_delivery_info", mode="at-least-once") == 1.0
    assert world.value("reco_policy_info", model="m", policy="linucb") == 1.0


@pytest.mark.parametrize("joins", [True, False])
def test_a_server_says_whether_it_decides_the_visits_of_the_topic(
    world: ServerWorld, joins: bool
) -> None:
    service = ObservedServer(
        ServerMetrics(),
        world.server,
        world.view,
        world.log,
        group="servers",
        model="m",
        policy="linucb",
        delivery="at-least-once",
        joins=joins,
    )
    assert service.state().stream is joins


class TrainerWorld(scenario.World):
    def __init__(self) -> None:
        super().__init__()
        self.metrics = TrainerMetrics()
        self.one = self.trainer(wrote=wrote(self.metrics))
        self.service = ObservedTrainer(self.metrics, self.one, FakeLog(self.broker))

    def value(self, sample: str, **labels: str) -> float:
        return value(self.metrics.registry, sample, **labels)


def test_a_trainer_shows_what_it_has_counted_and_how_large_its_writes_were() -> None:
    world = TrainerWorld()
    world.settle(world.one)
    sent = [world.send(arm) for arm in (1, 2, 3, 4, 5)]
    world.put(1, encode(sent[0]))
    world.poison(2)
    assert sum(world.service.lag()[1].values()) == 7
    world.settle(world.one)
    assert world.value("reco_outcomes_applied_total") == world.service.done() == 5
    assert world.value("reco_duplicates_total") == 1
    assert world.value("reco_dead_letters_total", topic=OUTCOMES) == 1
    assert world.value("reco_offset") == 7
    assert world.service.lag() == (OUTCOMES, {0: 0, 1: 0, 2: 0})
    writes = world.value("reco_writes_total")
    assert world.value("reco_write_rows_count") == writes
    assert world.value("reco_write_rows_sum") == 5
    assert world.value("reco_write_bytes_sum") > 5 * 8 * 3
    assert "waiting" not in world.service.counts()


def test_a_trainer_without_an_answer_of_the_group_is_not_ready_then_it_is() -> None:
    world = TrainerWorld()
    assert "assigned" in world.service.not_ready()[0]
    world.settle(world.one)
    assert world.service.not_ready() == []
    assert world.service.state().partitions == [0, 1, 2]


def test_a_trainer_says_which_of_its_partitions_it_does_not_serve_and_why() -> None:
    world = TrainerWorld()
    world.store.available = False
    world.one.run_once(0.0)
    world.one.run_once(0.0)
    assert world.value("reco_waiting_partitions") == 3
    assert "the fake store is away" in world.service.not_ready()
    world.store.available = True
    world.settle(world.one)
    assert world.value("reco_waiting_partitions") == 0
    assert world.service.not_ready() == []


def test_a_producer_shows_what_is_confirmed(data: DataSet) -> None:
    broker, clock = FakeBroker(TOPICS), FakeClock()
    producer = VisitProducer(
        broker.producer(), Shoppers(data.users, 5, "r"), 0.0, clock=clock, utc_now=lambda: NOON
    )
    service = ObservedProducer(ProducerMetrics(), producer.counts)

    class Never:
        def is_set(self) -> bool:
            return False

        def wait(self, timeout: float | None = None) -> bool:
            return False

    producer.run(range(30), Never())
    assert service.done() == value(service.metrics.registry, "reco_visits_confirmed_total") == 30
    assert service.counts() == {"sent": 30, "confirmed": 30}
    assert (service.not_ready(), service.lag()) == ([], (VISITS, {}))
