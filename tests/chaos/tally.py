"""What the topics say: every visit decided, and how often; counted with read_committed."""

import contextlib
from collections import Counter
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from shared.events import DECISIONS, OUTCOMES, VISITS, decode_decision, decode_outcome, decode_visit
from shared.settings import PARTITIONS
from tests.chaos.load import DUPLICATE, Marks

_POLL_S: Final = 10.0
_BATCH: Final = 5_000


class Count(msgspec.Struct, frozen=True):
    """How it stands with the visits up to a mark."""

    visits: int
    """Decodable visits before the marks."""
    missing: int
    """Of these, not decided."""
    double: int
    """Decisions beyond one for each visit."""
    outcomes_double: int
    """Outcomes published again by the system itself."""


class Tally:
    """Reads the topics on from where it was, whenever asked."""

    def __init__(self, kafka: str) -> None:
        self._kafka = kafka
        self._next: dict[tuple[str, int], int] = {
            (topic, partition): 0
            for topic in (VISITS, DECISIONS, OUTCOMES)
            for partition in range(PARTITIONS[topic])
        }
        self._places: dict[str, list[tuple[int, int]]] = {}
        """visit_id → where the visit stands."""
        self._decided: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()

    def count(self, marks: Marks) -> Count:
        """Read to the end, then count the visits that stand before the marks."""
        self._catch_up()
        missing = double = visits = 0
        for visit_id, places in self._places.items():
            sent = sum(offset < marks[VISITS][partition] for partition, offset in places)
            visits += sent
            missing += max(0, sent - self._decided[visit_id])
            double += max(0, self._decided[visit_id] - len(places))
        again = sum(count - 1 for count in self._outcomes.values())
        return Count(visits, missing, double, again)

    def _catch_up(self) -> None:
        consumer: Any = Consumer(
            {
                "bootstrap.servers": self._kafka,
                "group.id": "chaos-tally",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "log_level": 0,
            }
        )
        consumer.assign([TopicPartition(t, p, offset) for (t, p), offset in self._next.items()])
        try:
            left = set(self._next)
            while left:
                messages = consumer.consume(1, _POLL_S)
                if not messages:
                    raise TimeoutError(f"the topics can't be read: no answer for {sorted(left)}")
                for message in (*messages, *consumer.consume(_BATCH, 0)):
                    self._take(message, left)
        finally:
            consumer.close()

    def _take(self, message: Message, left: set[tuple[str, int]]) -> None:
        at = (message.topic() or "", message.partition() or 0)
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                left.discard(at)
            return
        offset = message.offset() or 0
        self._next[at] = offset + 1
        headers: Any = message.headers() or []
        if any(name == DUPLICATE for name, _ in headers):
            return
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):  # the load's poison
            self._note(at[0], at[1], offset, message.value() or b"")

    def _note(self, topic: str, partition: int, offset: int, value: bytes) -> None:
        if topic == VISITS:
            visit_id = decode_visit(value).visit_id
            self._places.setdefault(visit_id, []).append((partition, offset))
        elif topic == DECISIONS:
            self._decided[decode_decision(value).visit_id] += 1
        else:
            self._outcomes[decode_outcome(value).outcome_id] += 1
