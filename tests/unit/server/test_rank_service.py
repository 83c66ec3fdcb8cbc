"""One request of a batch harms no other; retries, deadlines, and clients that leave."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import httpx
import msgspec
import pytest

from server.api_types import RankRequest
from server.experiment import Traffic, parse
from server.problems import Trouble
from server.ranking import Job, Unrankable
from server.scorer import Model, Policy
from server.view import View
from shared.catalogue import DataSet
from shared.linucb import Solution
from shared.live_catalogue import LiveCatalogue
from shared.ports import CorruptState, StoreUnavailable
from shared.reward_window import Attempt, Opening, Refused, Waiting
from shared.testing import FakeWindow
from tests.products import change
from tests.unit.server.api_bench import CONTEXT, RULES, Bench, MakeBench, grown, problem

EVERYONE = parse("linucb:50,shared-linucb:50", Policy, "e")


def users_of(traffic: Traffic, name: str) -> list[int]:
    return [user for user in range(1, 100) if traffic.variant_of(user).name == name]


def asked(bench: Bench, *requests: dict[str, Any]) -> list[httpx.Response]:
    """What these are answered, asked at the same moment."""
    bodies = [{"context": CONTEXT, **request} for request in requests]
    return bench.ask_all([("POST", "/v1/rank", {"json": body}) for body in bodies])


@pytest.fixture
def growing(make: MakeBench, data: DataSet) -> Bench:
    """An experiment while product 201 comes: one of its models has it, the other not yet."""
    catalogue = LiveCatalogue(data.products)
    catalogue.take(change(201, retired=False))
    bench: Bench = make(traffic=EVERYONE, catalogue=catalogue)
    before = bench.view.model
    bench.view.model = grown(before, [*data.arms, 201])
    bench.view.others = {"shared-linucb": View(before, [3, 5], stale=False)}
    return bench


def test_a_product_that_one_policy_has_and_another_lacks_fails_for_the_others_users_only(
    growing: Bench,
) -> None:
    has, lacks = users_of(EVERYONE, "linucb"), users_of(EVERYONE, "shared-linucb")
    new = [{"user_id": user, "candidates": [201]} for user in (has[0], lacks[0])]
    others = [{"user_id": user} for user in (*has[:10], *lacks[:10])]
    ranked, refused, *rest = asked(growing, *new, *others)
    assert [item["product_id"] for item in ranked.json()["slate"]] == [201]
    assert problem(refused) == (503, "not-ready")
    assert refused.headers["retry-after"] == "1"
    assert "product 201 is new" in refused.json()["detail"]
    assert [answer.status_code for answer in rest] == [200] * 20
    assert growing.ranker.counts.decisions == 21


@pytest.mark.parametrize("retired", [True, False])
def test_candidates_of_which_one_is_unknown_are_refused_for_good(
    growing: Bench, retired: bool
) -> None:
    user = users_of(EVERYONE, "shared-linucb")[0]
    product = 202 if retired else 999
    growing.ranker._catalogue.take(change(202, retired=True))
    answer = growing.rank(user_id=user, candidates=[201, product])
    assert problem(answer) == (422, "invalid")
    assert f"no product {product}" in answer.json()["detail"]


def test_what_one_policys_model_alone_has_is_not_left_by_exclude(
    growing: Bench, data: DataSet
) -> None:
    has, lacks = (users_of(EVERYONE, name)[0] for name in ("linucb", "shared-linucb"))
    requests = [{"user_id": user, "exclude": data.arms} for user in (has, lacks)]
    ranked, refused = asked(growing, *requests)
    assert ranked.status_code == 200
    assert problem(refused) == (422, "invalid")


def test_where_all_products_are_retired_there_is_nothing_to_rank_yet(bench: Bench) -> None:
    model = bench.view.model
    none = Solution(model.solution.theta[:0], model.solution.covariance[:0])
    arms, n, clicks = model.arms[:0], model.n[:0], model.clicks[:0]
    bench.view.model = Model(arms, n, clicks, none, model.untrained)
    answers = asked(bench, {}, {}, {"exclude": [8]})
    assert [problem(answer) for answer in answers] == [
        (503, "not-ready"),
        (503, "not-ready"),
        (422, "invalid"),
    ]


def test_an_error_that_nobody_thought_of_harms_only_the_request_that_meets_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decide = bench.ranker.decide

    def fail(jobs: Sequence[Job]) -> list[Waiting | Unrankable]:
        if any(job.decision_id == "d13" for job in jobs):
            raise ZeroDivisionError("nobody thought of it")
        return decide(jobs)

    monkeypatch.setattr(bench.ranker, "decide", fail)
    answers = asked(bench, *({"decision_id": f"d{number}"} for number in range(40)))
    assert problem(answers.pop(13)) == (500, "failed")
    assert [answer.status_code for answer in answers] == [200] * 39
    assert "nobody thought of it" in caplog.text
    assert bench.ranker.counts.decisions == 39


@pytest.fixture
def shown(bench: Bench, data: DataSet) -> httpx.Response:
    """The slate of d1, one product of which is retired since."""
    first = bench.rank(decision_id="d1", candidates=[8, 9])
    bench.view.model = grown(bench.view.model, [arm for arm in data.arms if arm != 8])
    return first


def test_a_retry_gets_its_slate_though_a_product_is_retired_meanwhile(
    bench: Bench, shown: httpx.Response
) -> None:
    again = bench.rank(decision_id="d1", candidates=[8, 9])
    assert (again.status_code, again.json()) == (200, shown.json())
    assert bench.click("d1", 8).status_code == 200
    assert bench.rank(decision_id="d1", candidates=[8, 9]).json() == shown.json()
    assert problem(bench.rank(decision_id="d1", candidates=[8])) == (409, "decision-id-reused")
    assert problem(bench.rank(decision_id="d2", candidates=[8, 9])) == (422, "invalid")
    assert problem(bench.rank(candidates=[8, 9])) == (422, "invalid")


def test_a_retry_that_could_be_ranked_no_more_keeps_its_slate_though_the_first_is_withdrawn(
    bench: Bench, shown: httpx.Response
) -> None:
    bench.rank(decision_id="d1", candidates=[8, 9])
    bench.run(bench.window.withdraw([Attempt("d1", f"{bench.ranks._replica}.0")]))
    assert bench.click("d1", 8).status_code == 200


@pytest.mark.parametrize(
    ("error", "answered"),
    [
        (StoreUnavailable("away"), (503, "window-unavailable")),
        (CorruptState("it is no JSON"), (500, "unreadable")),
        (ZeroDivisionError("nobody thought of it"), (500, "failed")),
    ],
    ids=repr,
)
def test_what_can_not_be_looked_up_is_not_called_wrong(
    bench: Bench,
    shown: httpx.Response,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    answered: tuple[int, str],
) -> None:
    async def find(decision_id: str) -> None:
        raise error

    monkeypatch.setattr(bench.window, "find", find)
    assert problem(bench.rank(decision_id="d1", candidates=[8, 9])) == answered


def test_what_the_store_holds_damaged_spoils_only_its_own_retry(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = bench.window.open

    async def open_(openings: Sequence[Opening]) -> list[Waiting | Refused]:
        answers = await opened(openings)
        return [
            Refused.UNREADABLE if each.name.decision_id == "d1" else answer
            for each, answer in zip(openings, answers, strict=True)
        ]

    monkeypatch.setattr(bench.window, "open", open_)
    damaged, whole = asked(bench, {"decision_id": "d1"}, {"decision_id": "d2"})
    assert problem(damaged) == (500, "unreadable")
    assert whole.status_code == 200


def test_only_what_was_kept_and_answered_with_counts_and_once(
    make: MakeBench, data: DataSet
) -> None:
    bench = make(window=FakeWindow(RULES._replace(most_waiting=2)))
    counts, request = bench.ranker.counts, {"decision_id": "d1", "candidates": [8, 9]}
    bench.window.available = False
    assert bench.rank(**request).status_code == 503
    bench.window.available = True
    assert counts.decisions == 0
    again = asked(bench, request, request, {"decision_id": "d2"})
    assert [answer.status_code for answer in again] == [200] * 3
    assert counts.decisions == 2
    assert bench.rank(**request).status_code == 200
    assert problem(bench.rank(decision_id="d1")) == (409, "decision-id-reused")
    assert problem(bench.rank()) == (503, "overloaded")
    bench.view.model = grown(bench.view.model, [arm for arm in data.arms if arm != 8])
    assert bench.rank(**request).status_code == 200
    assert bench.click("d1", 8).status_code == 200
    assert bench.rank(**request).status_code == 200
    assert counts.decisions == 2


class Slow:
    """A store that answers when it is told to, and clients that may hang up."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bench = bench
        self.gone: set[str] = set()
        """Tags of clients that have hung up."""
        self.batches: list[list[str]] = []
        self._open, self._doors = bench.window.open, list[asyncio.Future[None]]()
        monkeypatch.setattr(bench.window, "open", self.open)

    async def open(self, openings: Sequence[Opening]) -> list[Waiting | Refused]:
        """As the window does, once it is let."""
        self.batches.append([each.name.decision_id for each in openings])
        self._doors.append(asyncio.get_running_loop().create_future())
        await self._doors[-1]
        return await self._open(openings)

    async def ask(self, decision_id: str, client: str = "") -> "asyncio.Task[bytes]":
        """A request that has been taken in."""
        body = {"context": CONTEXT, "decision_id": decision_id}
        request = msgspec.convert(body, RankRequest)
        client = client or decision_id
        ranked = self.bench.ranks.rank(request, hung_up=lambda: client in self.gone)
        task = asyncio.ensure_future(ranked)
        await self.turns()
        return task

    async def answer(self) -> None:
        """The batch that is under way is opened."""
        self._doors[-1].set_result(None)
        await self.turns()

    async def turns(self) -> None:
        """All that is left to do in the loop but what is waited for."""
        for _ in range(10):
            await asyncio.sleep(0)

    def run(self, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Tell it; what is to be withdrawn is withdrawn at its end."""
        self.bench.run(story())
        self.bench.run(self.bench.ranks.settle())

    def waits(self, decision_id: str) -> bool:
        """Whether the window waits for a click on it."""
        return self.bench.window.model.find(decision_id) is not None


def kind_of(task: "asyncio.Task[bytes]") -> str:
    error = task.exception()
    assert isinstance(error, Trouble)
    return error.kind.name


def test_a_slate_later_than_its_own_budget_is_not_given_and_teaches_nothing(
    make: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(make(budget_s=0.25), monkeypatch)
    clock = slow.bench.clock

    async def story() -> None:
        ahead = await slow.ask("d0")
        early = await slow.ask("d1")
        clock.now_s += 0.24
        late = await slow.ask("d2")
        await slow.answer()
        assert ahead.done()
        assert slow.batches == [["d0"], ["d1", "d2"]]
        clock.now_s += 0.2
        await slow.answer()
        assert kind_of(early) == "window-unavailable"
        assert await late

    slow.run(story)
    assert [slow.waits(decision_id) for decision_id in ("d0", "d1", "d2")] == [True, False, True]


def test_who_has_hung_up_before_the_batch_leaves_is_not_ranked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(bench, monkeypatch)

    async def story() -> None:
        await slow.ask("d0")
        gone, stays = await slow.ask("d1"), await slow.ask("d2")
        slow.gone.add("d1")
        await slow.answer()
        assert slow.batches[1] == ["d2"]
        await slow.answer()
        assert kind_of(gone) == "closed-early"
        assert await stays

    slow.run(story)


def test_a_slate_whose_client_hung_up_meanwhile_teaches_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(bench, monkeypatch)

    async def story() -> None:
        gone = await slow.ask("d1")
        slow.gone.add("d1")
        await slow.answer()
        assert kind_of(gone) == "closed-early"

    slow.run(story)
    assert not slow.waits("d1")
    assert bench.ranker.counts.decisions == 0
    bench.window.now_ms += 30_000
    assert bench.sweep() == 0


def test_who_hangs_up_takes_the_slate_from_nobody_who_asked_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(bench, monkeypatch)

    async def story() -> None:
        await slow.ask("d0")
        gone, stays = await slow.ask("d1", "first"), await slow.ask("d1", "again")
        await slow.answer()
        assert slow.batches[1] == ["d1", "d1"]
        slow.gone.add("first")
        await slow.answer()
        assert kind_of(gone) == "closed-early"
        assert await stays

    slow.run(story)
    assert slow.waits("d1")
    assert bench.ranker.counts.decisions == 2


def test_what_was_refused_to_who_hung_up_is_not_withdrawn(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(bench, monkeypatch)
    withdrawn: list[Attempt] = []

    async def open_(openings: Sequence[Opening]) -> list[Waiting | Refused]:
        return [Refused.FULL] * len(openings)

    async def withdraw(attempts: Sequence[Attempt]) -> None:
        withdrawn.extend(attempts)

    monkeypatch.setattr(slow, "_open", open_)
    monkeypatch.setattr(bench.window, "withdraw", withdraw)

    async def story() -> None:
        await slow.ask("d1")
        slow.gone.add("d1")
        await slow.answer()

    slow.run(story)
    assert withdrawn == []
