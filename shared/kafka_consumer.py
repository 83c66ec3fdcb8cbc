"""Records read through librdkafka: the adapter of `EventConsumer`."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from shared.kafka_connection import ends_within, text_of
from shared.ports import BrokerUnavailable, LogTruncated, Rebalance, Record, Watermarks

_log = logging.getLogger(__name__)

_REQUEST_TIMEOUT_S: Final = 5.0
_CLOSE_TIMEOUT_S: Final = 5.0


class KafkaConsumer:
    """`shared.ports.EventConsumer`."""

    def __init__(self, name: str, consumer: Any, topic: str, *, grouped: bool) -> None:
        self._name = name
        self._consumer = consumer
        self.topic = topic
        self._start = OFFSET_INVALID if grouped else OFFSET_BEGINNING  # invalid: the committed one
        self._positions: dict[int, int] = {}

    @property
    def membership(self) -> Any:
        """Proof of being the partitions' owner, for a transaction that stores their offsets."""
        return self._consumer.consumer_group_metadata()

    def subscribe(self, rebalance: Rebalance) -> None:
        """See `EventConsumer.subscribe`."""

        # In these callbacks nothing may raise: the binding would go on with its own assignment.
        def assigned(consumer: Any, partitions: list[TopicPartition]) -> None:
            consumer.assign([])
            rebalance.assigned([each.partition for each in partitions])

        def revoked(consumer: Any, partitions: list[TopicPartition]) -> None:
            consumer.unassign()
            rebalance.revoked([each.partition for each in partitions])

        self._consumer.subscribe(
            [self.topic], on_assign=assigned, on_revoke=revoked, on_lost=revoked
        )

    def assign(self, offsets: Mapping[int, int | None]) -> None:
        """See `EventConsumer.assign`."""
        self._positions = {p: offset for p, offset in offsets.items() if offset is not None}
        self._consumer.assign(
            [
                TopicPartition(self.topic, partition, self._start if offset is None else offset)
                for partition, offset in offsets.items()
            ]
        )

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """See `EventConsumer.poll`."""
        # consume(n, t) alone would wait the whole of t unless n records come.
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        rest = self._consumer.consume(max_records - 1, 0) if max_records > 1 else []
        records: list[Record] = []
        add, make, topic, positions = records.append, Record._make, self.topic, self._positions
        # One loop without calls of our own: this is done for every record there is.
        for message in (first, *rest):
            if message.error() is not None:
                self._pass(message)
                continue
            partition, offset = message.partition() or 0, message.offset() or 0
            positions[partition] = offset + 1
            headers = _pairs(message.headers()) if message.headers() else ()
            time_ms = message.timestamp()[1]
            add(make((topic, partition, offset, message.key(), message.value(), headers, time_ms)))
        return records

    def position(self, partition: int) -> int | None:
        """See `EventConsumer.position`."""
        return self._positions.get(partition)

    def watermarks(self, partition: int) -> Watermarks:
        """See `EventConsumer.watermarks`."""
        try:
            low, high = self._consumer.get_watermark_offsets(
                TopicPartition(self.topic, partition), timeout=_REQUEST_TIMEOUT_S
            )
        except (KafkaException, TypeError) as error:  # TypeError: None, there was no answer
            raise BrokerUnavailable(f"{self._name} does not answer: {text_of(error)}") from error
        return Watermarks(low, high)

    def commit(self, offsets: Mapping[int, int], *, wait: bool = False) -> None:
        """See `EventConsumer.commit`."""
        wanted = [TopicPartition(self.topic, p, offset) for p, offset in offsets.items()]
        if not wanted:
            return
        try:
            self._consumer.commit(offsets=wanted, asynchronous=not wait)
        except KafkaException as error:
            if wait:
                raise BrokerUnavailable(f"{self._name}: {text_of(error)}") from error
            _log.debug("%s: commit failed: %s", self._name, error)

    def committed(self, partitions: Sequence[int]) -> dict[int, int]:
        """The group's committed offsets, where there are any.

        Raises:
            BrokerUnavailable: no answer.
        """
        wanted = [TopicPartition(self.topic, partition) for partition in partitions]
        try:
            found = self._consumer.committed(wanted, timeout=_REQUEST_TIMEOUT_S)
        except KafkaException as error:
            raise BrokerUnavailable(f"{self._name}: {text_of(error)}") from error
        return {each.partition: each.offset for each in found if each.offset >= 0}

    def close(self) -> None:
        """See `EventConsumer.close`."""
        # With the broker gone, librdkafka can wait for an answer for ever. Nothing depends on
        # leaving the group politely: after the session timeout it notices by itself.
        try:
            if not ends_within(self._consumer.close, _CLOSE_TIMEOUT_S, "leaving"):
                _log.warning(
                    "%s does not let go of the consumer; leaving without a word", self._name
                )
        except KafkaException as error:
            _log.debug("%s: leaving failed: %s", self._name, error)

    def _pass(self, message: Message) -> None:
        """Take note of what is no record: the end of a partition, or why there is none."""
        error: Any = message.error()
        partition, offset = message.partition() or 0, message.offset() or 0
        if error.code() == KafkaError._PARTITION_EOF:
            self._positions[partition] = offset
            return
        if error.code() == KafkaError._MAX_POLL_EXCEEDED:
            return  # we have left the group, which this poll tells us; the next one joins it again
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise LogTruncated(f"{message.topic()}/{message.partition()}: {error.str()}")
        if error.fatal() or not error.retriable():
            raise BrokerUnavailable(f"{self._name}: {error.str()}")
        _log.debug("%s: %s", self._name, error)


def _pairs(headers: Any) -> tuple[tuple[str, bytes], ...]:
    # The binding's annotation has a string among the lists.
    return tuple((name, _bytes(value)) for name, value in headers)


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""
