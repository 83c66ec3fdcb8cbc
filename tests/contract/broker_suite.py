"""What every broker's producer and consumer must do, whoever implements them."""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import pytest

from shared.partitioner import partition_of
from shared.ports import Delivered, EventConsumer, EventProducer, LogTruncated, Record

TOPIC = "visits"
"""The topic of a broker that a test has for itself."""
PARTITIONS = 4
PATIENCE_S = 120.0
"""With a broker that has just started, on a slow machine."""
_groups = itertools.count()


class Broker(Protocol):
    """What the suite needs. The topic it uses is the fixture `topic`."""

    def producer(self) -> EventProducer: ...

    def consumer(self, topic: str, group: str, *, reset: str = "earliest") -> EventConsumer: ...


class Member:
    """A group member that reads from the committed offsets on."""

    def __init__(self, broker: Broker, topic: str, group: str) -> None:
        self.owned: set[int] = set()
        self.records: list[Record] = []
        self.consumer = broker.consumer(topic, group)
        self.consumer.subscribe(self)

    def assigned(self, partitions: Sequence[int]) -> None:
        self.owned |= set(partitions)
        self.consumer.assign(dict.fromkeys(self.owned))

    def revoked(self, partitions: Sequence[int]) -> None:
        self.owned -= set(partitions)

    def poll(self) -> None:
        self.records += self.consumer.poll(100, 0.05)


def poll_until(condition: Callable[[], bool], *members: Member) -> None:
    """Let the members poll until something is so."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"it did not become so within {PATIENCE_S:g} s"
        for member in members:
            member.poll()


def read(consumer: EventConsumer, count: int, most: int = 100) -> list[Record]:
    """The next `count` records."""
    records: list[Record] = []
    deadline_s = time.monotonic() + PATIENCE_S
    while len(records) < count:
        came = f"{len(records)} of {count} records came within {PATIENCE_S:g} s"
        assert time.monotonic() < deadline_s, came
        records += consumer.poll(most, 0.05)
    return records


def send(broker: Broker, topic: str, *pairs: tuple[bytes, bytes]) -> None:
    """Keys and values, acknowledged."""
    producer = broker.producer()
    for key, value in pairs:
        producer.send(topic, key, value)
    producer.flush(10.0)
    producer.close()


class BrokerSuite:
    """Subclasses provide the fixture `broker`, and a `topic` where they share one broker."""

    @pytest.fixture
    def topic(self) -> str:
        """A topic of `broker`, empty, with PARTITIONS partitions."""
        return TOPIC

    @pytest.fixture
    def group(self) -> str:
        return f"group-{next(_groups)}"

    def test_a_record_lands_where_murmur2_of_its_key_says(
        self, broker: Broker, topic: str, group: str
    ) -> None:
        keys = [b"%d" % number for number in range(50)]
        send(broker, topic, *((key, b"v") for key in keys))
        consumer = broker.consumer(topic, group)
        consumer.assign(dict.fromkeys(range(PARTITIONS)))
        records = read(consumer, 50)
        assert {record.key: record.partition for record in records} == {
            key: partition_of(key, PARTITIONS) for key in keys
        }
        consumer.close()

    def test_a_partition_keeps_the_order_and_counts_from_0(
        self, broker: Broker, topic: str, group: str
    ) -> None:
        send(broker, topic, *((b"one", b"%d" % number) for number in range(100)))
        consumer = broker.consumer(topic, group)
        consumer.assign({partition_of(b"one", PARTITIONS): 0})
        records = read(consumer, 100)
        assert [record.value for record in records] == [b"%d" % number for number in range(100)]
        assert [record.offset for record in records] == list(range(100))
        consumer.close()

    def test_key_value_and_headers_arrive_as_they_were(
        self, broker: Broker, topic: str, group: str
    ) -> None:
        producer = broker.producer()
        producer.send(topic, b"k\x00", b"\xff", headers=[("reason", b"x"), ("offset", b"1")])
        producer.send(topic, b"k\x00", None)
        producer.flush(10.0)
        consumer = broker.consumer(topic, group)
        consumer.assign({partition_of(b"k\x00", PARTITIONS): 0})
        first, second = read(consumer, 2)
        assert (first.topic, first.key, first.value) == (topic, b"k\x00", b"\xff")
        assert first.headers == (("reason", b"x"), ("offset", b"1"))
        assert second.value is None
        assert second.headers == ()
        consumer.close()
        producer.close()

    def test_delivery_is_reported_with_partition_and_offset(
        self, broker: Broker, topic: str
    ) -> None:
        producer = broker.producer()
        reported: list[tuple[int, int]] = []
        for _ in range(3):
            producer.send(topic, b"a", b"v", on_delivered=lambda p, o: reported.append((p, o)))
        producer.flush(10.0)
        home = partition_of(b"a", PARTITIONS)
        assert reported == [(home, 0), (home, 1), (home, 2)]
        producer.close()

    def test_several_records_arrive_in_their_order_each_reported_to_who_follows_it(
        self, broker: Broker, topic: str, group: str
    ) -> None:
        producer, reported = broker.producer(), list[tuple[str, int]]()

        def told(name: str) -> Delivered:
            return lambda partition, offset: reported.append((name, offset))

        headers = (("reason", b"x"),)
        producer.send_all(
            [
                (topic, b"a", b"1", (), told("first")),
                (topic, b"a", b"2", headers, None),
                (topic, b"a", None, (), told("last")),
            ]
        )
        producer.send_all([])
        producer.flush(10.0)
        consumer = broker.consumer(topic, group)
        consumer.assign({partition_of(b"a", PARTITIONS): 0})
        records = read(consumer, 3)
        assert [(r.value, r.headers) for r in records] == [(b"1", ()), (b"2", headers), (None, ())]
        assert reported == [("first", 0), ("last", 2)]
        consumer.close()
        producer.close()

    def test_reading_starts_at_the_offset_asked_for(
        self, broker: Broker, topic: str, group: str
    ) -> None:
        send(broker, topic, *((b"a", b"%d" % number) for number in range(10)))
        consumer = broker.consumer(topic, group)
        home = partition_of(b"a", PARTITIONS)
        consumer.assign({home: 7})
        assert [record.offset for record in read(consumer, 3)] == [7, 8, 9]
        consumer.assign({home: 2})
        assert read(consumer, 8)[0].offset == 2
        consumer.close()

    def test_only_assigned_partitions_are_read(
        self, broker: Broker, topic: str, group: str
    ) -> None:
        send(broker, topic, *((b"%d" % number, b"v") for number in range(40)))
        consumer = broker.consumer(topic, group)
        consumer.assign({0: 0, 1: 0})
        count = sum(partition_of(b"%d" % n, PARTITIONS) < 2 for n in range(40))
        assert {record.partition for record in read(consumer, count)} == {0, 1}
        consumer.assign({})
        assert consumer.poll(10, 0.05) == []
        consumer.close()

    def test_a_poll_brings_no_more_than_asked_for_and_loses_none(
        self, broker: Broker, topic: str, group: str
    ) -> None:
        send(broker, topic, *((b"a", b"v") for _ in range(20)))
        consumer = broker.consumer(topic, group)
        consumer.assign({partition_of(b"a", PARTITIONS): 0})
        batches = [consumer.poll(6, 1.0) for _ in range(6)]
        assert max(map(len, batches)) <= 6
        records = [record for batch in batches for record in batch]
        records += read(consumer, 20 - len(records))
        assert [record.offset for record in records] == list(range(20))
        consumer.close()

    def test_watermarks_say_what_is_held(self, broker: Broker, topic: str, group: str) -> None:
        send(broker, topic, (b"a", b"v"), (b"a", b"v"))
        consumer = broker.consumer(topic, group)
        home = partition_of(b"a", PARTITIONS)
        assert consumer.watermarks(home) == (0, 2)
        assert consumer.watermarks((home + 1) % PARTITIONS) == (0, 0)
        consumer.close()

    def test_without_an_offset_it_goes_on_where_the_group_was(
        self, broker: Broker, topic: str, group: str
    ) -> None:
        send(broker, topic, *((b"a", b"v") for _ in range(10)))
        home = partition_of(b"a", PARTITIONS)
        first = broker.consumer(topic, group)
        first.assign({home: None})
        assert read(first, 10)[0].offset == 0
        first.commit({home: 6}, wait=True)
        first.close()
        second = broker.consumer(topic, group)
        second.assign({home: None})
        assert [record.offset for record in read(second, 4)] == [6, 7, 8, 9]
        second.close()

    def test_an_offset_that_the_log_does_not_hold_is_an_error_where_asked_for(
        self, broker: Broker, topic: str, group: str
    ) -> None:
        send(broker, topic, (b"a", b"v"))
        consumer = broker.consumer(topic, group, reset="error")
        consumer.assign({partition_of(b"a", PARTITIONS): 50})
        with pytest.raises(LogTruncated):
            read(consumer, 1)
        consumer.close()

    def test_a_group_divides_the_partitions_and_heirs_take_over(
        self, broker: Broker, topic: str, group: str
    ) -> None:
        everything = set(range(PARTITIONS))
        first = Member(broker, topic, group)
        poll_until(lambda: first.owned == everything, first)
        second = Member(broker, topic, group)
        poll_until(
            lambda: (
                bool(second.owned)
                and first.owned | second.owned == everything
                and not first.owned & second.owned
            ),
            first,
            second,
        )
        first.consumer.close()
        poll_until(lambda: second.owned == everything, second)
        send(broker, topic, *((b"%d" % number, b"v") for number in range(30)))
        poll_until(lambda: len(second.records) == 30, second)
        second.consumer.close()
