import msgspec
import pytest

from server.live_feed import LISTED, PartitionSeen, Replica
from shared.catalogue import DataSet
from shared.events import Context
from tests.live_scenario import Feeding


def test_the_first_message_has_all_that_a_page_needs(feeding: Feeding, data: DataSet) -> None:
    feeding.visit(1, 2)
    feeding.feed.status([PartitionSeen(0, "t", 3, 5, 2)], [Replica("trainer", "t", "1/s")])
    feeding.feed.sample()
    message = msgspec.json.decode(feeding.feed.first())
    assert [visit["number"] for visit in message["visits"]] == [1, 2]
    assert len(message["setting"]["products"]) == len(data.products)
    assert message["setting"]["options"]["genders"] == ["F", "M"]
    assert message["setting"]["series"] == [message["rates"]]
    assert message["setting"]["since_s"] == 1_000.0 < message["at_s"]
    assert message["rates"]["shown"] == 1.0
    assert message["partitions"] == [
        {"partition": 0, "owner": "t", "next_offset": 3, "end_offset": 5, "lag": 2}
    ]
    assert message["replicas"] == [{"kind": "trainer", "name": "t", "says": "1/s"}]
    assert message["tendencies"]["groups"][0] == "Coffee"


def test_nothing_is_sent_while_nothing_happens(feeding: Feeding) -> None:
    _, after, sampled = feeding.feed.next(0, 0)
    assert feeding.feed.next(after, sampled) == (None, after, sampled)
    feeding.visit(1)
    message, after, sampled = feeding.feed.next(after, sampled)
    assert message is not None
    assert feeding.feed.next(after, sampled)[0] is None
    feeding.feed.sample()
    assert feeding.feed.next(after, sampled)[0] is not None


def test_a_message_lists_the_latest_of_many_visits(feeding: Feeding) -> None:
    feeding.visit(*range(1, LISTED + 9))
    message, after, _ = feeding.feed.next(0, 0)
    listed = [visit["number"] for visit in msgspec.json.decode(message or b"")["visits"]]
    assert listed == list(range(9, LISTED + 9))
    assert after == LISTED + 8
    assert msgspec.json.decode(message or b"")["rates"]["visits"] == LISTED + 8


def test_an_explanation_follows_the_model(feeding: Feeding, context: Context) -> None:
    before = feeding.feed.explain(context, 5)
    feeding.view.learn(50)
    after = feeding.feed.explain(context, 5)
    assert len(before.slate) == len(after.slate) == 5
    assert {item.mean for item in before.slate} == {0.0}
    best = after.slate[0]
    assert (best.product_id, best.n, best.clicks) == (feeding.data.arms[0], 50, 50)
    assert best.mean > 0.1


def test_where_no_product_is_left_there_is_nothing_to_show(
    feeding: Feeding, context: Context
) -> None:
    feeding.view.rank()
    feeding.feed.sample()
    message = msgspec.json.decode(feeding.feed.first())
    assert message["setting"]["products"] == message["tendencies"]["groups"] == []
    assert feeding.feed.explain(context, 5).slate == []


def test_asking_decides_nothing(feeding: Feeding, context: Context) -> None:
    feeding.feed.explain(context, 50)
    feeding.feed.learning(feeding.data.arms[0], context)
    assert msgspec.json.decode(feeding.feed.first())["rates"]["visits"] == 0


def test_the_learning_of_a_product_ends_with_the_present(
    feeding: Feeding, context: Context
) -> None:
    arm = feeding.data.arms[0]
    for count in (5, 10):
        feeding.view.learn(count)
        feeding.now_s += 1.0
        feeding.feed.sample()
    feeding.view.learn(12)
    points = feeding.feed.learning(arm, context)
    assert [point.n for point in points] == [0, 5, 10, 12]
    assert [point.sd for point in points] == sorted((p.sd for p in points), reverse=True)


def test_a_product_that_does_not_exist_has_no_learning(feeding: Feeding, context: Context) -> None:
    with pytest.raises(KeyError):
        feeding.feed.learning(-1, context)


def test_freshness_is_told_by_the_view_s_own_thread(feeding: Feeding) -> None:
    feeding.feed.advanced(0, 1_000)  # all outcomes of this world were resolved long ago
    feeding.visit(1)
    assert msgspec.json.decode(feeding.feed.first())["freshness"]["samples"] == 1
