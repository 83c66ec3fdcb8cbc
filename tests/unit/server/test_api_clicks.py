import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from shared.catalogue import DataSet
from shared.events import DECISIONS, decode_decision
from shared.ports import CorruptState, StoreUnavailable
from shared.reward_window import (
    Answer,
    Attempt,
    Click,
    Clicked,
    Opening,
    Refused,
    Resolution,
    Waiting,
)
from shared.testing import Crash, CrashPoints
from tests.unit.server.api_bench import RULES, Bench, MakeBench, problem


def test_a_click_is_learned_by_the_cascade_and_answered_once_kafka_has_it(bench: Bench) -> None:
    slate = bench.rank(decision_id="d1", user_id=7).json()["slate"]
    clicked = slate[2]["product_id"]
    answer = bench.click("d1", clicked)
    assert answer.status_code == 200
    assert answer.json().keys() == {"decision_id", "product_id", "rank", "resolved_at"}
    assert (answer.json()["product_id"], answer.json()["rank"]) == (clicked, 3)
    assert bench.rewards() == {"d1:1": 0.0, "d1:2": 0.0, "d1:3": 1.0}
    [record] = [r for p in range(2) for r in bench.broker.records(DECISIONS, p)]
    decision = decode_decision(record.value or b"")
    assert (decision.decision_id, decision.via, decision.user_id) == ("d1", "http", 7)
    assert [item.product_id for item in decision.slate] == [item["product_id"] for item in slate]


def test_the_same_click_again_is_answered_the_same_and_counted_once(bench: Bench) -> None:
    product = bench.rank(decision_id="d1").json()["slate"][0]["product_id"]
    first, again = bench.click("d1", product), bench.click("d1", product)
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert len(bench.outcomes()) == 1


def test_the_same_click_many_times_at_once_is_published_once(bench: Bench) -> None:
    slate = bench.rank(decision_id="d1").json()["slate"]
    click = ("POST", "/v1/decisions/d1/click", {"json": {"product_id": slate[1]["product_id"]}})
    answers = bench.ask_all([click] * 30)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sorted(outcome.outcome_id for outcome in bench.outcomes()) == ["d1:1", "d1:2"]
    assert (bench.resolver.counts.clicked, bench.resolver.counts.outcomes) == (1, 2)


def test_outcomes_count_once_kafka_has_them_however_often_they_are_sent(bench: Bench) -> None:
    product = bench.rank(decision_id="d1").json()["slate"][1]["product_id"]
    bench.broker.acknowledges = False
    assert problem(bench.click("d1", product)) == (503, "unconfirmed")
    counts = bench.resolver.counts
    assert (counts.clicked, counts.outcomes, bench.lines.take(20)) == (0, 0, [])
    bench.broker.acknowledges = True
    assert bench.click("d1", product).status_code == 200
    assert (counts.clicked, counts.expired, counts.outcomes) == (1, 0, 2)


def test_a_click_whose_reply_was_lost_counts_as_one_when_it_is_sent_again(bench: Bench) -> None:
    product = bench.rank(decision_id="d1").json()["slate"][1]["product_id"]
    bench.window.lose_replies = 1
    assert problem(bench.click("d1", product)) == (503, "unconfirmed")
    assert bench.click("d1", product).status_code == 200
    counts = bench.resolver.counts
    assert (counts.clicked, counts.expired, counts.outcomes) == (1, 0, 2)


def test_what_two_replicas_publish_counts_once_over_both(
    make: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make()
    other = make(window=first.window, broker=first.broker)

    async def away(decision_ids: Sequence[str]) -> list[str]:
        raise StoreUnavailable("away just now")

    first.rank(decision_id="d1", k=3)
    first.window.now_ms += RULES.window_ms
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(first.window, "acknowledge", away)
        first.sweep()
    first.window.now_ms += RULES.lease_ms
    other.sweep()
    assert len(first.outcomes()) == 6
    counts = [each.resolver.counts for each in (first, other)]
    assert [(each.expired, each.outcomes) for each in counts] == [(0, 0), (1, 3)]


def test_a_click_that_another_replica_is_publishing_is_left_to_it(make: MakeBench) -> None:
    first = make()
    other = make(window=first.window, broker=first.broker)
    product = first.rank(decision_id="d1").json()["slate"][0]["product_id"]

    async def both() -> Clicked:
        await first.window.click([Click("d1", product)])
        again = asyncio.ensure_future(other.resolver.click(Click("d1", product)))
        await asyncio.sleep(0)
        await first.window.acknowledge(["d1"])
        return await again

    assert other.run(both()).answer is Answer.AGAIN
    assert other.outcomes() == []


def test_a_click_that_another_replica_does_not_publish_in_time_is_published_here(
    make: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.resolver.CONFIRM_EVERY_S", 0.0)
    dead = make()
    other = make(window=dead.window, broker=dead.broker)
    product = dead.rank(decision_id="d1").json()["slate"][0]["product_id"]
    dead.run(dead.window.click([Click("d1", product)]))
    assert other.click("d1", product).status_code == 200
    assert other.rewards() == {"d1:1": 1.0}


def test_each_wrong_click_has_its_own_status_and_type(bench: Bench, data: DataSet) -> None:
    slate = [item["product_id"] for item in bench.rank(decision_id="d1").json()["slate"]]
    bench.rank(decision_id="d2")
    assert problem(bench.click("d0", slate[0])) == (404, "unknown-decision")
    assert problem(bench.click("d1", data.arms[0])) == (422, "not-on-slate")
    assert bench.click("d1", slate[0]).status_code == 200
    assert problem(bench.click("d1", slate[1])) == (409, "already-clicked")
    bench.window.now_ms += 30_000
    assert problem(bench.click("d2", slate[0])) == (410, "too-late")
    assert bench.resolver.counts.refused == {
        "unknown": 1,
        "not-on-slate": 1,
        "other": 1,
        "late": 1,
    }


def test_a_window_that_ends_teaches_that_nothing_was_clicked(bench: Bench) -> None:
    bench.rank(decision_id="d1", k=3)
    assert bench.sweep() == 0
    bench.window.now_ms += 30_000
    assert bench.sweep() == 1
    assert bench.rewards() == {"d1:1": 0.0, "d1:2": 0.0, "d1:3": 0.0}
    assert bench.sweep() == 0


def test_a_decision_tells_where_it_stands(bench: Bench) -> None:
    slate = bench.rank(decision_id="d1").json()["slate"]
    bench.rank(decision_id="d2")

    def told(decision_id: str) -> dict[str, Any]:
        body: dict[str, Any] = bench.ask("GET", f"/v1/decisions/{decision_id}").json()
        return body

    waiting = told("d1")
    assert (waiting["state"], waiting["slate"]) == ("waiting", slate)
    assert waiting["expires_at"] is not None
    bench.click("d1", slate[1]["product_id"])
    clicked = told("d1")
    assert (clicked["state"], clicked["product_id"]) == ("clicked", slate[1]["product_id"])
    assert (clicked["published"], clicked["expires_at"]) == (True, None)
    bench.window.now_ms += 30_000
    bench.sweep()
    assert (told("d2")["state"], told("d2")["product_id"]) == ("expired", None)
    assert problem(bench.ask("GET", "/v1/decisions/d3")) == (404, "unknown-decision")


def test_a_slate_whose_click_could_not_be_counted_is_not_given(bench: Bench) -> None:
    bench.window.available = False
    answer = bench.rank(decision_id="d1")
    assert problem(answer) == (503, "window-unavailable")
    assert answer.headers["retry-after"] == "1"
    assert problem(bench.click("d1", 8)) == (503, "unconfirmed")


def test_a_slate_that_nobody_saw_teaches_nothing_though_the_store_be_away_for_long(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asleep(attempts: Sequence[Attempt]) -> None:
        raise StoreUnavailable("asleep")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(bench.window, "withdraw", asleep)
        bench.window.lose_replies = 1
        assert problem(bench.rank(decision_id="d1")) == (503, "window-unavailable")
        bench.clock.now_s += 3_600.0
        bench.run(asyncio.sleep(0.0))
    bench.run(bench.ranks.settle())
    bench.window.now_ms += 30_000
    assert bench.sweep() == 0


def test_nothing_is_ranked_that_could_not_be_withdrawn(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.withdrawals.MOST", 1)
    monkeypatch.setattr("server.withdrawals.EVERY_S", 3_600.0)
    bench.window.available = False
    assert problem(bench.rank(decision_id="d1")) == (503, "window-unavailable")
    bench.window.available = True
    assert problem(bench.rank(decision_id="d2")) == (503, "window-unavailable")


def test_a_decision_that_the_store_can_not_be_asked_for_may_be_there(bench: Bench) -> None:
    bench.rank(decision_id="d1")
    bench.window.available = False
    answer = bench.ask("GET", "/v1/decisions/d1")
    assert problem(answer) == (503, "store-unavailable")
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["title"] == "The decision can't be looked up now"


def test_a_slate_that_nobody_saw_teaches_nothing(bench: Bench) -> None:
    bench.window.lose_replies = 1
    assert problem(bench.rank(decision_id="d1")) == (503, "window-unavailable")
    bench.window.now_ms += 30_000
    assert bench.sweep() == 0
    assert bench.rank(decision_id="d1").status_code == 200


@pytest.mark.parametrize(
    ("error", "answered"),
    [
        (ZeroDivisionError("nobody thought of it"), (500, "failed")),
        (asyncio.CancelledError(), None),
    ],
    ids=repr,
)
@pytest.mark.parametrize("where", ["opening", "reporting"])
def test_a_slate_that_nobody_saw_teaches_nothing_whatever_came_between(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
    answered: tuple[int, str] | None,
    where: str,
) -> None:
    opened = bench.window.open

    async def open_and_fail(openings: Sequence[Opening]) -> list[Waiting | Refused]:
        await opened(openings)
        raise error

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as meanwhile:
        if where == "opening":
            meanwhile.setattr(bench.window, "open", open_and_fail)
        else:
            meanwhile.setattr(bench.ranks, "_decided", fail)
        if answered is None:
            with pytest.raises(asyncio.CancelledError):
                bench.rank(decision_id="d1")
        else:
            assert problem(bench.rank(decision_id="d1")) == answered
            assert str(error) in caplog.text
    bench.run(bench.ranks.settle())
    bench.window.now_ms += 30_000
    assert bench.sweep() == 0
    assert bench.rank(decision_id="d1").status_code == 200


def test_a_click_on_a_decision_that_can_not_be_read_has_its_own_answer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    slates = {d: bench.rank(decision_id=d).json()["slate"] for d in ("d1", "d2", "d3")}
    clicked = bench.window.click

    async def click(clicks: Sequence[Click]) -> list[Clicked]:
        answers = zip(clicks, await clicked(clicks), strict=True)
        return [Clicked(Answer.UNREADABLE) if c.decision_id == "d2" else a for c, a in answers]

    monkeypatch.setattr(bench.window, "click", click)
    answers = bench.ask_all(
        [
            (
                "POST",
                f"/v1/decisions/{decision_id}/click",
                {"json": {"product_id": slate[0]["product_id"]}},
            )
            for decision_id, slate in slates.items()
        ]
    )
    assert [answer.status_code for answer in answers] == [200, 500, 200]
    assert problem(answers[1]) == (500, "unreadable")
    assert bench.resolver.counts.refused == {"unreadable": 1}


def test_a_decision_that_can_not_be_read_is_called_that(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    product = bench.rank(decision_id="d1").json()["slate"][0]["product_id"]

    async def find(decision_id: str) -> None:
        raise CorruptState("it is no JSON")

    monkeypatch.setattr(bench.window, "find", find)
    assert problem(bench.ask("GET", "/v1/decisions/d1")) == (500, "unreadable")
    bench.run(bench.window.click([Click("d1", product)]))
    assert problem(bench.click("d1", product)) == (500, "unreadable")  # another publishes, or not
    assert caplog.text.count("decision d1: it is no JSON") == 2


def test_a_click_that_kafka_does_not_confirm_is_not_called_done(bench: Bench) -> None:
    product = bench.rank(decision_id="d1").json()["slate"][0]["product_id"]
    bench.broker.acknowledges = False
    answer = bench.click("d1", product)
    assert problem(answer) == (503, "unconfirmed")
    assert answer.headers["retry-after"] == "1"
    # Until something is published: that there is nothing else to do proves nothing.
    assert bench.sweep() == 0
    assert bench.ask("GET", "/readyz").status_code == 503
    bench.broker.acknowledges = True
    assert bench.click("d1", product).status_code == 200
    assert bench.rewards() == {"d1:1": 1.0}
    assert bench.ask("GET", "/readyz").status_code == 200


@pytest.mark.parametrize("point", range(3))
def test_a_replica_that_dies_between_decision_and_publication_is_continued_by_another(
    make: MakeBench, point: int
) -> None:
    dying = make(step=CrashPoints(point))
    other = make(window=dying.window, broker=dying.broker)
    product = dying.rank(decision_id="d1").json()["slate"][1]["product_id"]
    with pytest.raises(Crash):
        dying.click("d1", product)
    dying.window.now_ms += 15_000
    assert other.sweep() == 1
    assert other.rewards() == {"d1:1": 0.0, "d1:2": 1.0}
    ids = [outcome.outcome_id for outcome in other.outcomes()]
    assert len(ids) == (4 if point == 2 else 2)  # published twice, under the same ids
    assert other.click("d1", product).status_code == 200


def test_what_waits_for_kafka_is_counted_while_kafka_is_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.resolver.RETRY_S", 0.0)
    monkeypatch.setattr("server.resolver.SWEEP_S", 0.0)
    for name in ("d1", "d2"):
        bench.rank(decision_id=name)
    bench.window.now_ms += 30_000
    bench.broker.available = False
    take = bench.window.take

    async def take_again(limit: int) -> list[Resolution]:
        bench.window.now_ms += RULES.lease_ms  # so that there is something to publish every time
        return await take(limit)

    monkeypatch.setattr(bench.window, "take", take_again)

    async def scene() -> None:
        sweeping = asyncio.create_task(bench.resolver.run())
        async with asyncio.timeout(10.0):
            while bench.resolver.load.outbox < 2:
                await asyncio.sleep(0.0)
        sweeping.cancel()
        await asyncio.wait([sweeping])

    bench.run(scene())
    assert bench.resolver.load.waiting == 0
    assert bench.resolver.error == "the fake broker is away"


def test_sweeping_goes_on_whatever_it_meets(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.resolver.RETRY_S", 0.0)
    errors = [ZeroDivisionError("nobody thought of it")]

    async def scene() -> None:
        swept = asyncio.Event()

        async def take(limit: int) -> list[Resolution]:
            if errors:
                raise errors.pop()
            swept.set()
            return []

        monkeypatch.setattr(bench.window, "take", take)
        ends = [asyncio.ensure_future(each) for each in (bench.resolver.run(), swept.wait())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        assert swept.is_set()
        for each in ends:
            each.cancel()

    bench.run(scene())
