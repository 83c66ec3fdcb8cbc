from server.delivery import AtLeastOnce, ExactlyOnce, undelivered
from shared.ports import BrokerUnavailable
from shared.testing import FakeBroker

TOPICS = {"out": 1, "in": 1}


def test_exactly_once_an_abandoned_batch_leaves_nothing_for_the_next() -> None:
    broker = FakeBroker(TOPICS)
    delivery = ExactlyOnce(broker.transactional_producer("name"))
    consumer = broker.consumer("in", "group")
    delivery.begin()
    delivery.send("out", b"k", b"abandoned")
    assert delivery.abandon({0: 7, 1: None}) == {0: None, 1: None}
    delivery.send("out", b"k", b"kept")
    delivery.complete(consumer, {0: 8})
    assert [record.value for record in broker.records("out", 0)] == [b"kept"]


def test_at_least_once_an_abandoned_batch_is_read_again_from_where_it_began() -> None:
    delivery = AtLeastOnce(FakeBroker(TOPICS).producer())
    assert delivery.abandon({0: 7, 1: None}) == {0: 7, 1: None}


def test_what_a_failed_batch_means_is_said() -> None:
    broker, error = FakeBroker(TOPICS), BrokerUnavailable("gone")
    exact = ExactlyOnce(broker.transactional_producer("name"))
    assert "nothing of it was shown" in undelivered(error, exact)
    assert "decided again" in undelivered(error, AtLeastOnce(broker.producer()))
