"""`shared.kafka_consumer` with a client whose queue is written out, and with a broker's faults."""

import time
from collections.abc import Iterator, Sequence

import pytest
from confluent_kafka import KafkaError

from infra.embedded import EmbeddedBroker
from shared.kafka import KafkaCluster
from shared.kafka_consumer import KafkaConsumer
from shared.ports import BrokerRefuses, BrokerUnavailable, LogTruncated, Record
from tests.contract.broker_suite import read
from tests.faulty_broker import OFFSET_FETCH, refuse, send_with_headers
from tests.scripted_kafka import ScriptedClient, end, failure

FIVE = {0: [Record("topic", 0, offset, b"k", b"%d" % offset) for offset in range(5)], 1: []}
REFUSED = KafkaError.TOPIC_AUTHORIZATION_FAILED


class Member:
    """Reads what it is given, from the committed offsets on."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self.consumer = consumer
        self.owned: list[int] = []
        consumer.subscribe(self)

    def assigned(self, partitions: Sequence[int]) -> None:
        self.owned = list(partitions)
        self.consumer.assign(dict.fromkeys(partitions))

    def revoked(self, partitions: Sequence[int]) -> None:
        self.owned = []


@pytest.fixture
def client() -> ScriptedClient:
    return ScriptedClient(FIVE)


@pytest.fixture
def consumer(client: ScriptedClient) -> KafkaConsumer:
    consumer = client.consumer("topic")
    consumer.assign({0: 0, 1: 0})
    return consumer


def offsets(records: Sequence[Record]) -> list[int]:
    return [record.offset for record in records]


def test_an_error_beside_records_comes_after_them(
    client: ScriptedClient, consumer: KafkaConsumer
) -> None:
    client.put(failure(1, REFUSED))
    assert offsets(consumer.poll(100, 0.0)) == [0, 1, 2, 3, 4]
    assert consumer.position(0) == 5
    with pytest.raises(BrokerUnavailable, match="the broker: the reason"):
        consumer.poll(100, 0.0)
    assert consumer.poll(100, 0.0) == []
    assert consumer.position(0) == 5


def test_an_error_alone_is_raised_at_once(client: ScriptedClient, consumer: KafkaConsumer) -> None:
    consumer.poll(100, 0.0)
    client.put(end(1, 7), failure(1, REFUSED))
    with pytest.raises(BrokerUnavailable):
        consumer.poll(100, 0.0)
    assert consumer.position(1) == 7


def test_after_an_error_all_is_assigned_again_behind_what_was_returned(
    client: ScriptedClient, consumer: KafkaConsumer
) -> None:
    consumer.assign({0: None, 1: None})
    assert offsets(consumer.poll(2, 0.0)) == [0, 1]
    client.assigned.clear()
    client.put(failure(1, REFUSED))
    assert offsets(consumer.poll(100, 0.0)) == [2, 3, 4]
    with pytest.raises(BrokerUnavailable):
        consumer.poll(100, 0.0)
    assert client.assigned == {0: 5, 1: 0}


def test_an_error_of_what_is_no_longer_read_is_forgotten(
    client: ScriptedClient, consumer: KafkaConsumer
) -> None:
    client.put(failure(1, REFUSED))
    consumer.poll(100, 0.0)
    consumer.assign({0: 3})
    assert offsets(consumer.poll(100, 0.0)) == [3, 4]


@pytest.mark.parametrize("code", [KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE])
def test_an_offset_that_the_log_does_not_hold_is_said_after_the_records_beside_it(
    client: ScriptedClient, consumer: KafkaConsumer, code: int
) -> None:
    client.put(failure(1, code, "out of range"))
    assert len(consumer.poll(100, 0.0)) == 5
    with pytest.raises(LogTruncated, match="topic/1: out of range"):
        consumer.poll(100, 0.0)


def test_a_consumer_whose_place_another_has_taken_is_at_its_end(
    client: ScriptedClient, consumer: KafkaConsumer
) -> None:
    client.put(failure(0, KafkaError._FATAL))
    assert offsets(consumer.poll(100, 0.0)) == [0, 1, 2, 3, 4]
    for _ in range(2):
        with pytest.raises(BrokerRefuses, match="KAFKA_GROUP_INSTANCE_ID"):
            consumer.poll(100, 0.0)


def test_that_it_is_at_its_end_is_said_whatever_else_happens_then(client: ScriptedClient) -> None:
    member = Member(client.consumer("topic"))
    client.put(client.given([0]))
    member.consumer.poll(100, 0.0)
    client.put(failure(0, KafkaError._FATAL), client.taken_away)
    for _ in range(2):
        with pytest.raises(BrokerRefuses):
            member.consumer.poll(100, 0.0)


def test_that_it_is_at_its_end_is_said_though_it_is_assigned_anew_or_met_another_error(
    client: ScriptedClient, consumer: KafkaConsumer
) -> None:
    client.put(failure(1, REFUSED), failure(0, KafkaError._FATAL))
    consumer.poll(100, 0.0)
    consumer.assign({0: 0})
    with pytest.raises(BrokerRefuses):
        consumer.poll(100, 0.0)


def test_having_left_the_group_is_no_error(client: ScriptedClient, consumer: KafkaConsumer) -> None:
    client.put(failure(0, KafkaError._MAX_POLL_EXCEEDED))
    assert len(consumer.poll(100, 0.0)) == 5
    assert consumer.poll(100, 0.0) == []


def test_what_a_poll_has_in_hand_as_its_partitions_are_taken_away_is_dropped(
    client: ScriptedClient,
) -> None:
    member = Member(client.consumer("topic"))
    client.put(client.given([0]))
    client.beside = [client.taken_away]
    assert member.consumer.poll(100, 0.0) == []
    assert (member.owned, client.assigned) == ([], {})


def test_what_is_given_anew_meanwhile_is_read_once(client: ScriptedClient) -> None:
    member = Member(client.consumer("topic"))
    client.put(client.given([0]))
    client.beside = [client.taken_away, client.given([0, 1])]
    assert member.consumer.poll(100, 0.0) == []
    assert member.owned == [0, 1]
    assert offsets(member.consumer.poll(100, 0.0)) == [0, 1, 2, 3, 4]


def test_membership_is_that_of_when_the_partitions_were_given(client: ScriptedClient) -> None:
    member = Member(client.consumer("topic"))
    client.put(client.given([0]))
    member.consumer.poll(100, 0.0)
    client.generation += 1
    assert member.consumer.membership == 1
    client.put(client.taken_away, client.given([0, 1]))
    member.consumer.poll(100, 0.0)
    assert member.consumer.membership == 3


def test_a_rebalance_that_closing_serves_gives_no_membership_and_no_error(
    client: ScriptedClient,
) -> None:
    member = Member(client.consumer("topic"))
    client.closing = True
    client.given([0])()
    assert member.owned == [0]
    assert member.consumer.membership is None


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    broker = EmbeddedBroker({"topic": 1})
    yield broker
    broker.close()


def test_a_record_is_read_without_headers_whose_names_are_no_utf_8(broker: EmbeddedBroker) -> None:
    good = ["ü".encode()] * 100  # until Python calls in its fast way, which checks less
    send_with_headers(broker, "topic", [*good, b"\xff", *good])
    consumer = KafkaCluster(broker.address, patience_s=10.0).consumer("topic")
    consumer.assign({0: 0})
    headers = [record.headers for record in read(consumer, 201, most=1_000)]
    assert headers == [(("ü", b"x"),)] * 100 + [()] + [(("ü", b"x"),)] * 100
    consumer.close()


def test_where_the_group_was_is_asked_again_after_a_refusal(broker: EmbeddedBroker) -> None:
    cluster = KafkaCluster(broker.address, patience_s=10.0)
    producer = cluster.producer()
    producer.send("topic", b"k", b"1")
    producer.flush(10.0)
    producer.close()
    consumer = cluster.consumer("topic", "group")
    refuse(broker, OFFSET_FETCH, REFUSED)
    consumer.assign({0: None})
    refusals, records, deadline_s = list[str](), list[Record](), time.monotonic() + 60.0
    while not records and time.monotonic() < deadline_s:
        try:
            records = consumer.poll(1, 0.05)
        except BrokerUnavailable as error:
            refusals.append(str(error))
    assert "Failed to fetch committed offset" in refusals[0]
    assert [record.value for record in records] == [b"1"]
    consumer.close()
