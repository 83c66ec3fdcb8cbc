"""One partition of the outcomes log, folded into statistics: pure, and a function of the log alone.

Replay (`reco replay`) and the trainer run this same code, so that they can be compared bit for bit.
"""

import itertools
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.arm_statistics import ArmStatistics, Floats, Integers
from shared.events import UNDECODABLE, Outcome, decode_outcome, key_of
from shared.partitioner import partition_of
from shared.ports import ModelConfig, Record, Rows, Source

DEDUPE_WINDOW: Final = 100_000
"""W: an outcome_id seen in the last W offsets of its partition is a duplicate."""

MAX_ABS_X: Final = 1_000.0
"""Encoded contexts lie in [0, 1]; beyond this a number is a mistake, and would drown all others."""


class Newcomers(Protocol):
    """Who knows of products that were added later (`shared.products_feed`)."""

    def catch_up(self) -> None:
        """Learn everything there is to know at this moment; may raise `BrokerUnavailable`."""

    def first_offset(self, product_id: int, log: Source | None) -> int | None:
        """The first offset of this log at which its outcomes count; None: no such product.

        May raise `NotYet`: it can't be said.
        """


class Rules(msgspec.Struct, frozen=True):
    """What makes an outcome acceptable."""

    config: ModelConfig
    partitions: dict[int, int]
    """Every known arm → the partition it must arrive in. Grows as newcomers are met."""
    dedupe_window: int = DEDUPE_WINDOW
    partition_count: int = 0
    newcomers: Newcomers | None = None
    """Asked about an arm that is not known, before its outcome becomes a dead letter."""
    log: Source | None = None
    """Whose offsets are judged (see `on`)."""
    first_offsets: dict[int, int] = {}
    """Of the newcomers among the arms, in this log."""

    @classmethod
    def of(
        cls,
        config: ModelConfig,
        arms: Iterable[int],
        partition_count: int,
        dedupe_window: int = DEDUPE_WINDOW,
        newcomers: Newcomers | None = None,
    ) -> "Rules":
        """Rules for these arms on a topic with this many partitions."""
        partitions = {arm: partition_of(key_of(arm), partition_count) for arm in arms}
        return cls(config, partitions, dedupe_window, partition_count, newcomers)

    def on(self, log: Source) -> "Rules":
        """The same for this log: where newcomers begin in another says nothing here."""
        first = self.first_offsets
        prepared = {arm: home for arm, home in self.partitions.items() if arm not in first}
        return msgspec.structs.replace(self, partitions=prepared, log=log, first_offsets={})

    def meet(self, arms: Iterable[int]) -> None:
        """Ask about arms that are not known, and newcomers: added again, one may begin earlier.

        An outcome lies in the log before it is judged here, and a product is announced before its
        first outcome can be: so whoever judges it, now or in a replay, finds the same.
        """
        if self.newcomers is None:
            return
        self.newcomers.catch_up()
        for arm in dict.fromkeys(arms):
            if arm in self.partitions and arm not in self.first_offsets:
                continue
            first = self.newcomers.first_offset(arm, self.log)
            if first is not None:
                self.first_offsets[arm] = first
                self.partitions[arm] = partition_of(key_of(arm), self.partition_count)


class Folded(NamedTuple):
    """What a batch came to."""

    changed: list[int]
    """Arms whose statistics changed."""
    dead: list[tuple[Record, str]]
    """Records that can't be applied, and why."""
    applied: int
    duplicates: int


class DedupeWindow:
    """The outcome_ids of the last W offsets. A later sight of an id renews it.

    So whether a record is a duplicate depends on the W records before it and on nothing else: the
    window can be rebuilt by reading them back.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._last_seen: dict[str, int] = {}

    def first_seen(self, ids: Sequence[str], offsets: Integers) -> NDArray[np.bool_]:
        """Note the ids at these offsets; False for each that stood in the window before."""
        width, last_seen = self._width, self._last_seen
        first = np.ones(len(ids), np.bool_)
        if len(set(ids)) == len(ids) and last_seen.keys().isdisjoint(ids):  # as nearly always
            last_seen.update(zip(ids, offsets.tolist(), strict=True))
        else:
            for i, (outcome_id, offset) in enumerate(zip(ids, offsets.tolist(), strict=True)):
                before = last_seen.get(outcome_id)
                last_seen[outcome_id] = offset
                if before is not None and offset - before <= width:
                    first[i] = False
        if len(last_seen) > 2 * width + 1_000:
            oldest = int(offsets[-1]) - width
            self._last_seen = {i: seen for i, seen in last_seen.items() if seen >= oldest}
        return first


class PartitionFold:
    """The memory of one partition: statistics up to `next_offset`, and the dedupe window.

    Args:
        partition: its number in the outcomes topic.
        rules: what is acceptable.
        next_offset: the first offset that is not in the statistics yet. Records before it only
            fill the dedupe window.
        rows: the stored rows to start from.

    Raises:
        CorruptRow: a stored row can't be read.
    """

    def __init__(
        self,
        partition: int,
        rules: Rules,
        next_offset: int = 0,
        rows: Mapping[int, bytes] | None = None,
    ) -> None:
        self.partition = partition
        self.next_offset = next_offset
        self.read_offset = max(0, next_offset - rules.dedupe_window)
        """Where reading goes on: behind `next_offset` while the window is read back."""
        self.statistics = ArmStatistics(rules.config.d, rules.config.gamma)
        self.statistics.load(rows or {})
        self._rules = rules
        self._window = DedupeWindow(rules.dedupe_window)

    def fold(self, records: Sequence[Record]) -> Folded:
        """Apply records in offset order; nothing of it is stored yet.

        Args:
            records: of this partition, ascending, none before `read_offset`.
        """
        if not records:
            return Folded([], [], 0, 0)
        valid, dead = self._validate(records)
        fresh = valid.only(self._window.first_seen(valid.ids, valid.offsets))
        if records[0].offset < self.next_offset:
            # Reading back: seen by the window, counted long ago.
            dead = [pair for pair in dead if pair[0].offset >= self.next_offset]
            valid, fresh = (part.only(part.offsets >= self.next_offset) for part in (valid, fresh))
        self.pass_to(records[-1].offset + 1)
        arms = fresh.arms
        if arms:
            at = np.array(arms, np.int64)
            self.statistics.add(at, fresh.X, fresh.rewards, fresh.offsets)
        return Folded(list(dict.fromkeys(arms)), dead, len(arms), len(valid.arms) - len(arms))

    def pass_to(self, offset: int) -> None:
        """Nothing that readers are shown lies before this offset any more."""
        self.read_offset = offset
        self.next_offset = max(self.next_offset, offset)

    def is_home_of(self, arm: int) -> bool:
        """Whether this arm's outcomes belong into this partition."""
        return self._rules.partitions.get(arm) == self.partition

    def rows(self, arms: Iterable[int]) -> Rows:
        """The rows of these arms as they are stored."""
        return self.statistics.pack(arms)

    def _validate(self, records: Sequence[Record]) -> tuple["_Valid", list[tuple[Record, str]]]:
        config, homes, here = self._rules.config, self._rules.partitions, self.partition
        d, encoder_id, first = config.d, config.encoder_id, self._rules.first_offsets
        # Columns, filled as the records are decoded: an outcome that is let go of at once leaves
        # its memory, still in the cache, to the next one.
        ids, arms, rewards, offsets, numbers = [], [], [], [], array("d")
        dead: list[tuple[Record, str]] = []
        met = False
        for record in records:
            try:
                outcome = decode_outcome(record.value or b"")
            except UNDECODABLE as error:
                dead.append((record, f"undecodable: {error}"))
                continue
            arm = outcome.product_id
            if not met and (arm not in homes or (first and record.offset < first.get(arm, 0))):
                met = True
                self._rules.meet(_products(records))
            if (
                homes.get(arm) == here
                and outcome.encoder_id == encoder_id
                and len(outcome.x) == d
                and 0.0 <= outcome.reward <= 1.0
                and (not first or record.offset >= first.get(arm, 0))
            ):
                ids.append(outcome.outcome_id)
                arms.append(arm)
                rewards.append(outcome.reward)
                offsets.append(record.offset)
                numbers.fromlist(outcome.x)
            else:
                dead.append((record, self._fault(record, outcome)))
        X = np.frombuffer(numbers).reshape(-1, d)
        valid = _Valid(ids, arms, np.array(rewards), X, np.array(offsets, np.int64))
        if not np.abs(X).max(initial=0.0) <= MAX_ABS_X:  # so for NaN too
            sane = np.logical_and.reduce(np.abs(X) <= MAX_ABS_X, axis=1)
            reason = f"x has a number that is not finite or beyond ±{MAX_ABS_X:g}"
            insane = set(valid.offsets[~sane].tolist())
            dead += [(record, reason) for record in records if record.offset in insane]
            dead.sort(key=lambda pair: pair[0].offset)
            valid = valid.only(sane)
        return valid, dead

    def _fault(self, record: Record, outcome: Outcome) -> str:
        config = self._rules.config
        home = self._rules.partitions.get(outcome.product_id)
        if home is None or record.offset < self._rules.first_offsets.get(outcome.product_id, 0):
            return f"unknown product {outcome.product_id}"
        if home != self.partition:
            return f"wrong partition: product {outcome.product_id} belongs to {home}"
        if outcome.encoder_id != config.encoder_id:
            return f"wrong encoder: {outcome.encoder_id}, not {config.encoder_id}"
        if len(outcome.x) != config.d:
            return f"x has {len(outcome.x)} numbers, not {config.d}"
        return f"reward {outcome.reward:g} is not in [0, 1]"


def _products(records: Sequence[Record]) -> Iterator[int]:
    """The products that the readable records name: read again, where a batch has to ask."""
    for record in records:
        with suppress(*UNDECODABLE):
            yield decode_outcome(record.value or b"").product_id


class _Valid(NamedTuple):
    """Outcomes that passed, column by column, and where they stand."""

    ids: list[str]
    arms: list[int]
    rewards: Floats
    X: Floats
    offsets: Integers

    def only(self, chosen: NDArray[np.bool_]) -> "_Valid":
        if chosen.all():
            return self
        few = chosen.tolist()
        return _Valid(
            list(itertools.compress(self.ids, few)),
            list(itertools.compress(self.arms, few)),
            self.rewards[chosen],
            self.X[chosen],
            self.offsets[chosen],
        )
