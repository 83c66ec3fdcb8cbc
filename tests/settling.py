"""When nobody sends any more: every visit decided, every outcome learned."""

from collections.abc import Callable
from contextlib import closing

from confluent_kafka import Consumer, TopicPartition

from shared.events import DECISIONS, OUTCOMES, VISITS
from shared.kafka import KafkaCluster
from shared.ports import StateStore
from shared.settings import PARTITIONS, SERVER_GROUP

Until = Callable[[Callable[[], bool], str], None]


def settle(cluster: KafkaCluster, store: StateStore, model: str, until: Until) -> None:
    """Wait until every visit is decided and every outcome learned.

    Nor may a server that was killed have left a transaction open: what others wrote after its
    records is hidden until the broker gives it up.
    """
    settings = {
        "bootstrap.servers": cluster.address,
        "group.id": f"{SERVER_GROUP}-{model}",
        "isolation.level": "read_uncommitted",
        "log_level": 0,
    }
    everything = Consumer(settings)
    shown = {topic: cluster.consumer(topic) for topic in (DECISIONS, OUTCOMES)}

    def end(topic: str, partition: int) -> int:
        held = everything.get_watermark_offsets(TopicPartition(topic, partition), timeout=10.0)
        return int(held[1]) if held else -1

    def decided() -> bool:
        asked = [TopicPartition(VISITS, partition) for partition in range(PARTITIONS[VISITS])]
        return all(
            max(each.offset, 0) == end(VISITS, each.partition)
            for each in everything.committed(asked, timeout=10.0)
        )

    def all_shown() -> bool:
        return all(
            consumer.watermarks(partition).end == end(topic, partition)
            for topic, consumer in shown.items()
            for partition in range(PARTITIONS[topic])
        )

    until(decided, "all visits decided")
    until(all_shown, "no transaction open")
    until(lambda: learned(cluster, store), "all outcomes learned")
    everything.close()
    for consumer in shown.values():
        consumer.close()


def learned(cluster: KafkaCluster, store: StateStore) -> bool:
    """Whether the trainers have applied all there is."""
    partitions = range(PARTITIONS[OUTCOMES])
    with closing(cluster.consumer(OUTCOMES)) as log:
        ends = [log.watermarks(partition).end for partition in partitions]
    positions = store.positions(partitions)
    return [position.next_offset if position else 0 for position in positions] == ends
