"""Kafka through librdkafka: the cluster, from which its clients are made."""

import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from shared.kafka_connection import KafkaConnection, described_topic, made, text_of
from shared.kafka_consumer import KafkaConsumer
from shared.kafka_producer import KafkaProducer
from shared.kafka_transactions import TRANSACTIONAL, KafkaTransactionalProducer
from shared.ports import BrokerUnavailable, Source

EMBEDDED_CLUSTER: Final = "mockCluster"
"""What the cluster id of librdkafka's mock cluster starts with."""

_REQUEST_TIMEOUT_S: Final = 5.0
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

    def producer(self) -> KafkaProducer:
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
    ) -> KafkaConsumer:
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
