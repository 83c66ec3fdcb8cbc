from typing import Any

import pytest

from infra.embedded import embedded
from reco.whole_topic import read_topic
from shared.events import DECISIONS, VISITS
from shared.kafka import KafkaCluster
from shared.ports import BrokerUnavailable, Record, Watermarks


def test_all_records_of_all_partitions_are_read() -> None:
    with embedded() as addresses:
        cluster = KafkaCluster(addresses.kafka, patience_s=10.0)
        producer = cluster.producer()
        sent = {b"%d" % number for number in range(100)}
        for value in sent:
            producer.send(VISITS, value, value)
        producer.flush(10.0)
        producer.close()
        assert {record.value for record in read_topic(cluster, VISITS)} == sent


class Silent:
    """A cluster that says there are records, and brings none."""

    def __init__(self) -> None:
        self.closed = False

    def topics(self) -> dict[str, int]:
        return {VISITS: 1}

    def describe(self) -> str:
        return "Kafka at nowhere"

    def consumer(self, topic: str) -> "Silent":
        return self

    def watermarks(self, partition: int) -> Watermarks:
        return Watermarks(0, 10)

    def assign(self, offsets: dict[int, int]) -> None:
        pass

    def poll(self, most: int, timeout_s: float) -> list[Record]:
        return []

    def position(self, partition: int) -> None:
        return None

    def close(self) -> None:
        self.closed = True


def test_a_broker_that_falls_silent_is_not_waited_for_for_ever() -> None:
    cluster: Any = Silent()
    with pytest.raises(BrokerUnavailable, match="no more of visits than 0 of 10 records"):
        list(read_topic(cluster, VISITS, patience_s=0.0))
    assert cluster.closed


def test_a_topic_that_is_not_there_is_named_with_what_makes_it() -> None:
    cluster: Any = Silent()
    with pytest.raises(BrokerUnavailable, match="no topic 'decisions': make it with `reco topics"):
        list(read_topic(cluster, DECISIONS))
