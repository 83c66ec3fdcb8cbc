"""`shared.kafka_transactions` with a client that misbehaves as librdkafka's does."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from shared.kafka_transactions import SETTLE_S, KafkaTransactionalProducer
from shared.ports import BrokerUnavailable, Fenced
from shared.testing import FakeBroker, FakeClock
from tests.scripted_kafka import ScriptedClient

OFFSETS = {0: 7}


class Client:
    """As much of librdkafka's producer as a transaction needs."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stored: list[TopicPartition] = []
        self.refusal: Exception | None = None
        self.lost = False
        """Whether storing offsets never returns."""
        self.released = threading.Event()

    def init_transactions(self, timeout_s: float) -> None:
        self.said.append("init")

    def begin_transaction(self) -> None:
        self.said.append("begin")

    def flush(self, timeout_s: float) -> None:
        self.said.append("flush")

    def send_offsets_to_transaction(
        self, offsets: list[TopicPartition], membership: object, timeout_s: float
    ) -> None:
        if self.lost:
            self.released.wait()
        if self.refusal:
            raise self.refusal
        self.stored = offsets

    def commit_transaction(self, timeout_s: float) -> None:
        self.said.append("commit")

    def abort_transaction(self, timeout_s: float) -> None:
        self.said.append("abort")

    def purge(self) -> None:
        self.said.append("purge")


class World:
    """A producer, and the clients that it has made."""

    def __init__(self, offsets_timeout_s: float) -> None:
        self.clients: list[Client] = []
        self.clock = FakeClock()
        self.slept_s: list[float] = []
        self.producer = KafkaTransactionalProducer(
            "the broker", self._made, offsets_timeout_s, self.clock, self.slept_s.append
        )
        self.consumer = FakeBroker({"visits": 1}).consumer("visits", "servers")

    def _made(self, settings: dict[str, Any]) -> Client:
        self.clients.append(Client())
        return self.clients[-1]


@pytest.fixture
def hasty() -> Iterator[World]:
    """One whose patience ends soon."""
    world = World(offsets_timeout_s=0.05)
    yield world
    for client in world.clients:
        client.released.set()


@pytest.fixture
def patient() -> World:
    """One who waits until there is an answer."""
    return World(offsets_timeout_s=60.0)


def test_a_transaction_stores_the_offsets_it_was_made_from(patient: World) -> None:
    patient.producer.begin()
    patient.producer.commit(patient.consumer, OFFSETS)
    [client] = patient.clients
    assert client.said == ["init", "begin", "flush", "commit"]
    assert [(each.topic, each.partition, each.offset) for each in client.stored] == [
        ("visits", 0, 7)
    ]


def test_who_is_no_member_of_the_group_stores_nothing(patient: World) -> None:
    patient.producer.begin()
    with pytest.raises(Fenced):
        patient.producer.commit(ScriptedClient({}).consumer("visits"), OFFSETS)
    [client] = patient.clients
    assert client.said == ["init", "begin"]


def test_only_a_transaction_that_follows_another_at_once_waits_for_it(patient: World) -> None:
    patient.producer.settle()
    patient.producer.begin()
    assert patient.slept_s == []
    patient.producer.commit(patient.consumer, OFFSETS)
    patient.clock.now_s += SETTLE_S / 4
    patient.producer.settle()
    assert patient.slept_s == [pytest.approx(SETTLE_S * 3 / 4)]
    patient.clock.now_s += SETTLE_S
    patient.producer.settle()
    assert len(patient.slept_s) == 1


def test_who_waits_for_ever_to_store_offsets_is_given_up(hasty: World) -> None:
    hasty.producer.begin()
    hasty.clients[0].lost = True
    with pytest.raises(BrokerUnavailable, match=r"offsets were not stored within 0\.05 s"):
        hasty.producer.commit(hasty.consumer, OFFSETS)
    hasty.producer.abort()
    assert "commit" not in hasty.clients[0].said


def test_the_next_transaction_after_that_is_another_clients(hasty: World) -> None:
    hasty.producer.begin()
    hasty.clients[0].lost = True
    with pytest.raises(BrokerUnavailable):
        hasty.producer.commit(hasty.consumer, OFFSETS)
    hasty.producer.begin()
    # Its first word ends what the first client has left open.
    assert hasty.clients[1].said == ["init", "begin"]


def test_an_offset_that_can_not_be_stored_at_all_ends_the_transaction(patient: World) -> None:
    patient.producer.begin()
    patient.clients[0].refusal = TypeError("no membership")
    with pytest.raises(TypeError, match="no membership"):
        patient.producer.commit(patient.consumer, OFFSETS)
    assert "commit" not in patient.clients[0].said


def test_a_fatal_error_that_a_callback_has_spoilt_is_raised_as_such(
    patient: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient.producer.begin()
    fatal = KafkaException(KafkaError(KafkaError._FENCED, "a newer producer", fatal=True))

    def spoilt(timeout_s: float) -> None:
        raise SystemError("returned a result with an exception set") from fatal

    monkeypatch.setattr(patient.clients[0], "flush", spoilt)
    with pytest.raises(Fenced, match="a newer producer"):
        patient.producer.commit(patient.consumer, OFFSETS)
    patient.producer.abort()
    patient.producer.begin()
    assert len(patient.clients) == 2


def test_an_error_of_storing_offsets_is_raised_as_such(patient: World) -> None:
    patient.producer.begin()
    patient.clients[0].refusal = KafkaException(KafkaError(KafkaError.ILLEGAL_GENERATION))
    with pytest.raises(Fenced):
        patient.producer.commit(patient.consumer, OFFSETS)
    assert "commit" not in patient.clients[0].said
