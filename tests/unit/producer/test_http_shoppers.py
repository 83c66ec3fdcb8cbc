import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import httpx
import msgspec
import pytest

from producer.habits import Habits
from producer.http_shoppers import GivenUp, HttpShoppers, Shopped
from producer.simulate import Shoppers
from shared.catalogue import DataSet
from shared.events import Visit
from shared.tracing import TRACEPARENT, Attributes, Headers, Trace, untraced

SLATE = [8, 42, 61]
Answering = Callable[[httpx.Request], httpx.Response]


class Api:
    """Answers as the API does; counts what it is asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.clicks: dict[str, int] = {}
        self.traces: dict[str, set[str]] = {}
        """Trace of each request, by whose visit it is."""
        self.turn_away = 0
        self.click_status = 200

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked[path] += 1
        if self.turn_away:
            self.turn_away -= 1
            return httpx.Response(503, json={}, headers={"retry-after": "1"})
        body = msgspec.json.decode(request.content)
        visit_id = body.get("decision_id") or path.split("/")[3]
        self.traces.setdefault(visit_id, set()).add(request.headers.get(TRACEPARENT, ""))
        if path == "/v1/rank":
            slate = [{"product_id": product} for product in SLATE]
            return httpx.Response(200, json={"decision_id": body["decision_id"], "slate": slate})
        if self.click_status == 200:
            self.clicks[path.split("/")[3]] = body["product_id"]
        return httpx.Response(self.click_status, json={"detail": "why"})


def shop(
    data: DataSet,
    answer: Answering,
    count: int,
    patience_s: float = 5.0,
    trace: Trace = untraced,
) -> tuple[HttpShoppers, list[Shopped]]:
    """Visits by shoppers who click the second product, if their number is even."""
    over: list[Shopped] = []

    def react(visit: Visit, slate: Sequence[int]) -> int | None:
        assert slate == SLATE
        return None if int(visit.visit_id.rpartition("-")[2]) % 2 else 2

    async def run() -> HttpShoppers:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            service = HttpShoppers(
                client,
                ["http://one", "http://two/"],
                Shoppers(data.users, 1, "run"),
                react,
                Habits(median_s=0.001),
                1,
                0.0,
                patience_s,
                clock=asyncio.get_running_loop().time,
                utc_now=lambda: datetime(2026, 1, 5, tzinfo=UTC),
                done=over.append,
                trace=trace,
            )
            await service.run(range(count), threading.Event())
            return service

    return asyncio.run(run()), over


def test_every_shopper_asks_and_those_who_like_something_click(data: DataSet) -> None:
    api = Api()
    service, over = shop(data, api, 100)
    assert (service.counts.sent, service.counts.confirmed, service.counts.clicks) == (100, 100, 50)
    assert api.clicks == {f"run-{number:07d}": 42 for number in range(0, 100, 2)}
    assert sum(each.clicked == 42 for each in over) == 50
    assert {each.visit.visit_id for each in over} == {f"run-{number:07d}" for number in range(100)}


def test_who_is_turned_away_asks_again(data: DataSet) -> None:
    api = Api()
    api.turn_away = 3
    service, over = shop(data, api, 4)
    assert (len(over), service.counts.retries) == (4, 3)
    assert api.asked["/v1/rank"] >= 4


def test_a_server_that_is_away_is_passed_over(data: DataSet) -> None:
    api = Api()

    def half(request: httpx.Request) -> httpx.Response:
        if request.url.host == "one":
            raise httpx.ConnectError("refused")
        return api(request)

    service, over = shop(data, half, 4)
    assert len(over) == 4
    assert service.counts.retries > 0


def test_a_late_click_is_no_click(data: DataSet) -> None:
    api = Api()
    api.click_status = 410
    service, over = shop(data, api, 10)
    assert (service.counts.late, service.counts.clicks) == (5, 0)
    assert all(each.clicked is None for each in over)


def test_a_click_on_a_decision_that_is_forgotten_is_no_click_and_ends_nobody_elses_visit(
    data: DataSet,
) -> None:
    api = Api()
    api.click_status = 404
    service, over = shop(data, api, 10)
    counts = service.counts
    assert (counts.forgotten, counts.late, counts.clicks, counts.confirmed) == (5, 0, 0, 10)
    assert len(over) == 10
    assert all(each.clicked is None for each in over)


NO_SLATES: list[object] = [[], {}, {"slate": []}, {"slate": [{"id": 1}]}, {"slate": ["Coffee"]}]


def another(body: object) -> Answering:
    """Another API: it says this to whatever it is asked."""
    return lambda request: httpx.Response(200, json=body)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda request: httpx.Response(503, text="busy"), "busy"),
        (lambda request: httpx.Response(422, json={"detail": "no context"}), "no context"),
        (lambda request: httpx.Response(200, text="<html>"), "not this API"),
        *[(another(body), "not this API") for body in NO_SLATES],
        (lambda request: httpx.Response(401, json={"detail": "no"}), "give it with --api-key-file"),
    ],
)
def test_shoppers_give_up_and_say_why(data: DataSet, answer: Answering, why: str) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        shop(data, answer, 1, patience_s=0.0)
    given_up = caught.value.exceptions[0]
    assert isinstance(given_up, GivenUp)
    assert why in str(given_up)


def test_a_visit_is_one_trace_from_the_rank_to_the_click(data: DataSet) -> None:
    def trace(came_in: Headers, began_ms: int, attributes: Attributes) -> Headers:
        return ((TRACEPARENT, f"trace of {attributes['visit_id']}".encode()),)

    api = Api()
    shop(data, api, 4, trace=trace)
    assert api.traces == {f"run-{n:07d}": {f"trace of run-{n:07d}"} for n in range(4)}


def test_without_a_trace_no_request_names_one(data: DataSet) -> None:
    api = Api()
    shop(data, api, 2)
    assert set().union(*api.traces.values()) == {""}
