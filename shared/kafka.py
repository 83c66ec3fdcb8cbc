"""Kafka through librdkafka: the cluster, and the adapter of `EventConsumer`."""

import logging
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from shared.kafka_connection import (
    KafkaConnection,
    described_topic,
    ends_within,
    made,
    text_of,
)
from shared.kafka_producer import KafkaProducer
from shared.kafka_transactions import TRANSACTIONAL, KafkaTransactionalProducer
from shared.ports import (
    BrokerUnavailable,
    LogTruncated,
    Rebalance,
    Record,
    Source,
    Watermarks,
)

_log = logging.getLogger(__name__)

EMBEDDED_CLUSTER: Final = "mockCluster"
"""What the cluster id of librdkafka's mock cluster starts with."""

_REQUEST_TIMEOUT_S: Final = 5.0
_CLOSE_TIMEOUT_S: Final = 5.0
_COMMON: Final[dict[str, Any]] = {
    "log_level": 0,  # what matters reaches us through error_cb
    "reconnect.backoff.max.ms": 1_000,
}
PRODUCER: Final[dict[str, Any]] = {
    # Java's partitioner, so that every Kafka client agrees where an arm lives; librdkafka's own
    # default is CRC32.
    "partitioner": "murmur2_random",
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "lz4",
    # flush() does not wait for it, and every batch ends with one. A long batch is sent in parts,
    # while the rest is worked on: small parts cost processor time here and at the broker.
    "linger.ms": 20,
    "delivery.timeout.ms": 60_000,
}
_CONSUMER: Final[dict[str, Any]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,  # tells how far the end is past the last record: see `position`
    # Cooperative rebalancing has a history of bugs in librdkafka.
    "partition.assignment.strategy": "range",
    # So long nobody serves the partitions of a process that was killed; brokers allow no less.
    "session.timeout.ms": 6_000,
    "heartbeat.interval.ms": 1_500,
    # So long a group that divides its partitions anew waits for a member it still counts but hears
    # nothing of: one that joined twice because the broker slept, say. librdkafka's default is five
    # minutes, in which nobody gets any. A loop comes round in less, unless the broker is away.
    "max.poll.interval.ms": 30_000,
}
_ALONE: Final[dict[str, Any]] = {
    # Who reads a log to its end, partition after partition, waits this long at each end.
    "fetch.wait.max.ms": 50,
}
_EMBEDDED_CONSUMER: Final[dict[str, Any]] = {
    "fetch.wait.max.ms": 5,  # the mock sleeps this long on every empty fetch
    "session.timeout.ms": 1_500,  # and a rebalance takes this long, less one second
    "heartbeat.interval.ms": 200,
}


class KafkaCluster:
    """A reachable cluster, from which producers and consumers are made.

    Args:
        address: bootstrap servers.
        settings: further librdkafka settings, which win over ours.
        patience_s: how long to keep trying.

    Raises:
        BrokerUnavailable: nothing answered in time.
        BrokerRefuses: someone did, and waiting will not make it let us in.
        BadSetting: the address is malformed, or librdkafka refuses a setting.
    """

    def __init__(
        self, address: str, settings: Mapping[str, str] | None = None, patience_s: float = 30.0
    ) -> None:
        self.address = address
        self._settings = {**(settings or {}), "bootstrap.servers": address}
        self._connection = KafkaConnection(address, self._settings)
        self._admin = self._made(AdminClient, {**_COMMON, "error_cb": self._connection.note})
        self.cluster_id = self._connection.await_cluster(self._admin, patience_s)

    @property
    def embedded(self) -> bool:
        """True for librdkafka's mock cluster."""
        return self.cluster_id.startswith(EMBEDDED_CLUSTER)

    @property
    def admin(self) -> AdminClient:
        """For what only operators ask (`shared.kafka_admin`)."""
        client: AdminClient = self._admin
        return client

    def describe(self) -> str:
        """What it is and where, for people."""
        kind = "embedded broker (librdkafka mock cluster)" if self.embedded else "Kafka"
        return f"{kind} at {self.address}"

    def topics(self) -> dict[str, int]:
        """Topics and their partition counts; creates none."""
        try:
            found = self._admin.list_topics(timeout=_REQUEST_TIMEOUT_S).topics
        except KafkaException as error:
            raise BrokerUnavailable(f"{self._name} does not answer: {text_of(error)}") from error
        return {name: len(topic.partitions) for name, topic in found.items()}

    def source(self, topic: str) -> Source:
        """Identity of a topic's log as it is now; takes a few milliseconds.

        Raises:
            BrokerUnavailable: there is no such topic (yet), or no answer.
        """
        found = self._embedded_topic(topic) if self.embedded else self._described(topic)
        if found is None:
            raise BrokerUnavailable(
                f"{self._name} has no topic {topic!r}: make it with `reco topics create`"
            )
        partitions, topic_id = found
        return Source(self.cluster_id, topic, partitions, topic_id=topic_id)

    def create_topics(
        self,
        topics: Mapping[str, int],
        compacted: Collection[str] = (),
        replication: int | None = None,
    ) -> None:
        """Make topics.

        Args:
            topics: partition counts by name.
            compacted: those that keep the last record of every key for ever.
            replication: on how many brokers each record lies; None for the broker's default.

        Raises:
            BrokerUnavailable: the broker refuses or does not answer.
        """
        compact = {"cleanup.policy": "compact"}
        wanted = [
            NewTopic(
                name,
                num_partitions=count,
                replication_factor=replication or -1,
                config=compact if name in compacted else {},
            )
            for name, count in topics.items()
        ]
        futures = self._admin.create_topics(wanted, request_timeout=_REQUEST_TIMEOUT_S)
        for name, future in futures.items():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise BrokerUnavailable(f"can't create {name}: {text_of(error)}") from error

    def producer(self) -> "KafkaProducer":
        """A new producer."""
        return KafkaProducer(
            self._name, lambda own: self._made(Producer, {**_COMMON, **PRODUCER, **own})
        )

    def transactional_producer(self, name: str) -> KafkaTransactionalProducer:
        """A new producer of transactions.

        Args:
            name: its `transactional.id`, the same after a restart, different in each process: at
                its first transaction it ends what its predecessor left open.

        Raises:
            BrokerUnavailable: the embedded broker has no transactions.
        """
        if self.embedded:
            raise BrokerUnavailable("the embedded broker has no transactions")
        own = {**_COMMON, **PRODUCER, **TRANSACTIONAL, "transactional.id": name}
        return KafkaTransactionalProducer(
            self._name, lambda extra: self._made(Producer, {**own, **extra})
        )

    def consumer(
        self,
        topic: str,
        group: str | None = None,
        *,
        reset: str = "earliest",
        name: str | None = None,
    ) -> "KafkaConsumer":
        """A new consumer of one topic.

        Args:
            topic: which.
            group: its group; None for one that only ever assigns itself.
            reset: what to do about an offset that the log does not hold: "earliest", or "error".
            name: what the broker knows it by, so that others see who owns what.
        """
        own = {
            "client.id": name or "reco",
            "group.id": group or f"reco-alone-{uuid.uuid4()}",
            "auto.offset.reset": reset,
            "error_cb": self._connection.note,
        }
        alone = {} if group else _ALONE
        embedded = _EMBEDDED_CONSUMER if self.embedded else {}
        consumer = self._made(Consumer, {**_COMMON, **_CONSUMER, **alone, **embedded, **own})
        return KafkaConsumer(self._name, consumer, topic, grouped=group is not None)

    @property
    def _name(self) -> str:
        return f"the Kafka broker at {self.address}"

    def _described(self, topic: str) -> tuple[int, str] | None:
        try:
            return described_topic(self._admin, topic, _REQUEST_TIMEOUT_S)
        except KafkaException as error:
            raise BrokerUnavailable(f"{self._name} does not answer: {text_of(error)}") from error

    def _embedded_topic(self, topic: str) -> tuple[int, str] | None:
        count = self.topics().get(topic)  # DescribeTopics is not served
        return None if count is None else (count, "")

    def _made(self, client: Callable[[dict[str, Any]], Any], own: dict[str, Any]) -> Any:
        return made(client, {**own, **self._settings})


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
