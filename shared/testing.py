"""Fakes of the ports, faults included: a crash, and the recovery from it, is a unit test.

They hold to the same contract as Kafka and Redis (`tests/contract` runs on both).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from shared.partitioner import partition_of
from shared.ports import (
    BrokerUnavailable,
    Change,
    ChangesLost,
    Conflict,
    Delivered,
    LogTruncated,
    Position,
    Rebalance,
    Record,
    Rows,
    Source,
    State,
    StoreUnavailable,
    Watermarks,
)


class Crash(BaseException):
    """The process dies here: nothing may catch this but the test."""


class CrashPoints:
    """Passed to a service as its `step` hook: counts the steps, and crashes at a chosen one."""

    def __init__(self, crash_at: int | None = None) -> None:
        self.seen: list[str] = []
        self.crash_at = crash_at

    def __call__(self, name: str) -> None:
        self.seen.append(name)
        if len(self.seen) - 1 == self.crash_at:
            raise Crash(name)


class FakeClock:
    """A monotonic clock that moves when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class _Group:
    members: list["FakeConsumer"] = field(default_factory=list)
    committed: dict[int, int] = field(default_factory=dict)


class FakeBroker:
    """Topics as lists, consumer groups with an eager range assignment.

    Faults: `available = False`; `acknowledges = False` (nothing that is sent is stored); `trim`;
    and a record lost because a producer died before `flush`.
    """

    def __init__(self, topics: Mapping[str, int]) -> None:
        self.partitions = dict(topics)
        self.available = True
        self.acknowledges = True
        self.cluster_id = "fake"
        self._logs: dict[tuple[str, int], list[Record]] = defaultdict(list)
        self._starts: dict[tuple[str, int], int] = defaultdict(int)
        self._groups: dict[tuple[str, str], _Group] = defaultdict(_Group)

    def source(self, topic: str) -> Source:
        """Identity of a topic's log."""
        return Source(self.cluster_id, topic, self.partitions[topic])

    def producer(self) -> "FakeProducer":
        """A new producer."""
        return FakeProducer(self)

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

    def records(self, topic: str, partition: int) -> list[Record]:
        """What a partition holds."""
        return list(self._logs[topic, partition])

    def trim(self, topic: str, partition: int, start: int) -> None:
        """Retention: forget everything before `start`."""
        drop = start - self._starts[topic, partition]
        del self._logs[topic, partition][:drop]
        self._starts[topic, partition] = start

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
        self._pending: list[
            tuple[str, bytes | None, bytes | None, Sequence[tuple[str, bytes]], Delivered | None]
        ] = []

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        headers: Sequence[tuple[str, bytes]] = (),
        on_delivered: Delivered | None = None,
    ) -> None:
        """See `EventProducer.send`."""
        self._pending.append((topic, key, value, headers, on_delivered))

    def flush(self, timeout_s: float) -> None:
        """See `EventProducer.flush`."""
        self._broker.check()
        if self._pending and not self._broker.acknowledges:
            raise BrokerUnavailable("the fake broker acknowledges nothing")
        pending, self._pending = self._pending, []
        for topic, key, value, headers, on_delivered in pending:
            partition = partition_of(key or b"", self._broker.partitions[topic])
            offset = self._broker.append(topic, partition, key, value, headers)
            if on_delivered:
                on_delivered(partition, offset)

    def close(self) -> None:
        """See `EventProducer.close`."""
        self._pending.clear()


class FakeConsumer:
    """`shared.ports.EventConsumer`; rebalances take effect at the members' next poll."""

    def __init__(self, broker: FakeBroker, topic: str, group: _Group, reset: str) -> None:
        self._broker = broker
        self._topic = topic
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
            start, end = self._broker.watermarks(self._topic, partition)
            if not start <= offset <= end:
                if self._reset == "error":
                    raise LogTruncated(f"{self._topic}/{partition} has no offset {offset}")
                offset = start
            log = self._broker.records(self._topic, partition)
            taken = log[offset - start :][: max_records - len(records)]
            self._offsets[partition] = offset + len(taken)
            records += taken
        return records

    def watermarks(self, partition: int) -> Watermarks:
        """See `EventConsumer.watermarks`."""
        self._broker.check()
        return self._broker.watermarks(self._topic, partition)

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
        return self._broker.watermarks(self._topic, partition).start

    def _rebalance(self) -> None:
        if self._listener is None or self not in self._group.members:
            return
        rank, members = self._group.members.index(self), len(self._group.members)
        share = list(range(rank, self._broker.partitions[self._topic], members))
        if share == self._owned:
            return
        if self._owned:
            self._offsets = {}
            self._listener.revoked(self._owned)
        self._owned = share
        self._listener.assigned(share)


class FakeStore:
    """`shared.ports.StateStore` in memory.

    Faults: `available = False`; `lose_replies` (a write is applied, its answer lost);
    `send_twice` (so it is, and the client sends the command again, as redis-py does);
    `lose_changes` (announcements that reach nobody); `flush`; `dump` and `restore` (an older copy
    comes back, as after a crash with an old append-only file).
    """

    def __init__(self) -> None:
        self.available = True
        self.lose_replies = 0
        self.send_twice = False
        self.lose_changes = 0
        self.states: dict[int, State] = {}
        self._feeds: list[FakeChangeFeed] = []

    def positions(self, partitions: Sequence[int]) -> list[Position | None]:
        """See `StateStore.positions`."""
        self._check()
        states = [self.states.get(partition) for partition in partitions]
        return [state.position if state else None for state in states]

    def scan(self, partition: int) -> Iterator[Rows]:
        """See `StateStore.scan`; pages of three arms."""
        self._check()
        state = self.states.get(partition)
        arms = list(state.rows) if state else []
        for start in range(0, len(arms), 3):
            self._check()
            current = self.states[partition].rows
            yield {arm: current[arm] for arm in arms[start : start + 3] if arm in current}

    def write(
        self,
        partition: int,
        expected: Position | None,
        position: Position,
        rows: Mapping[int, bytes],
    ) -> Conflict | None:
        """See `StateStore.write`."""
        self._check()
        state = self.states.get(partition)
        current = state.position if state else None
        if not self._matches(current, expected):
            return Conflict(current)
        merged = {**state.rows, **rows} if state else dict(rows)
        self.states[partition] = State(position, merged)
        start = expected.next_offset if expected else position.next_offset
        self._announce(
            Change(partition, position.generation, start, position.next_offset, dict(rows))
        )
        if self.lose_replies:
            self.lose_replies -= 1
            raise StoreUnavailable("the fake store's reply was lost")
        return Conflict(position) if self.send_twice else None

    def replace(self, partition: int, state: State) -> None:
        """See `StateStore.replace`."""
        self._check()
        current = self.states.get(partition)
        generation = max(state.position.generation, current.position.generation if current else 0)
        position = msgspec.structs.replace(state.position, generation=generation + 1)
        self.states[partition] = State(position, dict(state.rows))
        self._announce(Change(partition, generation + 1, -1, position.next_offset, {}))

    def changes(self, partitions: Sequence[int]) -> "FakeChangeFeed":
        """See `StateStore.changes`."""
        self._check()
        feed = FakeChangeFeed(set(partitions))
        self._feeds.append(feed)
        return feed

    def close(self) -> None:
        """See `StateStore.close`."""

    def flush(self) -> None:
        """Everything is gone."""
        self.states = {}

    def dump(self) -> dict[int, State]:
        """A copy to `restore` later."""
        return {p: State(state.position, dict(state.rows)) for p, state in self.states.items()}

    def restore(self, copy: Mapping[int, State]) -> None:
        """An older copy comes back, and with it a connection that was interrupted."""
        self.states = {p: State(state.position, dict(state.rows)) for p, state in copy.items()}
        self.interrupt_feeds()

    def interrupt_feeds(self) -> None:
        """The connection of every change feed breaks."""
        for feed in self._feeds:
            feed.lost = True

    @staticmethod
    def _matches(current: Position | None, expected: Position | None) -> bool:
        def compared(position: Position | None) -> tuple[int, Source, int] | None:
            if position is None:
                return None
            return position.next_offset, position.source, position.generation

        return compared(current) == compared(expected)

    def _check(self) -> None:
        if not self.available:
            raise StoreUnavailable("the fake store is away")

    def _announce(self, change: Change) -> None:
        if self.lose_changes:
            self.lose_changes -= 1
            return
        for feed in self._feeds:
            feed.offer(change)


class FakeChangeFeed:
    """`shared.ports.ChangeFeed` in memory."""

    def __init__(self, partitions: set[int]) -> None:
        self.lost = False
        self._partitions = partitions
        self._changes: list[Change] = []

    def offer(self, change: Change) -> None:
        """Announce a change."""
        if change.partition in self._partitions:
            self._changes.append(change)

    def drain(self, wait_s: float = 0.0) -> list[Change]:
        """See `ChangeFeed.drain`."""
        changes, self._changes = self._changes, []
        if self.lost:
            self.lost = False
            raise ChangesLost("the fake feed was interrupted")
        return changes

    def close(self) -> None:
        """See `ChangeFeed.close`."""
