"""Kafka from the operator's side: brokers, logs' ends, groups, and what groups have noted."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from confluent_kafka import (
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._listoffsets import OffsetSpec

from shared.kafka import KafkaCluster
from shared.kafka_connection import text_of
from shared.ports import BrokerUnavailable, Watermarks

_T = TypeVar("_T")
_TIMEOUT_S: Final = 5.0
_RETRY_S: Final = 0.1
_PASSING: Final = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
)
"""Said by a broker that has just come up, or of a topic or group that has just been made."""
_NOT_FOR_US: Final = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)
_DIVIDING: Final = (
    ConsumerGroupState.PREPARING_REBALANCING,
    ConsumerGroupState.COMPLETING_REBALANCING,
)
MAX_NOTE: Final = 4_000
"""Kafka's default limit of the text beside a committed offset is 4,096 bytes."""


class Broker(msgspec.Struct, frozen=True):
    """One broker of the cluster."""

    id: int
    address: str


class Committed(NamedTuple):
    """What a group has committed for a partition: its next offset, and a text of its own."""

    next_offset: int
    note: str = ""


class Member(NamedTuple):
    """One member of a group."""

    client_id: str
    host: str
    partitions: list[tuple[str, int]]
    """Topic and partition."""


class KafkaAdmin:
    """Asks the cluster; every method may raise `BrokerUnavailable`."""

    def __init__(self, cluster: KafkaCluster) -> None:
        self._cluster = cluster
        self._admin = cluster.admin

    def brokers(self) -> list[Broker]:
        """Those that the cluster names."""
        try:
            found = self._admin.list_topics(timeout=_TIMEOUT_S).brokers
        except KafkaException as error:
            raise self._unavailable(error) from error
        return [Broker(each.id, f"{each.host}:{each.port}") for each in found.values()]

    def watermarks(self, topic: str, partitions: Iterable[int]) -> dict[int, Watermarks]:
        """What each partition holds, in two round trips for all of them."""
        wanted = [TopicPartition(topic, partition) for partition in partitions]
        starts = self._offsets(wanted, OffsetSpec.earliest())
        ends = self._offsets(wanted, OffsetSpec.latest())
        return {partition: Watermarks(starts[partition], end) for partition, end in ends.items()}

    def committed(self, group: str, topic: str, partitions: Iterable[int]) -> dict[int, Committed]:
        """Where a group stands, for the partitions where it has committed at all."""
        wanted = [TopicPartition(topic, partition) for partition in partitions]
        asked = [ConsumerGroupTopicPartitions(group, wanted)]
        found = self._answer(
            lambda: _of_group(
                self._admin.list_consumer_group_offsets(asked, request_timeout=_TIMEOUT_S)
            )
        )
        return {
            each.partition: Committed(each.offset, each.metadata or "")
            for each in found
            if each.offset >= 0
        }

    def commit(self, group: str, topic: str, offsets: Mapping[int, Committed]) -> None:
        """Put offsets and notes in the name of a group that has no members; acknowledged."""
        wanted = [
            TopicPartition(topic, partition, each.next_offset, each.note)
            for partition, each in offsets.items()
        ]
        asked = [ConsumerGroupTopicPartitions(group, wanted)]
        self._answer(
            lambda: _of_group(
                self._admin.alter_consumer_group_offsets(asked, request_timeout=_TIMEOUT_S)
            )
        )

    def members(self, group: str) -> list[Member] | None:
        """Who is in a group and what it owns; None where the broker can't say.

        The embedded broker never can. No broker can while a group rebalances: it then still names
        the owners of before.
        """

        def ask() -> Any:
            futures = self._admin.describe_consumer_groups([group], request_timeout=_TIMEOUT_S)
            return futures[group].result()

        try:
            found = self._retried(ask)
        except KafkaException as error:
            unheard_of = error.args and error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND
            return [] if unheard_of else None
        if found.state in _DIVIDING:
            return None
        return [
            Member(
                each.client_id,
                each.host,
                [(tp.topic, tp.partition) for tp in each.assignment.topic_partitions],
            )
            for each in found.members
        ]

    def cleanup_policy(self, topic: str) -> str | None:
        """What becomes of a topic's old records: "compact" keeps the last of every key for ever.

        None where the broker can't say: the embedded one, or one that does not let us ask.
        """
        if self._cluster.embedded:
            return None
        asked = ConfigResource(ConfigResource.Type.TOPIC, topic)

        def ask() -> str:
            futures = self._admin.describe_configs([asked], request_timeout=_TIMEOUT_S)
            policy: str = futures[asked].result()["cleanup.policy"].value
            return policy

        try:
            return self._retried(ask)
        except KafkaException as error:
            if error.args[0].code() in _NOT_FOR_US:
                return None
            raise self._unavailable(error) from error

    def _offsets(self, wanted: Sequence[TopicPartition], spec: OffsetSpec) -> dict[int, int]:
        if not wanted:
            return {}
        asked = dict.fromkeys(wanted, spec)

        def ask() -> dict[int, int]:
            futures = self._admin.list_offsets(asked, request_timeout=_TIMEOUT_S)
            return {each.partition: future.result().offset for each, future in futures.items()}

        return self._answer(ask)

    def _answer(self, ask: Callable[[], _T]) -> _T:
        try:
            return self._retried(ask)
        except KafkaException as error:
            raise self._unavailable(error) from error

    @staticmethod
    def _retried(ask: Callable[[], _T]) -> _T:
        """Ask until the cluster has sorted itself out, or time is up."""
        deadline_s = time.monotonic() + _TIMEOUT_S
        while True:
            try:
                return ask()
            except KafkaException as error:
                if error.args[0].code() not in _PASSING or time.monotonic() > deadline_s:
                    raise
            time.sleep(_RETRY_S)

    def _unavailable(self, error: KafkaException) -> BrokerUnavailable:
        return BrokerUnavailable(
            f"the Kafka broker at {self._cluster.address} does not answer: {text_of(error)}"
        )


def _of_group(futures: Mapping[Any, Any]) -> list[TopicPartition]:
    """What a request about one group's offsets came to.

    Raises:
        KafkaException: it failed, as a whole or for a partition.
    """
    [future] = futures.values()
    found: list[TopicPartition] = future.result().topic_partitions
    for each in found:
        if each.error:
            raise KafkaException(each.error)
    return found
