"""librdkafka's consumer as `KafkaConsumer` uses it, with a queue that is written out by a test."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import OFFSET_BEGINNING, OFFSET_INVALID, KafkaError, Message, TopicPartition

from shared.kafka_consumer import KafkaConsumer
from shared.ports import Record

Event = Callable[[], None]
Rebalanced = Callable[["ScriptedClient", list[TopicPartition]], None]


class ScriptedClient:
    """Like librdkafka it fetches ahead, and is behind what it has handed over, come what may.

    Args:
        log: the records of each partition.
    """

    def __init__(self, log: Mapping[int, Sequence[Record]]) -> None:
        self.log = {partition: list(records) for partition, records in log.items()}
        self.committed: dict[int, int] = {}
        self.generation = 0
        """The group's, as librdkafka knows it: it goes on in the background."""
        self.closing = False
        """It has left the group, and may serve a rebalance of before."""
        self.assigned: dict[int, int] = {}
        """Where each partition was to be read from, when that was last said."""
        self.beside: list[Message | Event] = []
        """What stands in the queue behind the records that the next assignment brings."""
        self._queue: deque[Message | Event] = deque()
        self._owned: list[int] = []

    def consumer(self, topic: str) -> KafkaConsumer:
        """The adapter on it."""
        return KafkaConsumer("the broker", self, topic, grouped=True)

    def put(self, *items: Message | Event) -> None:
        """They are at the end of the queue."""
        self._queue += items

    def given(self, partitions: Sequence[int]) -> Event:
        """The group gives us these: an event for the queue."""

        def event() -> None:
            self.generation += 1
            self._owned = list(partitions)
            self._on_assign(self, self._topic_partitions(partitions))

        return event

    def taken_away(self) -> None:
        """The group takes away what is ours: an event for the queue."""
        self._on_revoke(self, self._topic_partitions(self._owned))
        self._owned = []

    # What librdkafka offers.

    def subscribe(
        self,
        topics: list[str],
        *,
        on_assign: Rebalanced,
        on_revoke: Rebalanced,
        on_lost: Rebalanced,
    ) -> None:
        self._on_assign, self._on_revoke = on_assign, on_revoke

    def consumer_group_metadata(self) -> int:
        if self.closing:
            raise RuntimeError("Consumer group metadata not available")
        return self.generation

    def assign(self, partitions: list[TopicPartition]) -> None:
        self._discard()
        self.assigned = {each.partition: self._start_of(each) for each in partitions}
        for partition, offset in self.assigned.items():
            self._queue += [_message(record) for record in self.log[partition][offset:]]
        if partitions:
            self._queue += self.beside
            self.beside = []

    def unassign(self) -> None:
        self._discard()
        self.assigned = {}

    def poll(self, timeout_s: float) -> Message | None:
        found = self.consume(1, timeout_s)
        return found[0] if found else None

    def consume(self, count: int, timeout_s: float) -> list[Message]:
        found: list[Message] = []
        while self._queue and len(found) < count:
            item = self._queue.popleft()
            if isinstance(item, Message):
                found.append(item)
            else:
                item()
        return found

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        return 0, len(self.log[place.partition])

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> None:
        self.committed.update({each.partition: each.offset for each in offsets})

    def close(self) -> None:
        pass

    def _discard(self) -> None:
        """Of what was fetched for another assignment nothing is handed over."""
        self._queue = deque(item for item in self._queue if not isinstance(item, Message))

    def _start_of(self, place: TopicPartition) -> int:
        if place.offset == OFFSET_INVALID:
            return self.committed.get(place.partition, 0)
        return 0 if place.offset == OFFSET_BEGINNING else place.offset

    def _topic_partitions(self, partitions: Sequence[int]) -> list[TopicPartition]:
        return [TopicPartition("topic", partition) for partition in partitions]


def failure(partition: int, code: int, reason: str = "the reason") -> Message:
    """An error in the place of a record."""
    return Message(topic="topic", partition=partition, error=KafkaError(code, reason))


def end(partition: int, offset: int) -> Message:
    """The end of a partition was met."""
    error = KafkaError(KafkaError._PARTITION_EOF)
    return Message(topic="topic", partition=partition, offset=offset, error=error)


def _message(record: Record) -> Message:
    return Message(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        timestamp=(1, record.timestamp_ms),
    )
