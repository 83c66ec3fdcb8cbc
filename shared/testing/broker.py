"""Kafka's fake: topics as lists, groups, transactions."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.partitioner import partition_of
from shared.ports import (
    BrokerUnavailable,
    Delivered,
    EventConsumer,
    Fenced,
    LogTruncated,
    Outgoing,
    Rebalance,
    Record,
    Source,
    Watermarks,
)


@dataclass
class _Group:
    members: list["FakeConsumer"] = field(default_factory=list)
    committed: dict[int, int] = field(default_factory=dict)


class FakeBroker:
    """Topics as lists, consumer groups with an eager range assignment.

    Faults: `available = False`; `acknowledges = False` (nothing that is sent is stored); `trim`;
    and a record lost because a producer died before `flush`. `loses_commits` and a second
    `transactional_producer` of the same name are those of transactions.
    """

    def __init__(self, topics: Mapping[str, int]) -> None:
        self.partitions = dict(topics)
        self.available = True
        self.acknowledges = True
        self.cluster_id = "fake"
        self.topic_ids: dict[str, str] = {}
        self.loses_commits = 0
        """So many commits of transactions are made and their answers lost."""
        self._epochs: dict[str, int] = defaultdict(int)
        self._markers: set[tuple[str, int, int]] = set()
        self._logs: dict[tuple[str, int], list[Record]] = defaultdict(list)
        self._starts: dict[tuple[str, int], int] = defaultdict(int)
        self._groups: dict[tuple[str, str], _Group] = defaultdict(_Group)

    def source(self, topic: str) -> Source:
        """Identity of a topic's log."""
        self.check()
        topic_id = self.topic_ids.get(topic, "")
        return Source(self.cluster_id, topic, self.partitions[topic], topic_id=topic_id)

    def producer(self) -> "FakeProducer":
        """A new producer."""
        return FakeProducer(self)

    def transactional_producer(self, name: str) -> "FakeTransactionalProducer":
        """A new one; from its first `begin` on, earlier ones of this name are fenced."""
        return FakeTransactionalProducer(self, name)

    def consumer(self, topic: str, group: str, *, reset: str = "earliest") -> "FakeConsumer":
        """A new consumer; `reset` "error" refuses offsets that the log does not hold."""
        return FakeConsumer(self, topic, self._groups[group, topic], reset)

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> int:
        """Put a record into a partition of one's choice; returns its offset."""
        log = self._logs[topic, partition]
        offset = self._starts[topic, partition] + len(log)
        log.append(Record(topic, partition, offset, key, value, tuple(headers)))
        return offset

    def mark(self, topic: str, partition: int) -> None:
        """A transaction's mark: takes up an offset, and is not shown."""
        self._markers.add((topic, partition, self.append(topic, partition, None, None)))

    def records(self, topic: str, partition: int, start: int = 0) -> list[Record]:
        """What a partition holds from an offset on, without marks."""
        log = self._logs[topic, partition][max(0, start - self._starts[topic, partition]) :]
        return [each for each in log if (topic, partition, each.offset) not in self._markers]

    def trim(self, topic: str, partition: int, start: int) -> None:
        """Retention: forget everything before `start`."""
        drop = start - self._starts[topic, partition]
        del self._logs[topic, partition][:drop]
        self._starts[topic, partition] = start

    def recreate(self, topic: str, topic_id: str) -> None:
        """The topic is deleted, and made again at once."""
        self.topic_ids[topic] = topic_id
        for partition in range(self.partitions[topic]):
            self._logs.pop((topic, partition), None)
            self._starts.pop((topic, partition), None)

    def watermarks(self, topic: str, partition: int) -> Watermarks:
        """First offset held and the next to be given."""
        start = self._starts[topic, partition]
        return Watermarks(start, start + len(self._logs[topic, partition]))

    def check(self) -> None:
        """Raise `BrokerUnavailable` while the broker is away."""
        if not self.available:
            raise BrokerUnavailable("the fake broker is away")


class FakeProducer:
    """`shared.ports.EventProducer`; a record is in the log only after `flush`."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self.pending: list[Outgoing] = []

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        headers: Sequence[tuple[str, bytes]] = (),
        on_delivered: Delivered | None = None,
    ) -> None:
        """See `Sender.send`."""
        self.pending.append((topic, key, value, headers, on_delivered))

    def send_all(self, records: Iterable[Outgoing]) -> None:
        """See `Sender.send_all`."""
        self.pending += records

    def flush(self, timeout_s: float) -> None:
        """See `EventProducer.flush`."""
        self._broker.check()
        if self.pending and not self._broker.acknowledges:
            raise BrokerUnavailable("the fake broker acknowledges nothing")
        pending, self.pending = self.pending, []
        for topic, key, value, headers, on_delivered in pending:
            partition = partition_of(key or b"", self._broker.partitions[topic])
            offset = self._broker.append(topic, partition, key, value, headers)
            if on_delivered:
                on_delivered(partition, offset)

    def close(self) -> None:
        """See `EventProducer.close`."""
        self.pending.clear()


class FakeTransactionalProducer:
    """`shared.ports.TransactionalProducer`; nothing is in the log before `commit`."""

    def __init__(self, broker: FakeBroker, name: str) -> None:
        self._broker = broker
        self._name = name
        self._epoch: int | None = None
        self._pending = FakeProducer(broker)

    def settle(self) -> None:
        """See `TransactionalProducer.settle`: nothing goes on here."""

    def begin(self) -> None:
        """See `TransactionalProducer.begin`."""
        self._broker.check()
        if self._epoch is None:
            self._broker._epochs[self._name] += 1
            self._epoch = self._broker._epochs[self._name]
        self._pending.close()

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        headers: Sequence[tuple[str, bytes]] = (),
        on_delivered: Delivered | None = None,
    ) -> None:
        """See `Sender.send`."""
        self._pending.send(topic, key, value, headers=headers, on_delivered=on_delivered)

    def send_all(self, records: Iterable[Outgoing]) -> None:
        """See `Sender.send_all`."""
        self._pending.send_all(records)

    def commit(self, consumer: EventConsumer, offsets: Mapping[int, int]) -> None:
        """See `TransactionalProducer.commit`."""
        if self._epoch != self._broker._epochs[self._name]:
            self._epoch = None
            raise Fenced("another producer of this name has begun")
        if not consumer.membership:
            raise Fenced("the group has given these partitions to others")
        written = {(topic, self._home(topic, key)) for topic, key, *_ in self._pending.pending}
        self._pending.flush(0.0)
        consumer.commit(offsets, wait=True)
        for topic, partition in sorted(written):
            self._broker.mark(topic, partition)
        if self._broker.loses_commits:
            self._broker.loses_commits -= 1
            self._epoch = None
            raise BrokerUnavailable("the commit's answer is lost")

    def abort(self) -> None:
        """See `TransactionalProducer.abort`."""
        self._pending.close()

    def close(self) -> None:
        """See `TransactionalProducer.close`."""
        self._pending.close()

    def _home(self, topic: str, key: bytes | None) -> int:
        return partition_of(key or b"", self._broker.partitions[topic])


class FakeConsumer:
    """`shared.ports.EventConsumer`; rebalances take effect at the members' next poll."""

    def __init__(self, broker: FakeBroker, topic: str, group: _Group, reset: str) -> None:
        self._broker = broker
        self.topic = topic
        self._group = group
        self._reset = reset
        self._offsets: dict[int, int] = {}
        self._listener: Rebalance | None = None
        self._owned: list[int] = []

    def subscribe(self, rebalance: Rebalance) -> None:
        """See `EventConsumer.subscribe`."""
        self._listener = rebalance
        self._group.members.append(self)

    def assign(self, offsets: Mapping[int, int | None]) -> None:
        """See `EventConsumer.assign`."""
        self._offsets = {
            partition: self._start_of(partition) if offset is None else offset
            for partition, offset in offsets.items()
        }

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """See `EventConsumer.poll`; never waits."""
        self._rebalance()
        self._broker.check()
        records: list[Record] = []
        for partition, offset in self._offsets.items():
            start, end = self._broker.watermarks(self.topic, partition)
            if not start <= offset <= end:
                if self._reset == "error":
                    raise LogTruncated(f"{self.topic}/{partition} has no offset {offset}")
                offset = start
            unread = self._broker.records(self.topic, partition, offset)
            taken = unread[: max_records - len(records)]
            whole = len(taken) == len(unread)
            self._offsets[partition] = end if whole else taken[-1].offset + 1 if taken else offset
            records += taken
        return records

    def position(self, partition: int) -> int | None:
        """See `EventConsumer.position`."""
        return self._offsets.get(partition)

    @property
    def membership(self) -> bool:
        """See `EventConsumer.membership`: whether the group still counts on it."""
        return self._listener is None or self in self._group.members

    def watermarks(self, partition: int) -> Watermarks:
        """See `EventConsumer.watermarks`."""
        self._broker.check()
        return self._broker.watermarks(self.topic, partition)

    def commit(self, offsets: Mapping[int, int], *, wait: bool = False) -> None:
        """See `EventConsumer.commit`."""
        if wait:
            self._broker.check()
        if self._broker.available:
            self._group.committed.update(offsets)

    def close(self) -> None:
        """See `EventConsumer.close`."""
        self.kill()

    def kill(self) -> None:
        """The process is gone, and the group has noticed."""
        if self in self._group.members:
            self._group.members.remove(self)
        self._offsets = {}
        self._owned = []

    def _start_of(self, partition: int) -> int:
        committed = self._group.committed.get(partition)
        if committed is not None:
            return committed
        return self._broker.watermarks(self.topic, partition).start

    def _rebalance(self) -> None:
        if self._listener is None or self not in self._group.members:
            return
        rank, members = self._group.members.index(self), len(self._group.members)
        share = list(range(rank, self._broker.partitions[self.topic], members))
        if share == self._owned:
            return
        if self._owned:
            self._offsets = {}
            self._listener.revoked(self._owned)
        self._owned = share
        self._listener.assigned(share)
