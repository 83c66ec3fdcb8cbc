from collections.abc import Iterator

import pytest

from infra.embedded import EmbeddedBroker
from shared.kafka import KafkaCluster
from shared.kafka_connection import BadSetting
from shared.ports import BrokerUnavailable
from shared.testing import FakeBroker
from tests.contract.broker_suite import PARTITIONS, TOPIC, Broker, BrokerSuite
from tests.contract.transaction_suite import TransactionSuite


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    broker = EmbeddedBroker({TOPIC: PARTITIONS})
    yield broker
    broker.close()


class TestFakeBroker(BrokerSuite):
    @pytest.fixture
    def broker(self) -> Broker:
        return FakeBroker({TOPIC: PARTITIONS})


class TestFakeTransactions(TransactionSuite):
    @pytest.fixture
    def broker(self) -> FakeBroker:
        return FakeBroker({TOPIC: PARTITIONS})

    @pytest.fixture
    def group(self) -> str:
        return "group"


class TestEmbeddedBroker(BrokerSuite):
    @pytest.fixture
    def broker(self, embedded: EmbeddedBroker) -> Broker:
        return KafkaCluster(embedded.address, patience_s=10.0)


def test_the_cluster_knows_its_topics_and_makes_none_by_asking(embedded: EmbeddedBroker) -> None:
    cluster = KafkaCluster(embedded.address, patience_s=10.0)
    assert cluster.topics() == {TOPIC: PARTITIONS}
    with pytest.raises(BrokerUnavailable, match="reco topics create"):
        cluster.source("nowhere")
    assert cluster.topics() == {TOPIC: PARTITIONS}
    source = cluster.source(TOPIC)
    assert (source.topic, source.partitions, source.partitioner) == (TOPIC, PARTITIONS, "murmur2")


def test_the_embedded_broker_is_recognised(embedded: EmbeddedBroker) -> None:
    cluster = KafkaCluster(embedded.address, patience_s=10.0)
    assert cluster.embedded
    assert "embedded" in cluster.describe()


def test_nobody_at_the_address_is_said_with_the_address_and_the_time() -> None:
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1 \(tried for 0\.3 s"):
        KafkaCluster("127.0.0.1:1", patience_s=0.3)


def test_a_setting_that_librdkafka_does_not_know_is_named() -> None:
    with pytest.raises(BadSetting, match="KAFKA_FOO_BAR"):
        KafkaCluster("127.0.0.1:1", {"foo.bar": "1"}, patience_s=0.1)


def test_a_broker_that_is_gone_acknowledges_nothing(embedded: EmbeddedBroker) -> None:
    producer = KafkaCluster(embedded.address, patience_s=10.0).producer()
    producer.send(TOPIC, b"a", b"v")
    producer.flush(10.0)
    embedded.close()
    producer.send(TOPIC, b"a", b"v")
    with pytest.raises(BrokerUnavailable, match="did not acknowledge 1 records within"):
        producer.flush(0.5)
    producer.close()
