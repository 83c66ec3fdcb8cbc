"""Kafka from the operator's side: brokers, logs' ends, groups, and what groups have noted."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin._listoffsets import OffsetSpec

from shared.kafka import KafkaCluster
from shared.kafka_connection import text_of
from shared.ports import BrokerUnavailable, Watermarks

_TIMEOUT_S: Final = 5.0
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
        [answer] = self._results(
            self._admin.list_consumer_group_offsets(asked, request_timeout=_TIMEOUT_S)
        )
        return {
            each.partition: Committed(each.offset, each.metadata or "")
            for each in answer.topic_partitions
            if each.offset >= 0
        }

    def commit(self, group: str, topic: str, offsets: Mapping[int, Committed]) -> None:
        """Put offsets and notes in the name of a group that has no members; acknowledged."""
        wanted = [
            TopicPartition(topic, partition, each.next_offset, each.note)
            for partition, each in offsets.items()
        ]
        asked = [ConsumerGroupTopicPartitions(group, wanted)]
        [answer] = self._results(
            self._admin.alter_consumer_group_offsets(asked, request_timeout=_TIMEOUT_S)
        )
        for each in answer.topic_partitions:
            if each.error:
                raise BrokerUnavailable(f"can't note offsets for {group}: {each.error.str()}")

    def members(self, group: str) -> list[Member] | None:
        """Who is in a group and what it owns; None where the broker can't say (embedded)."""
        try:
            future = self._admin.describe_consumer_groups([group], request_timeout=_TIMEOUT_S)
            members = future[group].result().members
        except KafkaException as error:
            unheard_of = error.args and error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND
            return [] if unheard_of else None
        return [
            Member(
                each.client_id,
                each.host,
                [(tp.topic, tp.partition) for tp in each.assignment.topic_partitions],
            )
            for each in members
        ]

    def _offsets(self, wanted: Sequence[TopicPartition], spec: OffsetSpec) -> dict[int, int]:
        if not wanted:
            return {}
        futures = self._admin.list_offsets(dict.fromkeys(wanted, spec), request_timeout=_TIMEOUT_S)
        answers = zip(futures, self._results(futures), strict=True)
        return {asked.partition: answer.offset for asked, answer in answers}

    def _results(self, futures: Mapping[Any, Any]) -> list[Any]:
        try:
            return [future.result() for future in futures.values()]
        except KafkaException as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: KafkaException) -> BrokerUnavailable:
        return BrokerUnavailable(
            f"the Kafka broker at {self._cluster.address} does not answer: {text_of(error)}"
        )
