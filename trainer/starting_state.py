"""What a trainer starts a partition with: the state in the store, or what takes its place.

It goes on only where the state is that of this log and this model. Everything else is refused, with
what to do about it, and left as it is.
"""

from collections.abc import Callable

from shared.ports import (
    ModelConfig,
    Position,
    Rows,
    Source,
    State,
    StateStore,
    StoreUnavailable,
    Watermarks,
)

Recover = Callable[[int, Source, Watermarks], State | None]
"""The newest snapshot of a partition that its log still continues (`SnapshotFolder.newest`)."""


class Refused(Exception):
    """The trainer will not touch this partition's state: going on would lose or mix outcomes."""


class StartingStates:
    """Reads, makes and checks states.

    Args:
        store: where they are.
        config: what they must have been made with.
        recover: where to look for a snapshot when one is missing.
        writer: name of this process, different in each.
    """

    def __init__(
        self, store: StateStore, config: ModelConfig, recover: Recover, writer: str
    ) -> None:
        self._store = store
        self._config = config
        self._recover = recover
        self._writer = writer
        self._writes = 0

    def load(self, partition: int, source: Source, held: Watermarks) -> State:
        """The state of a partition, made or recovered if it is missing.

        Args:
            partition: which.
            source: the log as it is now.
            held: the offsets that the log holds of the partition.

        Raises:
            Refused: it is not the state of this log and model, or can't be had.
            StoreUnavailable: not now, or someone wrote while it was read.
            CorruptState: what is stored can't be read as a state.
        """
        [position] = self._store.positions([partition])
        if position:  # before anything takes its place
            self._check(partition, position, source, held)
        if position is None or position.next_offset < held.start:
            position = self._recovered(partition, position, source, held)
            self._check(partition, position, source, held)
        rows: Rows = {}
        for page in self._store.scan(partition):
            rows.update(page)
        # A write in between puts newer rows beside an older position. If the store then crashes and
        # loses it, our next write would be accepted, and count again what the rows hold already.
        if self._store.positions([partition]) != [position]:
            raise StoreUnavailable(f"partition {partition}: the state changed while it was read")
        return State(position, rows)

    def position(self, source: Source, next_offset: int, generation: int) -> Position:
        """Where a write of this process leads, under a name that no other write has."""
        self._writes += 1
        writer = f"{self._writer}:{self._writes}"
        return Position(next_offset, source, generation, writer, self._config)

    def _recovered(
        self, partition: int, position: Position | None, source: Source, held: Watermarks
    ) -> Position:
        """Make the state that is missing, or that the log no longer continues."""
        if position is None and held.start == 0:
            position = self.position(source, 0, generation=1)
            conflict = self._store.write(partition, None, position, {})
            if conflict is not None:
                raise StoreUnavailable("another trainer has just created the state")
            return position
        snapshot = self._recover(partition, source, held)
        if snapshot is None:
            state = "there is no state" if position is None else f"ends at {position.next_offset}"
            raise Refused(
                f"partition {partition}: {state} in the store and the log starts only at "
                f"{held.start}; load a snapshot that reaches it (`reco snapshot load FILE`)"
            )
        self._store.replace(partition, snapshot)
        [restored] = self._store.positions([partition])
        if restored is None:
            raise StoreUnavailable("the restored state is gone again")
        return restored

    def _check(self, partition: int, position: Position, source: Source, held: Watermarks) -> None:
        if not position.source.is_same_log(source):
            raise Refused(
                f"partition {partition}: the state belongs to another log "
                f"({position.source.became(source)}); use another --model, or load a snapshot of "
                "this log (`reco snapshot load --force FILE`)"
            )
        if position.config != self._config:
            raise Refused(
                f"partition {partition}: the state was made with "
                f"{position.config.unlike(self._config)}; use the data folder and the --gamma it "
                "was made with, or another --model"
            )
        if position.next_offset > held.end:
            raise Refused(
                f"partition {partition}: the state is at offset {position.next_offset} but the log "
                f"ends at {held.end}: it is not the log that the state was made from; use another "
                "--model or load a snapshot of this log"
            )
