"""Events from files of JSON lines: as on the topics, or as `reco topics watch` prints them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from shared.events import (
    DECISIONS,
    OUTCOMES,
    UNDECODABLE,
    Decision,
    Outcome,
    decode_decision,
    decode_outcome,
    encode,
    key_of,
)
from shared.partitioner import partition_of
from shared.ports import Record

_T = TypeVar("_T")


class UnreadableEvents(Exception):
    """A file can't be read, or a line is not an event; the message names it."""


class _Watched(msgspec.Struct):
    """A line of `reco topics watch --json`."""

    topic: str
    partition: int
    offset: int
    value: msgspec.Raw


def read_decisions(path: Path) -> list[Decision]:
    """All decisions of a file.

    Raises:
        UnreadableEvents: the file can't be read, or a line is not an event.
    """
    return [decision for _, decision in _events(path, DECISIONS, decode_decision)]


def read_outcomes(
    path: Path, partitions: int, decisions: Iterable[Decision] = ()
) -> dict[int, list[Record]]:
    """The outcomes of a file as records of their log, by partition and in offset order.

    An outcome without an offset takes the next one of its product's partition, so the file has to
    begin where the log does, and that log to have nothing between its outcomes. Where a server
    writes in transactions, their marks take offsets too.

    Args:
        path: of the file.
        partitions: of the log.
        decisions: what the outcomes may be of.

    Raises:
        UnreadableEvents: see `read_decisions`; or an outcome without an offset came out before its
            decision, so the offsets of the log are others.
    """
    views: dict[str, list[int]] = {}
    for decision in decisions:
        views.setdefault(decision.decision_id, decision.view)
    records: dict[int, list[Record]] = defaultdict(list)
    for where, outcome in _events(path, OUTCOMES, decode_outcome):
        key = key_of(outcome.product_id)
        partition = where.partition if where else partition_of(key, partitions)
        offset = where.offset if where else len(records[partition])
        seen = views.get(outcome.decision_id, [])[partition : partition + 1]
        if where is None and seen and offset < seen[0]:
            raise UnreadableEvents(
                f"{path} has no offsets, and counted from 0 outcome {outcome.outcome_id} comes "
                f"before its own decision (offset {offset:,} of partition {partition}, which the "
                f"decision's view had seen up to {seen[0]:,}): give the outcomes with the offsets "
                f"of the topic, as `reco topics watch {OUTCOMES} --from-beginning --json` prints "
                "them"
            )
        records[partition].append(Record(OUTCOMES, partition, offset, key, encode(outcome)))
    for found in records.values():
        found.sort(key=lambda record: record.offset)
    return dict(records)


def starts_in(
    records: Mapping[int, Sequence[Record]], decisions: Iterable[Decision]
) -> dict[int, int]:
    """Where the outcomes of a file begin, by partition: above 0, what came before is not in it.

    Of a partition without any it lacks all that was seen of it when the decisions were made.

    Args:
        records: of the file, in offset order.
        decisions: that belong to it.
    """
    seen: dict[int, int] = defaultdict(int)
    for decision in decisions:
        for partition, end in enumerate(decision.view):
            seen[partition] = max(seen[partition], end)
    return {**seen, **{partition: found[0].offset for partition, found in records.items()}}


def outcomes_of(records: Iterable[Record]) -> Iterator[Outcome]:
    """Those records that are outcomes."""
    for record in records:
        try:
            yield decode_outcome(record.value or b"")
        except UNDECODABLE:
            continue  # the trainer makes a dead letter of it


def _events(
    path: Path, topic: str, decode: Callable[[bytes], _T]
) -> Iterator[tuple[_Watched | None, _T]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UnreadableEvents(f"can't read {path}: {error.strerror or error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            watched = _watched(line)
            if watched and watched.topic != topic:
                raise UnreadableEvents(
                    f"{path}, line {number}: a record of {watched.topic}, not of {topic}"
                )
            yield watched, decode(bytes(watched.value) if watched else line)
        except UNDECODABLE as error:
            raise UnreadableEvents(
                f"{path}, line {number}: not a record of {topic}: {error}; one JSON object a line "
                f"is needed, as `reco topics watch {topic} --json` prints them"
            ) from error


def _watched(line: bytes) -> _Watched | None:
    try:
        return msgspec.json.decode(line, type=_Watched)
    except msgspec.ValidationError:
        return None
