from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError

from infra.embedded import EmbeddedBroker
from shared.kafka import KafkaCluster
from shared.kafka_producer import Heard, KafkaProducer, reason_of
from shared.ports import BrokerUnavailable
from tests.faulty_broker import INIT_PRODUCER_ID, PRODUCE, refuse

TOPIC = "visits"


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    broker = EmbeddedBroker({TOPIC: 1})
    yield broker
    broker.close()


@pytest.fixture
def producer(broker: EmbeddedBroker) -> Iterator[KafkaProducer]:
    producer = KafkaCluster(broker.address, patience_s=10.0).producer()
    yield producer
    producer.close()


def send_until_refused(producer: KafkaProducer) -> None:
    """Send on after the answer to the first has come, without asking for it."""
    for _ in range(1_000_000):
        producer.send(TOPIC, b"a", b"v")


def stored(broker: EmbeddedBroker) -> int:
    consumer = KafkaCluster(broker.address, patience_s=10.0).consumer(TOPIC)
    held = consumer.watermarks(0)
    consumer.close()
    return held.end


def test_who_lost_the_right_to_write_says_so_and_writes_again_once_it_is_back(
    broker: EmbeddedBroker, producer: KafkaProducer
) -> None:
    refuse(broker, INIT_PRODUCER_ID, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
    producer.send(TOPIC, b"a", b"v")
    with pytest.raises(BrokerUnavailable, match="Cluster authorization failed"):
        producer.flush(10.0)
    producer.send(TOPIC, b"a", b"v")
    producer.flush(10.0)
    assert stored(broker) == 1


def test_an_error_that_ended_the_client_is_named_though_nobody_flushed(
    broker: EmbeddedBroker, producer: KafkaProducer
) -> None:
    producer.send(TOPIC, b"a", b"v")
    producer.flush(10.0)
    refuse(broker, PRODUCE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
    with pytest.raises(BrokerUnavailable, match="sequence desynchronization"):
        send_until_refused(producer)
    producer.send(TOPIC, b"a", b"v")
    producer.flush(10.0)
    assert stored(broker) == 2


class Spoilt:
    """Its fatal error is lost on the way, as the binding may lose it; the log has said it."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard

    def produce(self, topic: str, value: bytes, key: bytes, on_delivery: object) -> None:
        pass

    def flush(self, timeout_s: float) -> int:
        self._heard.log(50, "%s [%s] %s", "CONNECT", "client", "[main]: connected")
        self._heard.log(50, "%s [%s] %s", "FATAL", "client", "[main]: Fatal error: No right")
        raise SystemError("returned NULL without setting an exception")

    def purge(self) -> None:
        pass


def test_a_fatal_error_that_is_lost_on_the_way_is_known_from_the_log() -> None:
    made = list[Spoilt]()

    def make(settings: dict[str, Any]) -> Spoilt:
        made.append(Spoilt(settings["logger"]))
        return made[-1]

    producer = KafkaProducer("the broker", make)
    with pytest.raises(BrokerUnavailable, match="the broker: Fatal error: No right"):
        producer.flush(1.0)
    assert len(made) == 2


def test_what_is_no_error_of_the_broker_stays_what_it_is() -> None:
    with pytest.raises(SystemError, match="a bug"):
        reason_of(SystemError("a bug"), Heard())
