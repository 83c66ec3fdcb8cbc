"""What only a real broker can say: who owns what."""

import time
from collections.abc import Iterator, Sequence

import pytest
from testcontainers.community.kafka import RedpandaContainer

from shared.events import DEAD_LETTERS, PRODUCTS, VISITS
from shared.kafka import KafkaCluster
from shared.kafka_admin import Committed, KafkaAdmin
from shared.ports import BrokerUnavailable, EventConsumer
from tests.images import REDPANDA_IMAGE
from tests.integration.containers import START_S, require_docker
from tests.waiting import until

pytestmark = pytest.mark.timeout(900)  # the container starts within the first test's time


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    require_docker()
    container = RedpandaContainer(REDPANDA_IMAGE).start(timeout=START_S)
    try:
        cluster = KafkaCluster(container.get_bootstrap_server(), patience_s=20.0)
        cluster.create_topics({VISITS: 4, DEAD_LETTERS: 3, PRODUCTS: 1}, [PRODUCTS], replication=1)
        yield cluster
    finally:
        container.stop()


class Owner:
    """Takes what it is given."""

    def __init__(self, consumer: EventConsumer) -> None:
        self._consumer = consumer
        self.owned: list[int] = []

    def assigned(self, partitions: Sequence[int]) -> None:
        self.owned = list(partitions)
        self._consumer.assign(dict.fromkeys(partitions))

    def revoked(self, partitions: Sequence[int]) -> None:
        self.owned = []


def test_owners_are_known_by_the_name_that_they_joined_with(cluster: KafkaCluster) -> None:
    admin = KafkaAdmin(cluster)
    while (found := admin.members("servers")) is None:
        time.sleep(0.2)  # a broker that has just come up has no coordinator yet
    assert found == []
    consumer = cluster.consumer(VISITS, "servers", name="server-1")
    owner = Owner(consumer)
    consumer.subscribe(owner)
    while not owner.owned:
        consumer.poll(10, 0.2)
    found = admin.members("servers")
    assert found is not None
    [member] = found
    assert member.client_id == "server-1"
    assert sorted(member.partitions) == [(VISITS, partition) for partition in range(4)]
    consumer.close()
    until(lambda: admin.members("servers") == [], "nobody in the group")


def test_a_group_that_nobody_joins_keeps_offsets_and_notes(cluster: KafkaCluster) -> None:
    admin = KafkaAdmin(cluster)
    noted = {0: Committed(5, "7-9,12"), 2: Committed(1)}

    def committed() -> bool:
        try:
            admin.commit("g", DEAD_LETTERS, noted)
        except BrokerUnavailable:  # one that has just come up has no coordinator yet
            return False
        return True

    until(committed, "offsets and notes committed")
    assert admin.committed("g", DEAD_LETTERS, range(3)) == noted


def test_what_becomes_of_old_records_is_known(cluster: KafkaCluster) -> None:
    admin = KafkaAdmin(cluster)
    assert admin.cleanup_policy(PRODUCTS) == "compact"
    assert admin.cleanup_policy(VISITS) == "delete"


def test_more_copies_than_there_are_brokers_are_refused(cluster: KafkaCluster) -> None:
    with pytest.raises(BrokerUnavailable, match=r"can't create scarce: .*[Rr]eplication factor"):
        cluster.create_topics({"scarce": 1}, replication=3)
