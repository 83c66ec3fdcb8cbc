"""Redis' fake: the states as dictionaries, and the announcements."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from shared.ports import (
    Change,
    ChangesLost,
    Conflict,
    Position,
    Rows,
    Source,
    State,
    StoreUnavailable,
    Write,
)


class FakeStore:
    """`shared.ports.StateStore` in memory.

    Faults: `available = False`; `full = True` (it can only be read); `lose_replies` (a write is
    applied, its answer lost); `send_twice` (so it is, and the client sends the command again, as
    redis-py does); `lose_changes` (announcements that reach nobody); `wrote` (called after each
    write: who raises there dies, or is cut off, with some of several made); `flush`; `dump` and
    `restore` (an older copy comes back, as after a crash with an old append-only file).
    """

    def __init__(self) -> None:
        self.available = True
        self.full = False
        self.lose_replies = 0
        self.send_twice = False
        self.lose_changes = 0
        self.wrote: Callable[[], None] = lambda: None
        self.round_trips = 0
        """Of writes."""
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
        [conflict] = self.write_all([Write(partition, expected, position, dict(rows))])
        return conflict

    def write_all(self, writes: Sequence[Write]) -> list[Conflict | None]:
        """See `StateStore.write_all`."""
        self.round_trips += 1
        if self.full:
            raise StoreUnavailable("the fake store is full")
        return [self._write_one(*write) for write in writes]

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

    def _write_one(
        self, partition: int, expected: Position | None, position: Position, rows: Rows
    ) -> Conflict | None:
        self._check()
        state = self.states.get(partition)
        current = state.position if state else None
        if not self._matches(current, expected):
            return Conflict(current)
        merged = {**state.rows, **rows} if state else rows
        self.states[partition] = State(position, merged)
        start = expected.next_offset if expected else position.next_offset
        self._announce(Change(partition, position.generation, start, position.next_offset, rows))
        if self.lose_replies:
            self.lose_replies -= 1
            raise StoreUnavailable("the fake store's reply was lost")
        self.wrote()
        return Conflict(position) if self.send_twice else None

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
