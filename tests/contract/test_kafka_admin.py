from collections.abc import Iterator

import pytest

from infra.embedded import EmbeddedBroker
from shared.events import DEAD_LETTERS, VISITS
from shared.kafka import KafkaCluster
from shared.kafka_admin import Broker, Committed, KafkaAdmin
from shared.ports import Watermarks


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    broker = EmbeddedBroker()
    yield KafkaCluster(broker.address, patience_s=10.0)
    broker.close()


@pytest.fixture
def admin(cluster: KafkaCluster) -> KafkaAdmin:
    return KafkaAdmin(cluster)


def test_the_brokers_are_named_with_their_address(admin: KafkaAdmin, cluster: KafkaCluster) -> None:
    assert admin.brokers() == [Broker(1, cluster.address)]


def test_what_all_partitions_hold_is_asked_at_once(
    admin: KafkaAdmin, cluster: KafkaCluster
) -> None:
    producer = cluster.producer()
    for _ in range(3):
        producer.send(VISITS, b"7", b"{}")
    producer.flush(10.0)
    producer.close()
    held = admin.watermarks(VISITS, range(12))
    assert sorted(held.values()) == [Watermarks(0, 0)] * 11 + [Watermarks(0, 3)]
    assert admin.watermarks(VISITS, []) == {}


def test_a_group_that_nobody_joins_keeps_offsets_and_notes(admin: KafkaAdmin) -> None:
    assert admin.committed("g", DEAD_LETTERS, range(3)) == {}
    noted = {0: Committed(5, "7-9,12"), 2: Committed(1)}
    admin.commit("g", DEAD_LETTERS, noted)
    assert admin.committed("g", DEAD_LETTERS, range(3)) == noted
    assert admin.committed("another", DEAD_LETTERS, range(3)) == {}


def test_where_the_broker_can_not_say_who_owns_what_that_is_known(admin: KafkaAdmin) -> None:
    assert admin.members("g") is None


def test_where_the_broker_can_not_say_what_becomes_of_old_records_that_is_known(
    admin: KafkaAdmin,
) -> None:
    assert admin.cleanup_policy(DEAD_LETTERS) is None
