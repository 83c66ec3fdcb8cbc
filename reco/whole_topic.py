"""A topic from its start to where it ends now."""

import time
from collections.abc import Iterator
from typing import Final

from shared.kafka import KafkaCluster
from shared.ports import BrokerUnavailable, Record

PATIENCE_S: Final = 30.0
"""How long the broker may bring nothing although there is more."""
_RECORDS: Final = 5_000
_POLL_S: Final = 1.0


def read_topic(
    cluster: KafkaCluster, topic: str, patience_s: float = PATIENCE_S
) -> Iterator[Record]:
    """Everything that the topic holds now, partition by partition.

    Raises:
        BrokerUnavailable: there is no such topic, no answer, or no more records for `patience_s`.
    """
    partitions = _partitions(cluster, topic)
    consumer = cluster.consumer(topic)
    try:
        for partition in range(partitions):
            held = consumer.watermarks(partition)
            consumer.assign({partition: held.start})
            next_offset, heard_s = held.start, time.monotonic()
            while next_offset < held.end:
                for record in consumer.poll(_RECORDS, _POLL_S):
                    if record.offset < held.end:
                        yield record
                at = consumer.position(partition) or next_offset
                if at > next_offset:
                    next_offset, heard_s = at, time.monotonic()
                elif time.monotonic() - heard_s > patience_s:
                    raise BrokerUnavailable(
                        f"{cluster.describe()} brings no more of {topic} than "
                        f"{next_offset:,} of {held.end:,} records of partition {partition}"
                    )
    finally:
        consumer.close()


def starts_of(cluster: KafkaCluster, topic: str) -> dict[int, int]:
    """The first offset that each partition still holds: above 0, what came before was deleted.

    Asked after the topic was read, it misses nothing that was deleted meanwhile.

    Raises:
        BrokerUnavailable: there is no such topic, or no answer.
    """
    partitions = range(_partitions(cluster, topic))
    consumer = cluster.consumer(topic)
    try:
        return {partition: consumer.watermarks(partition).start for partition in partitions}
    finally:
        consumer.close()


def _partitions(cluster: KafkaCluster, topic: str) -> int:
    partitions = cluster.topics().get(topic)
    if partitions is None:
        raise BrokerUnavailable(
            f"{cluster.describe()} has no topic {topic!r}: make it with `reco topics create`"
        )
    return partitions
