"""What the fakes and the embedded default promise, promised by the real thing."""

from collections.abc import Iterator

import pytest

from shared.kafka import KafkaCluster
from shared.ports import StateStore
from shared.redis_store import RedisStore
from tests.contract.broker_suite import PARTITIONS, BrokerSuite
from tests.contract.store_suite import StoreSuite
from tests.contract.transaction_suite import TransactionSuite
from tests.integration.containers import RedisServer, make_anew

pytestmark = pytest.mark.timeout(900)  # containers start within the first test's time


@pytest.fixture
def topic(cluster: KafkaCluster, name: str) -> str:
    """A new one, known to the broker."""
    make_anew(cluster, [name], {name: PARTITIONS})
    return name


class OnKafka:
    """What the broker's suites ask for."""

    @pytest.fixture
    def broker(self, cluster: KafkaCluster) -> KafkaCluster:
        return cluster

    @pytest.fixture
    def topic(self, topic: str) -> str:
        return topic

    @pytest.fixture
    def group(self, name: str) -> str:
        return name


class TestRealBroker(OnKafka, BrokerSuite):
    """The plain part."""


class TestRealTransactions(OnKafka, TransactionSuite):
    """What the embedded broker can't."""


class TestRealStore(StoreSuite):
    @pytest.fixture
    def store(self, redis_server: RedisServer, name: str) -> Iterator[StateStore]:
        store = RedisStore(redis_server.url, name)
        yield store
        store.close()
