"""Records read through librdkafka: the adapter of `EventConsumer`."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from operator import methodcaller
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
from shared.ports import (
    BrokerRefuses,
    BrokerUnavailable,
    LogTruncated,
    Rebalance,
    Record,
    Watermarks,
)

_log = logging.getLogger(__name__)

_REQUEST_TIMEOUT_S: Final = 5.0
_CLOSE_TIMEOUT_S: Final = 5.0
_headers: Final = methodcaller("headers")
"""A message's headers. Where a name is not UTF-8, the binding returns a list with a hole in it and
raises besides: a plain call, once Python has made it a fast one, takes the list and crashes."""


class KafkaConsumer:
    """`shared.ports.EventConsumer`.

    librdkafka hands over records and goes on behind them, whatever becomes of them here. So what a
    poll has taken is either returned, or read again.

    Args:
        name: of the broker, for people.
        consumer: librdkafka's.
        topic: which it reads.
        grouped: whether a partition without an offset begins at the committed one.
    """

    def __init__(self, name: str, consumer: Any, topic: str, *, grouped: bool) -> None:
        self._name = name
        self._consumer = consumer
        self.topic = topic
        self._start = OFFSET_INVALID if grouped else OFFSET_BEGINNING  # invalid: the committed one
        self._membership: Any = None
        self._assigned: dict[int, int | None] = {}
        """Where each partition that is read was to begin."""
        self._assignments = 0
        """How often that has changed."""
        self._positions: dict[int, int] = {}
        """Behind what was returned, and the ends that were met."""
        self._error: Exception | None = None
        """Met beside records, which come first."""
        self._ended: BrokerRefuses | None = None
        """Why nothing comes any more. It is said once, beside records or a rebalance."""

    @property
    def membership(self) -> Any:
        """Proof of being the partitions' owner, for a transaction that stores their offsets.

        As of when they were given to us: librdkafka's own is that of the group as it is now, and
        would vouch for partitions that have gone to others; or, once the group has thrown us out,
        that of nobody, which no broker checks. None for no member.
        """
        return self._membership

    def subscribe(self, rebalance: Rebalance) -> None:
        """See `EventConsumer.subscribe`."""

        # In these callbacks nothing may raise: the binding would go on with its own assignment, or
        # end the call that served them with an error of its own.
        def assigned(consumer: Any, partitions: list[TopicPartition]) -> None:
            try:
                self._membership = consumer.consumer_group_metadata()
            except RuntimeError:  # it is being closed, and no member any more
                self._membership = None
            self._note_assignment({})
            consumer.assign([])
            rebalance.assigned([each.partition for each in partitions])

        def revoked(consumer: Any, partitions: list[TopicPartition]) -> None:
            self._note_assignment({})
            consumer.unassign()
            rebalance.revoked([each.partition for each in partitions])

        self._consumer.subscribe(
            [self.topic], on_assign=assigned, on_revoke=revoked, on_lost=revoked
        )

    def assign(self, offsets: Mapping[int, int | None]) -> None:
        """See `EventConsumer.assign`."""
        self._note_assignment(offsets)
        self._consumer.assign(
            [
                TopicPartition(self.topic, partition, self._start if offset is None else offset)
                for partition, offset in offsets.items()
            ]
        )

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """See `EventConsumer.poll`."""
        self._raise_error()
        # consume(n, t) alone would wait the whole of t unless n records come.
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        assignments = self._assignments
        rest = self._consumer.consume(max_records - 1, 0) if max_records > 1 else []
        if self._assignments != assignments:
            # The group has taken partitions away, or given others, while we had these in hand.
            for message in (first, *rest):
                self._note_end(message)
            self._raise_end()
            self._read_again()
            return []
        records = self._records((first, *rest))
        if not records:
            self._raise_error()
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

    def _records(self, messages: Iterable[Message]) -> list[Record]:
        records: list[Record] = []
        add, make, topic, positions = records.append, Record._make, self.topic, self._positions
        # One loop without calls of our own: this is done for every record there is.
        for message in messages:
            if message.error() is not None:
                self._pass(message)
                continue
            partition, offset = message.partition() or 0, message.offset() or 0
            positions[partition] = offset + 1
            try:
                found = _headers(message)
            except (SystemError, UnicodeDecodeError):
                found = None  # they say whose trace it is, or where a letter came from: no more
            headers = _pairs(found) if found else ()
            time_ms = message.timestamp()[1]
            add(make((topic, partition, offset, message.key(), message.value(), headers, time_ms)))
        return records

    def _pass(self, message: Message) -> None:
        """Take note of what is no record: the end of a partition, or why there is none."""
        self._note_end(message)
        error: Any = message.error()
        if error.code() == KafkaError._PARTITION_EOF:
            self._positions[message.partition() or 0] = message.offset() or 0
            return
        if error.code() == KafkaError._MAX_POLL_EXCEEDED:
            return  # we have left the group, which this poll tells us; the next one joins it again
        failure: Exception = BrokerUnavailable(f"{self._name}: {error.str()}")
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            failure = LogTruncated(f"{message.topic()}/{message.partition()}: {error.str()}")
        self._error = self._error or failure

    def _note_end(self, message: Message) -> None:
        error: Any = message.error()
        if error is not None and error.code() == KafkaError._FATAL:
            # A consumer knows one such error: another process has taken its kept place.
            advice = "each process needs a KAFKA_GROUP_INSTANCE_ID of its own"
            self._ended = BrokerRefuses(f"{self._name}: {error.str()}; {advice}")

    def _raise_end(self) -> None:
        if self._ended is not None:
            raise self._ended

    def _raise_error(self) -> None:
        self._raise_end()
        error = self._error
        if error is not None:
            # After some errors librdkafka does not go on with a partition until it is assigned.
            self._read_again()
            raise error

    def _read_again(self) -> None:
        """Read on behind what was returned, whatever was taken since."""
        if self._assigned:
            self.assign({p: self._positions.get(p, at) for p, at in self._assigned.items()})
        self._error = None

    def _note_assignment(self, offsets: Mapping[int, int | None]) -> None:
        self._assigned = dict(offsets)
        self._assignments += 1
        self._positions = {p: offset for p, offset in offsets.items() if offset is not None}
        self._error = None


def _pairs(headers: Any) -> tuple[tuple[str, bytes], ...]:
    # The binding's annotation has a string among the lists.
    return tuple((name, _bytes(value)) for name, value in headers)


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""
