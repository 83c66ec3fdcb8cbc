"""Rebuild the state from the log and hold it against what is stored, bit for bit."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from shared.arm_statistics import ArmStatistics, CorruptRow
from shared.linucb import precision
from shared.ports import (
    BrokerUnavailable,
    EventConsumer,
    LogTruncated,
    Position,
    Source,
    State,
)
from trainer.apply import PartitionFold, Rules

POLL_RECORDS: Final = 5_000
_SILENT_POLLS: Final = 20
_POLL_S: Final = 0.5


class CannotReplay(Exception):
    """The log and the snapshot do not give a start from which the state could be computed again."""


class Rebuilt(msgspec.Struct):
    """One partition, computed again from its log."""

    fold: PartitionFold
    start: int
    """Offset that the replay started from: 0, or where the snapshot stood."""
    applied: int = 0
    duplicates: int = 0
    dead_letters: int = 0


class Report(msgspec.Struct):
    """What `reco replay` found, over all partitions."""

    outcomes: int = 0
    """Records of the log up to the stored positions."""
    arms: int = 0
    applied: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    differing_bits: int = 0
    lag: int = 0
    """Records that the trainer has not applied yet: not part of the comparison."""
    violations: list[str] = msgspec.field(default_factory=list)
    """Invariants that do not hold, in words."""

    @property
    def passed(self) -> bool:
        """True if the state is exactly what the log says."""
        return self.differing_bits == 0 and not self.violations


def rebuild(
    consumer: EventConsumer,
    partition: int,
    rules: Rules,
    until: int,
    base: State | None = None,
    progress: Callable[[int], None] = lambda records: None,
) -> Rebuilt:
    """Fold one partition's log up to the offset `until`.

    Args:
        consumer: of the outcomes topic, in no group.
        partition: which.
        rules: those of the trainer.
        until: first offset that is not folded any more.
        base: a snapshot to start from, needed where the log no longer starts at 0.
        progress: told the number of records after each batch.

    Raises:
        CannotReplay: the log starts after 0 (or after the snapshot), or the snapshot is further
            than `until` or not of these rules.
        BrokerUnavailable: the log does not come to `until` within 10 s without a record.
    """
    if base:
        _check_base(base.position, partition, rules, until)
    held = consumer.watermarks(partition)
    start = base.position.next_offset if base else 0
    if held.start > start:
        raise CannotReplay(
            f"partition {partition}: the log starts only at {held.start}, the replay would have to "
            f"start at {start}; give a snapshot that it continues (--snapshot FILE)"
        )
    fold = PartitionFold(partition, rules, start, base.rows if base else None)
    fold.read_offset = max(fold.read_offset, held.start)
    result = Rebuilt(fold, start)
    consumer.assign({partition: fold.read_offset})
    silent = 0
    while fold.read_offset < until:
        try:
            records = consumer.poll(POLL_RECORDS, _POLL_S)
        except LogTruncated as error:
            raise CannotReplay(f"partition {partition}: {error}") from error
        records = [record for record in records if record.offset < until]
        silent = 0 if records else silent + 1
        if silent > _SILENT_POLLS:
            raise BrokerUnavailable(
                f"partition {partition} brings no records at {fold.read_offset}, before {until}"
            )
        folded = fold.fold(records)
        if not records:  # the rest may be marks of transactions, which are not shown
            fold.pass_to(min(consumer.position(partition) or 0, until))
        result.applied += folded.applied
        result.duplicates += folded.duplicates
        result.dead_letters += len(folded.dead)
        progress(len(records))
    return result


def _check_base(base: Position, partition: int, rules: Rules, until: int) -> None:
    """Whether the log from the snapshot on leads to the state at `until`."""
    if rules.log and not base.source.is_same_log(rules.log):
        what = f"is of another log ({base.source.became(rules.log)})"
    elif base.config != rules.config:
        what = f"was made with {base.config.unlike(rules.config)} as asked for here"
    elif base.next_offset > until:
        what = f"is at {base.next_offset}, further than the state at {until}"
    else:
        return
    raise CannotReplay(
        f"partition {partition}: the snapshot {what}; give another (--snapshot FILE), or none"
    )


def compare_all(
    consumer: EventConsumer,
    rules: Rules,
    states: Sequence[State | None],
    bases: Mapping[int, State],
    source: Source | None = None,
) -> tuple[Report, dict[int, State]]:
    """Rebuild every partition up to its stored position, and compare.

    Args:
        consumer: of the outcomes topic, in no group, refusing offsets that are not there.
        rules: those of the trainer.
        states: what is stored, by partition.
        bases: snapshots to start from, where the log no longer starts at 0.
        source: which log that is. A state that was made from another, or with another
            configuration than that of the rules, is a violation and not rebuilt.

    Returns:
        The report, and the states as rebuilt.

    Raises:
        CannotReplay, BrokerUnavailable: see `rebuild`.
    """
    report, result = Report(), {}
    rules = rules.on(source) if source else rules
    # All of them first: what comes while the log is read is no lag of the trainer's.
    ends = [consumer.watermarks(partition) for partition in range(len(states))]
    for partition, (stored, held) in enumerate(zip(states, ends, strict=True)):
        if stored is None:
            if held.end:
                report.lag += held.end
                report.violations.append(
                    f"partition {partition}: no state in the store, but the log holds "
                    f"{held.end - held.start} records; is a trainer running?"
                )
            continue
        if made := _made_otherwise(stored.position, rules):
            report.violations.append(f"partition {partition}: the state was made {made}")
            continue
        report.lag += held.end - stored.position.next_offset
        base = bases.get(partition)
        rebuilt = rebuild(consumer, partition, rules, stored.position.next_offset, base)
        check(report, stored, rebuilt, base)
        rows = rebuilt.fold.rows(rebuilt.fold.statistics.arms)
        result[partition] = State(stored.position, rows)
    return report, result


def _made_otherwise(position: Position, rules: Rules) -> str:
    """In words, why a replay by these rules says nothing of the state; empty if it does."""
    if rules.log and not position.source.is_same_log(rules.log):
        return f"from another log ({position.source.became(rules.log)})"
    if position.config != rules.config:
        unlike = position.config.unlike(rules.config)
        return f"with {unlike} as asked for here: give --data and --gamma as its trainers have them"
    return ""


def check(report: Report, stored: State, rebuilt: Rebuilt, base: State | None) -> None:
    """Add one partition's comparison and invariants (`infra/adr/0001`) to the report."""
    partition, statistics = rebuilt.fold.partition, rebuilt.fold.statistics
    records = rebuilt.applied + rebuilt.duplicates + rebuilt.dead_letters
    report.outcomes += records
    report.arms += len(stored.rows)
    report.applied += rebuilt.applied
    report.duplicates += rebuilt.duplicates
    report.dead_letters += rebuilt.dead_letters
    report.differing_bits += differing_bits(rebuilt.fold.rows(statistics.arms), stored.rows)
    for broken in _violations(stored, rebuilt, base, statistics.d):
        report.violations.append(f"partition {partition}: {broken}")


def differing_bits(one: Mapping[int, bytes], other: Mapping[int, bytes]) -> int:
    """Bits by which two sets of rows differ; a row on one side only counts whole."""
    return sum(
        _hamming(one.get(arm, b""), other.get(arm, b"")) for arm in one.keys() | other.keys()
    )


def _hamming(one: bytes, other: bytes) -> int:
    length = max(len(one), len(other))
    if min(len(one), len(other)) == 0:
        return 8 * length
    return (
        int.from_bytes(one.ljust(length, b"\0"), "little")
        ^ int.from_bytes(other.ljust(length, b"\0"), "little")
    ).bit_count()


def _violations(stored: State, rebuilt: Rebuilt, base: State | None, d: int) -> Iterable[str]:
    statistics = ArmStatistics(d, stored.position.config.gamma)
    try:
        statistics.load(stored.rows)
    except CorruptRow as error:
        yield str(error)
        return
    before = ArmStatistics(d)
    before.load(base.rows if base else {})
    counted = int(statistics.n.sum()) - int(before.n.sum())
    if counted != rebuilt.applied:
        yield f"Σn counts {counted} outcomes, the log holds {rebuilt.applied} valid ones"
    strangers = [arm for arm in stored.rows if not rebuilt.fold.is_home_of(arm)]
    if strangers:
        yield f"arms {strangers} do not belong here"
    if not _positive_definite(statistics):
        yield "λI + Σxxᵀ of an arm is not positive definite"


def _positive_definite(statistics: ArmStatistics) -> bool:
    try:
        np.linalg.cholesky(precision(statistics.xx, statistics.d, 1.0))
    except np.linalg.LinAlgError:
        return False
    return True
