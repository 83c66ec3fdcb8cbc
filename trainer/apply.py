"""One partition of the outcomes log, folded into statistics: pure, and a function of the log alone.

Replay (`reco replay`) and the trainer run this same code, so that they can be compared bit for bit.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from shared.arm_statistics import ArmStatistics
from shared.events import Outcome, decode_outcome, key_of
from shared.partitioner import partition_of
from shared.ports import ModelConfig, Record, Rows

DEDUPE_WINDOW: Final = 100_000
"""W: an outcome_id seen in the last W offsets of its partition is a duplicate."""

MAX_ABS_X: Final = 1_000.0
"""Encoded contexts lie in [0, 1]; beyond this a number is a mistake, and would drown all others."""


class Rules(msgspec.Struct, frozen=True):
    """What makes an outcome acceptable."""

    config: ModelConfig
    partitions: dict[int, int]
    """Every known arm → the partition it must arrive in."""
    dedupe_window: int = DEDUPE_WINDOW

    @classmethod
    def of(
        cls,
        config: ModelConfig,
        arms: Iterable[int],
        partition_count: int,
        dedupe_window: int = DEDUPE_WINDOW,
    ) -> "Rules":
        """Rules for these arms on a topic with this many partitions."""
        partitions = {arm: partition_of(key_of(arm), partition_count) for arm in arms}
        return cls(config, partitions, dedupe_window)


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

    def is_duplicate(self, outcome_id: str, offset: int) -> bool:
        """Note the id at this offset; True if it stood in the window before."""
        before = self._last_seen.get(outcome_id)
        self._last_seen[outcome_id] = offset
        if len(self._last_seen) > 2 * self._width + 1_000:
            oldest = offset - self._width
            self._last_seen = {i: seen for i, seen in self._last_seen.items() if seen >= oldest}
        return before is not None and offset - before <= self._width


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
        valid, dead = self._validate(records)
        fresh = [pair for pair in valid if not self._window.is_duplicate(*_identity(pair))]
        old = [record for record in records if record.offset < self.next_offset]
        if old:  # reading back: seen by the window, counted long ago
            dead = [pair for pair in dead if pair[0].offset >= self.next_offset]
            valid = [pair for pair in valid if pair[0].offset >= self.next_offset]
            fresh = [pair for pair in fresh if pair[0].offset >= self.next_offset]
        if records:
            self.read_offset = records[-1].offset + 1
            self.next_offset = max(self.next_offset, self.read_offset)
        if fresh:
            self._add(fresh)
        changed = list(dict.fromkeys(outcome.product_id for _, outcome in fresh))
        return Folded(changed, dead, len(fresh), len(valid) - len(fresh))

    def is_home_of(self, arm: int) -> bool:
        """Whether this arm's outcomes belong into this partition."""
        return self._rules.partitions.get(arm) == self.partition

    def rows(self, arms: Iterable[int]) -> Rows:
        """The rows of these arms as they are stored."""
        return self.statistics.pack(arms)

    def _add(self, pairs: Sequence[tuple[Record, Outcome]]) -> None:
        self.statistics.add(
            np.array([outcome.product_id for _, outcome in pairs], np.int64),
            np.array([outcome.x for _, outcome in pairs], np.float64),
            np.array([outcome.reward for _, outcome in pairs], np.float64),
            np.array([record.offset for record, _ in pairs], np.int64),
        )

    def _validate(
        self, records: Sequence[Record]
    ) -> tuple[list[tuple[Record, Outcome]], list[tuple[Record, str]]]:
        decoded: list[tuple[Record, Outcome]] = []
        dead: list[tuple[Record, str]] = []
        for record in records:
            outcome, reason = self._decode(record)
            if outcome is None:
                dead.append((record, reason))
            else:
                decoded.append((record, outcome))
        if not decoded:
            return decoded, dead
        X = np.array([outcome.x for _, outcome in decoded])
        sane = (np.abs(X) <= MAX_ABS_X).all(axis=1)  # False for NaN too
        if sane.all():
            return decoded, dead
        dead += [
            (record, f"x has a number that is not finite or beyond ±{MAX_ABS_X:g}")
            for (record, _), ok in zip(decoded, sane, strict=True)
            if not ok
        ]
        dead.sort(key=lambda pair: pair[0].offset)
        return [pair for pair, ok in zip(decoded, sane, strict=True) if ok], dead

    def _decode(self, record: Record) -> tuple[Outcome | None, str]:
        try:
            outcome = decode_outcome(record.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return None, f"undecodable: {error}"
        config = self._rules.config
        home = self._rules.partitions.get(outcome.product_id)
        if home is None:
            return None, f"unknown product {outcome.product_id}"
        if home != self.partition:
            return None, f"wrong partition: product {outcome.product_id} belongs to {home}"
        if outcome.encoder_id != config.encoder_id:
            return None, f"wrong encoder: {outcome.encoder_id}, not {config.encoder_id}"
        if len(outcome.x) != config.d:
            return None, f"x has {len(outcome.x)} numbers, not {config.d}"
        if not 0.0 <= outcome.reward <= 1.0:
            return None, f"reward {outcome.reward:g} is not in [0, 1]"
        return outcome, ""


def _identity(pair: tuple[Record, Outcome]) -> tuple[str, int]:
    return pair[1].outcome_id, pair[0].offset
