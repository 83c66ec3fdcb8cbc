import threading
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest

from producer.simulate import Shoppers
from reco import live
from reco.live import POLL_RECORDS, Tail, hidden_rates, replica_of
from server.live_feed import LiveFeed
from server.live_state import GRACE_S
from server.sample import is_among
from server.scorer import Policy
from shared.catalogue import DataSet
from shared.events import DECISIONS, OUTCOMES, Decision, encode
from shared.ports import BrokerUnavailable, CorruptState, ModelConfig, Position
from shared.presence import Presence
from shared.testing import FakeBoard, FakeBroker, FakeClock, FakeStore
from tests.live_scenario import MovingView, decision, outcomes
from tests.scenario import NESTED

TOPICS = {DECISIONS: 2, OUTCOMES: 3}
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


class Cluster:
    """The fake broker as a cluster."""

    def __init__(self) -> None:
        self.broker = FakeBroker(TOPICS)
        self.opened = 0

    def topics(self) -> dict[str, int]:
        return TOPICS

    def consumer(self, topic: str) -> Any:
        self.opened += 1
        return self.broker.consumer(topic, f"alone-{self.opened}")


class World:
    """A feed, and the tail that feeds it."""

    def __init__(self, data: DataSet) -> None:
        self.data = data
        self.clock = FakeClock()
        self.cluster = Cluster()
        self.store = FakeStore()
        self.board = FakeBoard(self.clock)
        self.feed = LiveFeed(MovingView(data), Policy(), data, 3, None, self.clock)
        self.stop = threading.Event()
        self.tail = Tail(self.feed, self.cluster, self.store, self.board, self.stop, self.clock)

    def serve(self, number: int) -> None:
        """A server somewhere decides a visit, which is clicked."""
        self.append(decision(self.data, number), number)

    def serve_now(self, number: int) -> None:
        """The same, and by the clock."""
        at = datetime.fromtimestamp(self.clock.now_s, UTC)
        self.append(msgspec.structs.replace(decision(self.data, number), decided_at=at), number)

    def append(self, decided: Decision, number: int) -> None:
        value = encode(decided)
        self.cluster.broker.append(DECISIONS, number % 2, b"key", value)
        for seen in outcomes(number, 1):
            self.cluster.broker.append(OUTCOMES, number % 3, b"key", encode(seen.outcome))

    def read(self) -> None:
        """Read what there is, and once more when it has settled."""
        self.tail.read_once()
        self.clock.now_s += max(GRACE_S, 1.0)
        self.tail.read_once()

    def shown(self) -> dict[str, Any]:
        message: dict[str, Any] = msgspec.json.decode(self.feed.first())
        return message


@pytest.fixture
def world(data: DataSet) -> World:
    return World(data)


def presence(kind: Any, name: str, **more: Any) -> Presence:
    plain: dict[str, Any] = {
        "host": "h", "pid": 1, "started_at": NOON, "at": NOON, "rate_per_s": 20.4, "counts": {},
        "not_ready": [], "partitions": [], "positions": {},
    }  # fmt: skip
    return Presence(kind=kind, name=name, **{**plain, **more})


def test_visits_are_shown_whoever_served_them_from_now_on(world: World) -> None:
    world.serve(1)
    world.read()
    for number in (2, 3):
        world.serve(number)
    world.read()
    assert [visit["user_id"] for visit in world.shown()["visits"]] == [2, 3]


def test_a_partition_shows_who_owns_it_how_far_it_is_and_its_lag(world: World) -> None:
    world.read()
    for number in (0, 3, 6):
        world.serve(number)  # into partition 0
    position = Position(1, world.cluster.broker.source(OUTCOMES), 0, "t-9:4", ModelConfig(3, "e"))
    world.store.write(0, None, position, {})
    world.board.announce(presence("trainer", "t-1", partitions=[1]))
    world.read()
    rows = world.shown()["partitions"]
    assert [(row["owner"], row["lag"]) for row in rows] == [("t-9", 2), ("t-1", 0), ("", 0)]
    assert (rows[0]["next_offset"], rows[0]["end_offset"]) == (1, 3)


def test_records_that_are_none_are_passed_over(world: World) -> None:
    world.read()
    for value in (b"{", NESTED):
        world.cluster.broker.append(DECISIONS, 0, b"key", value)
    world.cluster.broker.append(OUTCOMES, 0, b"key", None)
    for x in ([0.5], [1e308] * world.data.encoder.d):  # of no encoder
        odd = msgspec.structs.replace(decision(world.data, 2), x=x)
        world.cluster.broker.append(DECISIONS, 0, b"key", encode(odd))
    for seen in outcomes(2, 1):
        world.cluster.broker.append(OUTCOMES, 0, b"key", encode(seen.outcome))
    world.serve(1)
    world.read()
    assert world.shown()["rates"]["visits"] == 1


def test_of_what_is_too_much_to_show_a_sample_is_shown_and_then_all_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = POLL_RECORDS
    monkeypatch.setattr(live, "MOST_SHOWN_PER_S", most)
    world.clock.now_s += 1.0
    world.read()
    for number in range(2 * most):
        world.serve(number)
    for _ in range(5):
        world.tail.read_once()
    one_in = world.tail._one_in
    assert one_in > 1
    world.read()
    shown = [int(visit["decision_id"][2:]) for visit in world.shown()["visits"]]
    assert shown
    assert all(is_among(f"d-{number}", one_in) for number in shown)
    assert 0 < world.shown()["rates"]["over"] <= 2 * most / one_in * 1.5
    for _ in range(5):
        world.read()
    assert world.tail._one_in == 1
    before = world.shown()["rates"]["visits"]
    for number in (-1, -2, -3):
        world.serve_now(number)
    world.read()
    assert world.shown()["rates"]["visits"] == before + 3


def test_what_is_too_much_to_read_is_skipped_and_then_there_is_no_rate(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = POLL_RECORDS
    world.clock.now_s += 1.0
    world.read()
    world.serve(-1)
    world.read()
    assert world.shown()["rates"]["shown"] == 1.0
    monkeypatch.setattr(live, "MOST_READ_PER_S", most)
    for number in range(most):
        world.serve(number)
    world.tail.read_once()
    world.clock.now_s = world.tail._due_s
    world.tail.read_once()
    assert world.shown()["rates"]["visits"] == 1
    assert world.shown()["rates"]["shown"] is None
    world.serve(-2)
    world.read()
    assert world.shown()["rates"]["visits"] == 2


def test_a_broker_that_was_away_is_asked_again(world: World) -> None:
    world.read()
    world.cluster.broker.available = False
    with pytest.raises(BrokerUnavailable):
        world.tail.read_once()
    world.cluster.broker.available = True
    world.serve(1)
    world.read()
    assert world.shown()["rates"]["visits"] == 1


def test_what_nobody_thought_of_is_said_once_and_the_page_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("reco.live.RETRY_S", 0.0)
    errors = [ZeroDivisionError("nobody thought of it") for _ in range(3)]
    read_once, skipped = world.tail.read_once, list[None]()

    def read() -> None:
        if errors:
            raise errors.pop()
        read_once()
        world.stop.set()

    monkeypatch.setattr(world.tail, "read_once", read)
    monkeypatch.setattr(world.feed, "skipped", lambda: skipped.append(None))
    world.tail.run()
    assert world.stop.is_set()
    assert len(skipped) == 3
    assert caplog.text.count("Traceback") == 1


def test_what_comes_back_after_all_went_well_is_said_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("reco.live.RETRY_S", 0.0)
    goes_well = iter([False, False, True, False, False])

    def present() -> list[Presence]:
        world.clock.now_s += 1.0
        well = next(goes_well, None)
        if well is None:
            world.stop.set()
        if well is False:
            raise ZeroDivisionError("nobody thought of it")
        return []

    monkeypatch.setattr(world.board, "present", present)
    world.tail.run()
    assert caplog.text.count("Traceback") == 2


def test_a_state_that_is_unreadable_leaves_the_rest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def positions(partitions: object) -> list[Position | None]:
        raise CorruptState("the state has a row of no arm")

    monkeypatch.setattr(world.store, "positions", positions)
    world.read()
    world.serve(1)
    world.read()
    assert world.shown()["rates"]["visits"] == 1
    assert world.shown()["partitions"] == []


def test_a_store_that_is_away_leaves_the_rest(world: World) -> None:
    world.store.available = False
    world.read()
    world.serve(1)
    world.read()
    assert world.shown()["rates"]["visits"] == 1
    assert world.shown()["partitions"] == []


def test_a_process_is_described_in_a_few_words() -> None:
    server = presence(
        "server", "s", policy="linucb", delivery="exactly-once", view_age_s=0.04, stale=True
    )
    assert replica_of(server).says == "20/s, linucb, exactly-once, view 0.0 s old, stale"
    trainer = presence("trainer", "t", lag=1_200, not_ready=["partition 3 is not loaded"])
    assert replica_of(trainer).says == "20/s, lag 1,200, partition 3 is not loaded"


def test_best_slates_are_better_than_random_ones_where_products_differ(data: DataSet) -> None:
    shoppers = Shoppers(data.users, 5, "run")
    contexts = [shoppers.visit(number, NOON).context for number in range(200)]
    random, best = hidden_rates(data, 5, 5)(contexts)
    assert (random <= best).all()
    assert (random == best).any()  # some kinds of visits like all products alike
    assert 0.4 < float(np.mean(random)) < float(np.mean(best)) < 0.8
