"""The trainer's loop: poll → fold → dead letters → compare-and-set, and one way to recover.

Whatever raises a doubt about a partition (a conflict, a lost reply, a store or broker that does not
answer) has the same answer: forget the partition's memory, read its state again, and go on at the
offset that is stored there. Between two polls nothing is pending, so there is nothing to save when
a partition is revoked.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from shared.arm_statistics import row_dtype
from shared.dead_letter import dead_letter
from shared.membership import Membership
from shared.ports import (
    BrokerUnavailable,
    CorruptState,
    EventConsumer,
    EventProducer,
    LogTruncated,
    Position,
    Record,
    Rows,
    Source,
    StateStore,
    StoreUnavailable,
    Write,
)
from trainer.apply import Folded, PartitionFold, Rules
from trainer.counts import Counts
from trainer.folds import Folds
from trainer.starting_state import Recover, Refused, StartingStates

POLL_RECORDS: Final = 12_000
"""At most at a time: with all partitions behind, about a whole write for each."""

WRITE_ROWS: Final = 1_000
WRITE_BYTES: Final = 4_000_000
RETRY_S: Final = 0.25
"""How soon a partition is tried again when the store or broker did not answer …"""
REFUSED_RETRY_S: Final = 2.0
"""… and when someone has to act first."""
HOUSEKEEPING_EVERY_S: Final = 1.0
"""How often offsets are committed, and the store is asked whether it still holds our state."""
FLUSH_TIMEOUT_S: Final = 10.0
_MADE_ANEW: Final = "the topic was deleted and made again"

Wrote = Callable[[Sequence[Record], Rows], None]
"""Told what a write was made of: the records behind it, and the rows."""


class Trainer:
    """Serves the outcomes partitions that it is assigned. Implements `shared.ports.Rebalance`.

    Args:
        consumer: of the outcomes topic; must refuse offsets that the log does not hold.
        producer: for dead letters.
        store: where the rows live.
        source: asks for the identity of the outcomes log as it is now.
        rules: what makes an outcome acceptable.
        writer: name of this process, different in each.
        clock: monotonic seconds.
        recover: where to look for a snapshot when the state is missing.
        wrote: told the records and the rows of every write, for metrics and traces.
        step: called with a name between any two steps; tests crash here.
    """

    def __init__(
        self,
        consumer: EventConsumer,
        producer: EventProducer,
        store: StateStore,
        source: Callable[[], Source],
        rules: Rules,
        *,
        writer: str,
        clock: Callable[[], float],
        recover: Recover = lambda partition, source, held: None,
        wrote: Wrote = lambda records, rows: None,
        step: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.counts = Counts()
        self._consumer = consumer
        self._producer = producer
        self._store = store
        self._identify = source
        self._source: Source
        """The log that the served partitions were loaded for."""
        self._rules = rules
        self._states = StartingStates(store, rules.config, recover, writer)
        self._clock = clock
        self._wrote = wrote
        self._step = step
        self._membership = Membership(clock)
        self._chunk = max(1, min(WRITE_ROWS, WRITE_BYTES // row_dtype(rules.config.d).itemsize))
        self._waiting: dict[int, float] = {}
        """Ours, to be loaded, or judged again, at this time of the clock."""
        self._unwritten: dict[int, int] = {}
        """Offsets that could not be written: that the state can be read makes nobody served."""
        self._folds = Folds()
        self._stored: dict[int, Position] = {}
        """What we believe the store holds of each partition in memory."""
        self._housekept_at = clock()

    @property
    def ready(self) -> bool:
        """True while every partition that is ours is served."""
        return not self._waiting and not self._unwritten

    @property
    def not_ready(self) -> list[str]:
        """Why not every partition that is ours is served; empty if ready. For any thread."""
        if missing := self._membership.not_ready:
            return missing
        waiting = {p: f"partition {p} is being read" for p in list(self._waiting)}
        return sorted(set({**waiting, **self.counts.waiting}.values()))

    @property
    def positions(self) -> dict[int, int]:
        """Next offset to apply of each served partition. For any thread."""
        stored = list(self._stored.items())
        return {p: position.next_offset for p, position in stored if p not in self._waiting}

    @property
    def owned(self) -> list[int]:
        """The partitions that are ours, served or not. For any thread."""
        return sorted({*list(self._stored), *list(self._waiting)})

    def assigned(self, partitions: Sequence[int]) -> None:
        """See `Rebalance.assigned`: they are loaded at the next `run_once`."""
        self._membership.told()
        for partition in partitions:
            self._waiting.setdefault(partition, self._clock())

    def revoked(self, partitions: Sequence[int]) -> None:
        """See `Rebalance.revoked`: every flush has happened, so memory is just dropped."""
        self._membership.waits()
        for partition in partitions:
            self._forget(partition)
            self._waiting.pop(partition, None)
            self._is_served(partition)

    def run_once(self, timeout_s: float) -> int:
        """Load what is due, poll once, apply and store what came; returns the records applied to.

        Raises:
            BrokerUnavailable: the log can't be read just now; nothing is lost by calling again.
        """
        self._load_due()
        self._judge_again()
        try:
            records = self._consumer.poll(POLL_RECORDS, timeout_s)
        except LogTruncated as error:
            self._reload(list(self._folds.served), str(error))
            return 0
        self._step("polled")
        by_partition: dict[int, list[Record]] = defaultdict(list)
        for record in records:
            by_partition[record.partition].append(record)
        self._serve(by_partition)
        self._keep_house()
        return len(records)

    def commit(self) -> None:
        """Tell the group how far the store is, for tools that show lag; nothing relies on it."""
        self._consumer.commit(self.positions)

    def _serve(self, records: Mapping[int, Sequence[Record]]) -> None:
        """Apply and store what came, in rounds: of each partition as much as one write takes."""
        for start in range(0, max(map(len, records.values()), default=0), self._chunk):
            # What is not served (any more) is read again, once it is.
            self._apply(
                {
                    partition: own[start : start + self._chunk]
                    for partition, own in records.items()
                    if partition in self._folds.served and start < len(own)
                }
            )

    def _apply(self, parts: Mapping[int, Sequence[Record]]) -> None:
        """Fold one write's worth of records of each partition, and store them together."""
        folded = self._fold(parts)
        if not folded:
            return
        try:
            self._store_all(parts, folded)
        except (StoreUnavailable, BrokerUnavailable, CorruptState) as error:
            again = self._unwritten.keys() & folded.keys()
            self._unwritten.update({p: self._folds.served[p].next_offset for p in folded})
            self._reload(folded, str(error))
            # A lost reply is read again at once; a store that takes nothing need not be pressed.
            self._waiting.update(dict.fromkeys(again, self._clock() + RETRY_S))

    def _fold(self, parts: Mapping[int, Sequence[Record]]) -> dict[int, Folded]:
        """What the records came to; a partition whose records can't be judged yet is set aside."""
        folded, unjudged = self._folds.fold(parts)
        resumed = folded.keys() & self._waiting.keys()
        set_aside = unjudged.keys() - self._waiting.keys()
        for partition, error in unjudged.items():
            self._postpone(partition, self._clock() + RETRY_S, error)
        for partition in resumed:
            del self._waiting[partition]
            if partition not in self._unwritten:
                self._is_served(partition)
        if resumed or set_aside:  # otherwise nothing is to be read from elsewhere
            self._consumer.assign(self._folds.read_offsets)
        return folded

    def _judge_again(self) -> None:
        # The first, and no other before the next poll: each may take the broker's whole time.
        partition = next(iter(self._folds.aside), None)
        if partition is not None and self._waiting[partition] <= self._clock():
            self._apply(self._folds.take_up(partition))

    def _store_all(self, parts: Mapping[int, Sequence[Record]], folded: dict[int, Folded]) -> None:
        self._step("folded")
        self._send_dead_letters([pair for each in folded.values() for pair in each.dead])
        writes = [
            self._write(p, each.changed)
            for p, each in folded.items()
            if self._folds.served[p].next_offset > self._stored[p].next_offset
        ]
        conflicts = self._store.write_all(writes)
        self._step("written")
        lost = []
        for write, conflict in zip(writes, conflicts, strict=True):
            position, current = write.position, conflict and conflict.current
            if conflict and not (current and current.writer == position.writer):
                lost.append(write.partition)
                del folded[write.partition]
                continue
            self._stored[write.partition] = position
            self._is_served(write.partition)
            self._wrote(parts[write.partition], write.rows)
        self.counts.conflicts += len(lost)
        self.counts.writes += len(writes) - len(lost)
        for each in folded.values():
            self.counts.applied += each.applied
            self.counts.duplicates += each.duplicates
            self.counts.dead_letters += len(each.dead)
        if lost:
            self._reload(lost, "another writer has moved the state")

    def _write(self, partition: int, changed: Iterable[int]) -> Write:
        fold, stored = self._folds.served[partition], self._stored[partition]
        position = self._states.position(self._source, fold.next_offset, stored.generation)
        return Write(partition, stored, position, fold.rows(changed))

    def _send_dead_letters(self, dead: Sequence[tuple[Record, str]]) -> None:
        # Acknowledged before the offset advances: a record that is skipped is never lost.
        if not dead:
            return
        self._producer.send_all(dead_letter(record, reason) for record, reason in dead)
        self._step("dead letters sent")
        self._producer.flush(FLUSH_TIMEOUT_S)
        self._step("dead letters acknowledged")

    def _load_due(self) -> None:
        now = self._clock()
        aside = self._folds.aside
        due = [p for p, at in self._waiting.items() if at <= now and p not in aside]
        if not due:
            return
        try:
            source = self._identify()
        except BrokerUnavailable as error:
            for partition in due:
                self._postpone(partition, now + RETRY_S, error)
            return
        self._turn_to(source)
        loaded = False
        for partition in due:
            try:
                self._load(partition)
            except (StoreUnavailable, BrokerUnavailable) as error:
                self._postpone(partition, now + RETRY_S, error)
                break  # the next partition would only wait for the same answer
            except (Refused, CorruptState) as error:
                self._postpone(partition, now + REFUSED_RETRY_S, error)
            else:
                del self._waiting[partition]
                # Behind what was tried it is still to be seen whether the store takes anything.
                if self._stored[partition].next_offset >= self._unwritten.get(partition, 0):
                    self._is_served(partition)
                loaded = True
        if loaded:
            self._consumer.assign(self._folds.read_offsets)

    def _turn_to(self, source: Source) -> None:
        """What is loaded from now on is of this log, and nothing of another goes on."""
        if self._stored and not self._source.is_same_log(source):
            self._reload(list(self._stored), _MADE_ANEW)
        self._source = source
        if self._rules.log != source:
            self._rules = self._rules.on(source)

    def _postpone(self, partition: int, until_s: float, error: Exception) -> None:
        self._waiting[partition] = until_s
        self.counts.waiting[partition] = str(error)

    def _load(self, partition: int) -> None:
        held = self._consumer.watermarks(partition)
        state = self._states.load(partition, self._source, held)
        fold = PartitionFold(partition, self._rules, state.position.next_offset, state.rows)
        fold.read_offset = max(fold.read_offset, held.start)
        self._folds.put(partition, fold)
        self._stored[partition] = state.position
        self._step("loaded")

    def _reload(self, partitions: Iterable[int], reason: str) -> None:
        for partition in partitions:
            self._forget(partition)
            self._waiting[partition] = self._clock()
            self.counts.waiting[partition] = reason
            self.counts.reloads += 1
        self._consumer.assign(self._folds.read_offsets)

    def _is_served(self, partition: int) -> None:
        self._unwritten.pop(partition, None)
        self.counts.waiting.pop(partition, None)

    def _forget(self, partition: int) -> None:
        self._folds.forget(partition)
        self._stored.pop(partition, None)

    def _keep_house(self) -> None:
        now = self._clock()
        if now - self._housekept_at < HOUSEKEEPING_EVERY_S or not self._stored:
            return
        self._housekept_at = now
        self._apply(dict.fromkeys(self._folds.pass_marks(self._consumer.position), ()))
        self.commit()
        served = list(self._stored)
        if self._is_another_log():
            self._reload(served, _MADE_ANEW)
            return
        # A partition without traffic would not notice that its state was lost or rolled back.
        try:
            found = zip(served, self._store.positions(served), strict=True)
        except StoreUnavailable:
            return  # the next check or write will tell
        except CorruptState as error:
            self._reload(served, str(error))
            return
        moved = [partition for partition, at in found if at != self._stored[partition]]
        if moved:
            self._reload(moved, "the state in the store has changed")

    def _is_another_log(self) -> bool:
        # A consumer goes on at its offset in a topic of the same name, without a word.
        try:
            return not self._source.is_same_log(self._identify())
        except BrokerUnavailable:
            return False  # nothing comes from there either
