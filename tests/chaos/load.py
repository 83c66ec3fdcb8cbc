"""The load of a run: besides the visits of `reco produce`, poison and duplicates all the while."""

import random
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from shared.events import OUTCOMES, VISITS
from shared.settings import PARTITIONS

TICK_S: Final = 0.05
POISON: Final = b'{"poison": \xff'
DUPLICATE: Final = "chaos-duplicate"
"""Header by which a duplicate of ours is told from one of the system's own making."""

_OUTCOMES_PER_VISIT: Final = 3
_FLUSH_S: Final = 60.0

Marks = Mapping[str, Mapping[int, int]]
"""Topic → partition → offset."""


class Poison(threading.Thread):
    """Sends `share` of the visits' rate on top of it: bytes that are no record, outcomes with an
    absurd reward, and outcomes sent before, in turns and to every partition.

    Args:
        kafka: the broker.
        rate: visits a second of the load.
        share: how much is added to it.
    """

    def __init__(self, kafka: str, rate: float, share: float) -> None:
        super().__init__(name="poison", daemon=True)
        self.sent = 0
        self._a_tick = rate * share * (1 + _OUTCOMES_PER_VISIT) * TICK_S
        self._stopping = threading.Event()
        self._random = random.Random(1237)
        self._known: deque[tuple[int, bytes, bytes]] = deque(maxlen=500)
        self._producer = Producer(
            {"bootstrap.servers": kafka, "enable.idempotence": True, "log_level": 0}
        )
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka,
                "group.id": "chaos-load",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "log_level": 0,
            }
        )
        wanted = [TopicPartition(OUTCOMES, p, -1) for p in range(PARTITIONS[OUTCOMES])]  # the end
        self._consumer.assign(wanted)

    def run(self) -> None:
        """Send until stopped."""
        owed = 0.0
        while not self._stopping.wait(TICK_S):
            self._look_around()
            owed = min(owed + self._a_tick, 100.0)
            while owed >= 1.0:
                owed -= 1.0
                self._send_one()
            self._producer.poll(0)

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self.join()
        self._consumer.close()
        self._producer.flush(5.0)

    def probe(self) -> Marks:
        """Write one poison record to every partition of visits and outcomes, now: where they stand.

        Whatever has passed them has seen to all that was written before.
        """
        marks: dict[str, dict[int, int]] = {VISITS: {}, OUTCOMES: {}}

        def note(error: Any, message: Message) -> None:
            if error is None:
                marks[message.topic() or ""][message.partition() or 0] = message.offset() or 0

        for topic, offsets in marks.items():
            for partition in range(PARTITIONS[topic]):
                self._producer.produce(topic, POISON, partition=partition, on_delivery=note)
            deadline_s = time.monotonic() + _FLUSH_S
            while len(offsets) < PARTITIONS[topic]:
                if time.monotonic() > deadline_s:
                    raise TimeoutError(f"no record can be written to {topic}")
                self._producer.poll(0.01)
        return marks

    def _look_around(self) -> None:
        for message in self._consumer.consume(200, 0):
            key, value = message.key(), message.value()
            if message.error() is None and key and value and value != POISON:
                self._known.append((message.partition() or 0, key, value))

    def _send_one(self) -> None:
        self.sent += 1
        kind = self.sent % 4
        if kind == 0:
            partition = self._random.randrange(PARTITIONS[VISITS])
            self._producer.produce(VISITS, POISON, partition=partition)
        elif kind == 1 or not self._known:
            partition = self._random.randrange(PARTITIONS[OUTCOMES])
            self._producer.produce(OUTCOMES, POISON, partition=partition)
        else:
            partition, key, value = self._random.choice(self._known)
            if kind == 2:
                value = value.replace(b'"reward":', b'"reward":7')
            self._producer.produce(
                OUTCOMES, value, key, partition=partition, headers=[(DUPLICATE, b"")]
            )
