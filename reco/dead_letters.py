"""Dead letters: what was put aside, and sending it to where it came from once more.

Which letters were sent back is remembered in Kafka, as the committed offset of a group that nobody
joins: all before it were, and the note beside it names those after it. So a replay of a choice of
letters loses none of the others, and none is sent twice unless that is asked for.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from shared.dead_letter import CUT
from shared.events import DEAD_LETTERS
from shared.kafka_admin import MAX_NOTE, Committed
from shared.ports import BrokerUnavailable, EventConsumer, EventProducer, Record, Watermarks

REPLAYED_FROM: Final = "replayed-from"
"""Header of a record that was sent back: where its dead letter lies."""

FLUSH_TIMEOUT_S: Final = 30.0
MOST_DIGITS: Final = 19
"""Of a number of 64 bits; Python refuses to read one of thousands."""
_POLL_RECORDS: Final = 1_000
_POLL_S: Final = 5.0


class Letter(NamedTuple):
    """A dead letter, and where its record came from."""

    record: Record
    topic: str
    """Empty where the letter does not say."""
    partition: int
    offset: int
    reason: str
    replayed: bool
    """Whether it was sent back before."""
    cut: int = 0
    """Bytes that the record had, where the letter holds only the beginning; else 0."""


class Choice(msgspec.Struct, frozen=True):
    """Which letters are meant."""

    reason: str = ""
    """A part of the reason, in any case; empty for every reason."""
    topic: str = ""
    """Where the record came from; empty for everywhere."""

    def takes(self, letter: Letter) -> bool:
        """Whether this one is meant."""
        return self.reason.lower() in letter.reason.lower() and self.topic in ("", letter.topic)


class Replayed:
    """Offsets of one partition of dead letters that were sent back: a start, then islands.

    Args:
        next_offset: all before it were.
        note: those after it, as `5-9,12`.

    Raises:
        ValueError: the note is not one of ours.
    """

    def __init__(self, next_offset: int = 0, note: str = "") -> None:
        self.next_offset = next_offset
        self._islands: set[int] = set()
        for island in filter(None, note.split(",")):
            first, _, last = island.partition("-")
            self._islands.update(range(int(first), int(last or first) + 1))

    def __contains__(self, offset: int) -> bool:
        return offset < self.next_offset or offset in self._islands

    def add(self, offset: int) -> None:
        """This one was sent back."""
        self._islands.add(offset)

    def committed(self, letters: Sequence[int], end: int) -> Committed:
        """How to remember it.

        Args:
            letters: the offsets of all letters that the partition holds, ascending. What lies
                between them (marks of transactions) is no letter, and tears no island apart.
            end: the partition's end.
        """
        first_left = next((offset for offset in letters if offset not in self), end)
        islands: list[list[int]] = []
        grows = False
        for offset in letters:
            if offset in self and offset > first_left:
                if grows:
                    islands[-1][1] = offset
                else:
                    islands.append([offset, offset])
            grows = offset in self
        note = ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in islands)
        return Committed(first_left, note)


class Notes(Protocol):
    """Where it is remembered (`shared.kafka_admin.KafkaAdmin`). May raise `BrokerUnavailable`."""

    def watermarks(self, topic: str, partitions: Iterable[int]) -> dict[int, Watermarks]: ...

    def committed(
        self, group: str, topic: str, partitions: Iterable[int]
    ) -> dict[int, Committed]: ...

    def commit(self, group: str, topic: str, offsets: Mapping[int, Committed]) -> None: ...


class TooScattered(Exception):
    """What was sent back can't be remembered any more; the message says what to do."""


class Report(msgspec.Struct):
    """What a replay came to."""

    replayed: int = 0
    already_replayed: int = 0
    """Chosen, but sent back before."""
    without_source: int = 0
    """Chosen, but they do not say where they came from."""
    without_topic: int = 0
    """Chosen, but there is no such topic, or it is that of the dead letters."""
    cut: int = 0
    """Chosen, but the record was too large to be kept whole."""
    by_topic: dict[str, int] = {}


class DeadLetters:
    """The letters that the topic holds now.

    Args:
        consumer: of the topic; not in a group.
        notes: where it is remembered what was sent back.
        group: under which name (`reco-dead-letters-<model>`).
        partitions: partition count of the topic.

    Raises:
        ValueError: the group holds a note that is not ours.
    """

    def __init__(self, consumer: EventConsumer, notes: Notes, group: str, partitions: int) -> None:
        self._consumer = consumer
        self._notes = notes
        self._group = group
        self._held = notes.watermarks(DEAD_LETTERS, range(partitions))
        noted = notes.committed(group, DEAD_LETTERS, range(partitions))
        self._replayed = {
            partition: Replayed(*noted.get(partition, Committed(0))) for partition in self._held
        }

    def letters(self, choice: Choice) -> Iterator[Letter]:
        """Those that are meant, partition by partition, oldest first."""
        for record in self._records():
            letter = _letter(record, record.offset in self._replayed[record.partition])
            if choice.takes(letter):
                yield letter

    def replay(
        self,
        choice: Choice,
        producer: EventProducer,
        topics: Sequence[str],
        *,
        most: int | None = None,
        again: bool = False,
        dry_run: bool = False,
    ) -> Report:
        """Send those that are meant back to their topics, acknowledged, and remember it.

        A crash between the acknowledgement and the note sends them once more; an outcome that was
        applied meanwhile is then known by the trainer's dedupe window.

        Args:
            choice: which.
            producer: sends them.
            topics: those that exist.
            most: stop after so many.
            again: those too that were sent back before.
            dry_run: only count.

        Raises:
            BrokerUnavailable: some were not acknowledged; none is remembered.
            TooScattered: it could not be remembered; nothing was sent.
        """
        report = Report()
        sent: list[Letter] = []
        offsets: dict[int, list[int]] = {}
        for letter in self.letters(Choice()):
            offsets.setdefault(letter.record.partition, []).append(letter.record.offset)
            if not choice.takes(letter) or len(sent) == most:
                continue
            if letter.cut:
                report.cut += 1
            elif letter.replayed and not again:
                report.already_replayed += 1
            elif not letter.topic:
                report.without_source += 1
            elif letter.topic not in topics or letter.topic == DEAD_LETTERS:
                report.without_topic += 1
            else:
                sent.append(letter)
                report.by_topic[letter.topic] = report.by_topic.get(letter.topic, 0) + 1
        report.replayed = len(sent)
        if sent and not dry_run:
            remembered = self._remembering(sent, offsets)
            for letter in sent:
                place = f"{DEAD_LETTERS}/{letter.record.partition}@{letter.record.offset}"
                headers = [(REPLAYED_FROM, place.encode())]
                producer.send(letter.topic, letter.record.key, letter.record.value, headers=headers)
            producer.flush(FLUSH_TIMEOUT_S)
            self._notes.commit(self._group, DEAD_LETTERS, remembered)
        return report

    def _remembering(
        self, sent: Sequence[Letter], offsets: Mapping[int, Sequence[int]]
    ) -> dict[int, Committed]:
        for letter in sent:
            self._replayed[letter.record.partition].add(letter.record.offset)
        touched = {letter.record.partition for letter in sent}
        notes = {p: self._replayed[p].committed(offsets[p], self._held[p].end) for p in touched}
        if any(len(each.note) > MAX_NOTE for each in notes.values()):
            raise TooScattered(
                "too many letters lie apart from each other to remember which were sent back; "
                "choose more of them (a wider --reason), or fewer with --max"
            )
        return notes

    def _records(self) -> Iterator[Record]:
        for partition, held in self._held.items():
            if held.start == held.end:
                continue
            self._consumer.assign({partition: held.start})
            next_offset = held.start
            while next_offset < held.end:
                records = self._consumer.poll(_POLL_RECORDS, _POLL_S)
                yield from (record for record in records if record.offset < held.end)
                reached = self._consumer.position(partition) or next_offset
                if not records and reached == next_offset:
                    raise BrokerUnavailable(f"{DEAD_LETTERS}/{partition} can't be read to its end")
                next_offset = reached


def _letter(record: Record, replayed: bool) -> Letter:
    headers = {name: value.decode(errors="backslashreplace") for name, value in record.headers}
    place = _number(headers.get("partition", "")), _number(headers.get("offset", ""))
    return Letter(
        record,
        headers.get("topic", ""),
        *(place if min(place) >= 0 else (-1, -1)),
        headers.get("reason", "unknown"),
        replayed,
        max(0, _number(headers.get(CUT, ""))),
    )


def _number(text: str) -> int:
    """What a header says; -1 where that is no number of Kafka's."""
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else -1
