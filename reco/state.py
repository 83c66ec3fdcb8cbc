"""Reading the stored state as one consistent copy, while trainers go on writing."""

from collections.abc import Sequence
from typing import Final

from msgspec import structs

from server.partition_view import PartitionView, Update
from shared.ports import Change, ChangesLost, Position, State, StateStore, StoreUnavailable

_ROUNDS: Final = 200
_WAIT_S: Final = 0.05


def read_states(store: StateStore, partitions: Sequence[int]) -> list[State | None]:
    """The state of each partition, each consistent in itself; None where there is none.

    Raises:
        StoreUnavailable: the store is away, or changes faster than it can be copied.
    """
    feed = store.changes(partitions)
    try:
        followers = {p: _Follower() for p in partitions}
        for _ in range(_ROUNDS):
            for partition, follower in followers.items():
                follower.copy_if_due(store, partition)
            if all(follower.done for follower in followers.values()):
                return [followers[p].state for p in partitions]
            try:
                for change in feed.drain(_WAIT_S):
                    followers[change.partition].hear(change)
            except ChangesLost:
                followers = {p: _Follower() for p in partitions}
    finally:
        feed.close()
    raise StoreUnavailable("the state changes faster than it can be copied; try again")


class _Follower:
    def __init__(self) -> None:
        self.done = False
        self.state: State | None = None
        self._view = PartitionView()
        self._position: Position | None = None

    def copy_if_due(self, store: StateStore, partition: int) -> None:
        if self.done or not self._view.must_read:
            return
        [self._position] = store.positions([partition])
        pages = list(store.scan(partition))
        [after] = store.positions([partition])
        self._take(self._view.copied(self._position, pages, after))

    def hear(self, change: Change) -> None:
        if not self.done:
            self._take(self._view.heard(change))

    def _take(self, update: Update | None) -> None:
        if update is None:
            return
        self.done = True
        if self._position:
            position = structs.replace(self._position, next_offset=update.next_offset)
            self.state = State(position, update.rows)
