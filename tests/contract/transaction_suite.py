"""What every broker with transactions must do, whoever implements it."""

from collections.abc import Iterable
from typing import Protocol

import pytest

from shared.partitioner import partition_of
from shared.ports import EventConsumer, EventProducer, Fenced, Record, TransactionalProducer
from tests.contract.broker_suite import PARTITIONS, TOPIC, Member, poll_until, read

HOME = partition_of(b"a", PARTITIONS)


class Broker(Protocol):
    """What the suite needs. The topic it uses is the fixture `topic`."""

    def producer(self) -> EventProducer: ...

    def transactional_producer(self, name: str) -> TransactionalProducer: ...

    def consumer(self, topic: str, group: str, *, reset: str = "earliest") -> EventConsumer: ...


def transaction(producer: TransactionalProducer, topic: str, values: Iterable[bytes]) -> None:
    """Begin one, and send these."""
    producer.begin()
    producer.send_all((topic, b"a", value, (), None) for value in values)


def values(records: list[Record]) -> list[bytes | None]:
    return [record.value for record in records]


class TransactionSuite:
    """Subclasses provide the fixtures `broker` and `group` (a name no other test uses)."""

    @pytest.fixture
    def topic(self) -> str:
        """A topic of `broker`, empty, with PARTITIONS partitions."""
        return TOPIC

    @pytest.fixture
    def member(self, broker: Broker, topic: str, group: str) -> Iterable[Member]:
        member = Member(broker, topic, group)
        poll_until(lambda: len(member.owned) == PARTITIONS, member)
        yield member
        member.consumer.close()

    def test_what_was_committed_is_read_and_the_position_passes_the_mark(
        self, broker: Broker, topic: str, group: str, member: Member
    ) -> None:
        producer = broker.transactional_producer(group)
        transaction(producer, topic, [b"1", b"2"])
        producer.commit(member.consumer, {HOME: 0})
        poll_until(lambda: len(member.records) == 2, member)
        assert values(member.records) == [b"1", b"2"]
        poll_until(lambda: member.consumer.position(HOME) == 3, member)
        assert member.consumer.watermarks(HOME).end == 3
        producer.close()

    def test_what_was_aborted_is_never_shown(
        self, broker: Broker, topic: str, group: str, member: Member
    ) -> None:
        producer = broker.transactional_producer(group)
        transaction(producer, topic, [b"lost"])
        producer.abort()
        transaction(producer, topic, [b"kept"])
        producer.commit(member.consumer, {HOME: 0})
        poll_until(lambda: bool(member.records), member)
        assert values(member.records) == [b"kept"]
        producer.close()

    def test_offsets_are_stored_with_the_records(
        self, broker: Broker, topic: str, group: str, member: Member
    ) -> None:
        producer = broker.transactional_producer(group)
        transaction(producer, topic, [b"%d" % number for number in range(5)])
        producer.commit(member.consumer, {HOME: 3})
        member.consumer.close()
        heir = broker.consumer(topic, group)
        heir.assign({HOME: None})
        assert [record.offset for record in read(heir, 2)] == [3, 4]
        heir.close()
        producer.close()

    def test_offsets_can_be_stored_without_records(
        self, broker: Broker, topic: str, group: str, member: Member
    ) -> None:
        producer = broker.transactional_producer(group)
        transaction(producer, topic, [b"0", b"1"])
        producer.commit(member.consumer, {HOME: 0})
        transaction(producer, topic, [])
        producer.commit(member.consumer, {HOME: 1})
        member.consumer.close()
        heir = broker.consumer(topic, group)
        heir.assign({HOME: None})
        assert [record.offset for record in read(heir, 1)] == [1]
        heir.close()
        producer.close()

    def test_offsets_of_an_aborted_transaction_are_not_stored(
        self, broker: Broker, topic: str, group: str, member: Member
    ) -> None:
        producer = broker.transactional_producer(group)
        transaction(producer, topic, [b"0", b"1"])
        producer.commit(member.consumer, {HOME: 1})
        transaction(producer, topic, [b"2"])
        producer.abort()
        member.consumer.close()
        heir = broker.consumer(topic, group)
        heir.assign({HOME: None})
        assert [record.offset for record in read(heir, 1)] == [1]
        heir.close()
        producer.close()

    def test_a_successor_of_the_same_name_ends_what_was_left_open_and_fences(
        self, broker: Broker, topic: str, group: str, member: Member
    ) -> None:
        dead = broker.transactional_producer(group)
        transaction(dead, topic, [b"left open"])
        successor = broker.transactional_producer(group)
        transaction(successor, topic, [b"kept"])
        successor.commit(member.consumer, {HOME: 0})
        poll_until(lambda: bool(member.records), member)
        assert values(member.records) == [b"kept"]
        with pytest.raises(Fenced):
            dead.commit(member.consumer, {HOME: 1})
        dead.abort()
        successor.close()
        dead.close()

    def test_who_was_fenced_can_begin_again(
        self, broker: Broker, topic: str, group: str, member: Member
    ) -> None:
        first, second = (broker.transactional_producer(group) for _ in range(2))
        transaction(first, topic, [b"1"])
        transaction(second, topic, [b"2"])
        with pytest.raises(Fenced):
            first.commit(member.consumer, {HOME: 0})
        first.abort()
        transaction(first, topic, [b"3"])
        first.commit(member.consumer, {HOME: 0})
        poll_until(lambda: bool(member.records), member)
        assert values(member.records) == [b"3"]
        first.close()
        second.close()

    def test_who_lost_its_partitions_stores_nothing(
        self, broker: Broker, topic: str, group: str, member: Member
    ) -> None:
        producer = broker.transactional_producer(group)
        transaction(producer, topic, [b"lost"])
        left = member.consumer
        assert left.membership
        left.close()
        heir = Member(broker, topic, group)
        poll_until(lambda: len(heir.owned) == PARTITIONS, heir)
        with pytest.raises(Fenced):
            producer.commit(left, {HOME: 1})
        producer.abort()
        transaction(producer, topic, [b"kept"])
        producer.commit(heir.consumer, {HOME: 0})
        poll_until(lambda: bool(heir.records), heir)
        assert values(heir.records) == [b"kept"]
        heir.consumer.close()
        producer.close()
