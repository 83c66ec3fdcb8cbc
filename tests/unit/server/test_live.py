import asyncio
import base64
import hashlib
import re
import socket
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterator,
    Sequence,
)
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any

import httpx
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message

from server.guard import MOST_BODY_BYTES, Gate, Guard, Limits
from server.http import Deadlines, HttpServer
from server.live import MOST_CLIENTS, QUEUED, Hub, live_routes, policy_of
from server.operations import LIVE
from shared.events import Context
from shared.metrics import HttpMetrics
from shared.testing import FakeClock
from tests.live_scenario import Feeding
from tests.waiting import until


def asked(
    feeding: Feeding, ask: Callable[[httpx.AsyncClient], Coroutine[Any, Any, httpx.Response]]
) -> httpx.Response:
    """What the routes answer, behind the guard as ever."""
    routes = Starlette(routes=list(live_routes(feeding.feed, lambda: feeding.view.ready)))
    guarded = Guard(routes, Gate(), Limits(), (), HttpMetrics(), FakeClock())

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(guarded)
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
            return await ask(client)

    return asyncio.run(run())


def explained(feeding: Feeding, body: bytes, media: str = "application/json") -> httpx.Response:
    """What a question is answered."""
    headers = {"content-type": media}
    return asked(feeding, lambda client: client.post("/v1/explain", content=body, headers=headers))


def question(context: Context, **more: object) -> bytes:
    return msgspec.json.encode({"context": context, **more})


def test_the_page_may_run_its_own_script_and_style_and_nothing_else(feeding: Feeding) -> None:
    answer = asked(feeding, lambda client: client.get("/"))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        [text] = re.findall(f"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize("path", ["/", "/v1/live"])
def test_no_header_comes_twice(feeding: Feeding, path: str) -> None:
    answer = asked(feeding, lambda client: client.head(path))
    names = [name.lower() for name, _ in answer.headers.raw]
    assert sorted(names) == sorted(set(names))
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_needs_nothing_from_elsewhere_and_writes_no_markup(feeding: Feeding) -> None:
    page = asked(feeding, lambda client: client.get("/")).text
    assert re.findall(r"(?:src|href)=\"(?!data:,)", page) == []
    assert "@import" not in page
    assert set(re.findall(r"https?://[^\"' )]+", page)) == {"http://www.w3.org/2000/svg"}
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert sink not in page


def test_all_that_the_page_asks_is_described(feeding: Feeding) -> None:
    routes = live_routes(feeding.feed, lambda: feeding.view.ready)
    served = {(route.path, method) for route in routes for method in route.methods or ()}
    assert {(each.path, each.method) for each in LIVE} == {
        (path, method) for path, method in served if method != "HEAD"
    }


def test_a_page_with_two_scripts_has_no_policy() -> None:
    with pytest.raises(ValueError, match="unpack"):
        policy_of("<style></style><script>1</script><script>2</script>")


def test_a_question_is_answered_with_the_slate_and_why(feeding: Feeding, context: Context) -> None:
    feeding.view.learn(30)
    body = question(context, k=3)
    answer = explained(feeding, body)
    assert answer.status_code == 200
    found = answer.json()
    assert len(found["slate"]) == 3
    first = found["slate"][0]
    assert first["name"] == feeding.data.products[0].name
    assert first["score"] == pytest.approx(first["mean"] + first["bonus"])
    total = sum(part["contribution"] for part in first["contributions"])
    assert total == pytest.approx(first["mean"])
    assert found["policy"] == "linucb"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"{} x", 400),
        (b"[]", 422),
        (b'{"context": {}}', 422),
        (b" " * (MOST_BODY_BYTES + 1), 413),
    ],
)
def test_what_is_no_question_is_refused(feeding: Feeding, body: bytes, status: int) -> None:
    answer = explained(feeding, body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


@pytest.mark.parametrize("k", [0, 51, "five"])
def test_a_slate_has_one_to_fifty_products(feeding: Feeding, context: Context, k: object) -> None:
    assert explained(feeding, question(context, k=k)).status_code == 422


BEYOND = [
    ("age", 99_999_999_999_999_999_999),
    ("age", -1),
    ("latitude", -1e300),
    ("occurred_at", "2026-01-26T07:29:00Z"),
    ("gender", "F" * 33),
]


@pytest.mark.parametrize(("field", "value"), BEYOND)
def test_a_question_is_checked_as_a_request_for_a_slate_is(
    feeding: Feeding, context: Context, field: str, value: object
) -> None:
    changed = {**msgspec.to_builtins(context), field: value}
    answer = explained(feeding, msgspec.json.encode({"context": changed}))
    assert answer.status_code == 422
    assert f"$.context.{field}" in answer.json()["detail"]
    path = f"/v1/learning/{feeding.data.arms[0]}"
    learned = asked(feeding, lambda client: client.get(path, params=changed))
    assert learned.status_code == 422


def test_a_question_with_more_than_is_known_is_refused(feeding: Feeding, context: Context) -> None:
    assert explained(feeding, question(context, K=5)).status_code == 422


def test_a_question_has_to_be_announced_as_json(feeding: Feeding, context: Context) -> None:
    answer = explained(feeding, question(context), "text/plain")
    assert answer.status_code == 415


def test_the_learning_of_a_product_is_asked_for_a_context(
    feeding: Feeding, context: Context
) -> None:
    query = {name: str(value) for name, value in msgspec.to_builtins(context).items()}
    path = f"/v1/learning/{feeding.data.arms[0]}"
    answer = asked(feeding, lambda client: client.get(path, params=query))
    assert answer.status_code == 200
    assert [point["n"] for point in answer.json()] == [0, 0]
    missing = asked(feeding, lambda client: client.get("/v1/learning/999999", params=query))
    assert missing.status_code == 404
    unclear = asked(feeding, lambda client: client.get(path, params={**query, "age": "old"}))
    assert unclear.status_code == 422
    huge = f"/v1/learning/{'9' * 5_000}"
    no_number = asked(feeding, lambda client: client.get(huge, params=query))
    assert no_number.status_code == 422
    assert no_number.json()["detail"] == "Integer value out of range"
    infinite = asked(feeding, lambda client: client.get(path, params={**query, "latitude": "nan"}))
    assert infinite.status_code == 422


def test_no_question_is_answered_by_a_part_of_the_model(feeding: Feeding, context: Context) -> None:
    query = {name: str(value) for name, value in msgspec.to_builtins(context).items()}
    path = f"/v1/learning/{feeding.data.arms[0]}"

    def answers() -> list[httpx.Response]:
        learned = asked(feeding, lambda client: client.get(path, params=query))
        return [explained(feeding, question(context)), learned]

    feeding.view.ready = False
    for answer in answers():
        assert (answer.status_code, answer.json()["type"]) == (503, "/docs#not-ready")
        assert answer.headers["retry-after"] == "1"
    feeding.view.ready = True
    assert [answer.status_code for answer in answers()] == [200, 200]


def test_who_asks_for_the_head_of_the_stream_gets_it_at_once(feeding: Feeding) -> None:
    answer = asked(feeding, lambda client: client.head("/v1/live"))
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "content-length" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_clients_that_hang_up_leave_their_places_to_others(feeding: Feeding, method: str) -> None:
    routes = list(live_routes(feeding.feed, lambda: feeding.view.ready))
    server = HttpServer("127.0.0.1:0", Starlette(routes=routes), Gate(), Deadlines(drain_s=0.0))
    server.start()
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    for _ in range(MOST_CLIENTS):
        with socket.create_connection((host, int(port)), timeout=10.0) as connection:
            for request in (f"{method} /v1/live", "GET /"):
                connection.sendall(f"{request} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
            connection.recv(1)

    def admitted() -> bool:
        with httpx.stream("GET", f"{server.url}/v1/live") as answer:
            return answer.status_code == httpx.codes.OK

    until(admitted, "admitted")
    server.stop()


def data_of(event: bytes) -> dict[str, Any]:
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert b"\n" not in event[:-2]
    decoded: dict[str, Any] = msgspec.json.decode(event[6:-2])
    return decoded


def test_a_client_is_told_everything_and_then_what_is_new(feeding: Feeding) -> None:
    async def run() -> None:
        with a_place(Hub(feeding.feed, lambda: False, every_s=0.0)) as stream:
            assert "setting" in data_of(await anext(stream))
            feeding.visit(1)
            async with asyncio.timeout(60.0):
                while not (message := data_of(await anext(stream))).get("visits"):
                    assert "setting" not in message
            assert [visit["number"] for visit in message["visits"]] == [1]

    asyncio.run(run())


def test_a_client_hears_something_even_while_nothing_happens(feeding: Feeding) -> None:
    async def run() -> None:
        with a_place(Hub(feeding.feed, lambda: False, every_s=0.0, word_s=0.0)) as stream:
            news = [data_of(await anext(stream)) for _ in range(2)]
            assert all("tendencies" in message for message in news)
            async with asyncio.timeout(10.0):
                word = await anext(stream)
            assert data_of(word)["rates"]["visits"] == 0
            assert len(word) < 300

    asyncio.run(run())


def test_a_client_that_does_not_read_is_let_go(feeding: Feeding) -> None:
    async def run() -> None:
        hub = Hub(feeding.feed, lambda: False, every_s=0.0)
        with a_place(hub) as slow, a_place(hub) as quick:
            await anext(slow)
            await anext(quick)
            for number in range(QUEUED + 2):
                feeding.visit(number)
                await anext(quick)  # keeps up, so it stays
            assert [event async for event in slow] == []
            feeding.visit(-1)
            assert await anext(quick)

    asyncio.run(run())


def test_a_stream_that_has_no_more_to_show_ends_and_the_next_is_begun_anew(
    feeding: Feeding, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        hub = Hub(feeding.feed, lambda: False, every_s=0.0)
        with monkeypatch.context() as broken, a_place(hub) as stream:
            broken.setattr(feeding.feed, "next", None)
            async with asyncio.timeout(10.0):
                assert len([event async for event in stream]) == 1
        feeding.visit(1)
        with a_place(hub) as stream:
            await anext(stream)
            assert await anext(stream)

    asyncio.run(run())
    assert "no more to show" in caplog.text


def test_streams_end_when_the_process_stops(feeding: Feeding) -> None:
    async def run() -> None:
        stopping = asyncio.Event()
        with a_place(Hub(feeding.feed, stopping.is_set, every_s=0.0)) as stream:
            await anext(stream)
            stopping.set()
            assert [event async for event in stream if b"setting" in event] == []

    asyncio.run(run())


def test_a_client_that_is_let_go_keeps_its_place_until_it_is_gone(feeding: Feeding) -> None:
    async def run() -> None:
        hub = Hub(feeding.feed, lambda: False, every_s=0.0)
        with ExitStack() as stack:
            streams = [stack.enter_context(a_place(hub)) for _ in range(MOST_CLIENTS)]
            for number in range(QUEUED + 2):  # nobody reads them
                feeding.visit(number)
                await asyncio.sleep(0.0)
            assert len([event async for event in streams[0]]) == 1
            assert hub.full
        assert not hub.full

    asyncio.run(run())


@contextmanager
def a_place(hub: Hub) -> Iterator[AsyncGenerator[bytes]]:
    with hub.place() as stream:
        assert stream is not None
        yield stream


class Client:
    """Asks a page's server for the stream; `status` is what it is answered, once it is."""

    def __init__(self) -> None:
        self.status = 0
        self.left = asyncio.Event()
        """Set when it hangs up."""
        self.deaf = False
        """Whether it is gone when the answer begins."""

    async def ask(self, app: ASGIApp) -> None:
        scope = {"type": "http", "method": "GET", "path": "/v1/live", "headers": []}
        await app(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self.deaf:
            raise ConnectionResetError
        self.status = message.get("status", self.status)


@asynccontextmanager
async def asking(app: ASGIApp, clients: Sequence[Client]) -> AsyncIterator[None]:
    """All of them at once; they have an answer, and hang up at the end of the block."""
    tasks = [asyncio.create_task(client.ask(app)) for client in clients]
    async with asyncio.timeout(10.0):
        while not all(client.status for client in clients):
            await asyncio.sleep(0.0)
        yield
        for client in clients:
            client.left.set()
        await asyncio.gather(*tasks)


def test_there_is_a_cap_on_clients_that_come_at_the_same_moment(feeding: Feeding) -> None:
    async def run() -> None:
        app = Starlette(routes=list(live_routes(feeding.feed, lambda: True)))
        for _ in range(2):
            clients = [Client() for _ in range(MOST_CLIENTS + 20)]
            async with asking(app, clients):
                assert sorted(each.status for each in clients) == [200] * MOST_CLIENTS + [503] * 20

    asyncio.run(run())


def test_a_client_that_is_gone_before_the_first_word_leaves_its_place(feeding: Feeding) -> None:
    async def run() -> None:
        app = Starlette(routes=list(live_routes(feeding.feed, lambda: True)))
        for number in range(2 * MOST_CLIENTS):
            gone = Client()
            gone.deaf = number % 2 == 0
            gone.left.set()
            with suppress(ConnectionResetError):
                await gone.ask(app)
        clients = [Client() for _ in range(MOST_CLIENTS)]
        async with asking(app, clients):
            assert {each.status for each in clients} == {200}

    asyncio.run(run())


def test_a_client_that_meets_a_fault_leaves_its_place(
    feeding: Feeding, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> bytes:
        raise ZeroDivisionError("nobody thought of it")

    async def run() -> None:
        app = Starlette(routes=list(live_routes(feeding.feed, lambda: True)))
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(feeding.feed, "first", fail)
            for _ in range(MOST_CLIENTS):
                with pytest.raises(ZeroDivisionError):
                    await Client().ask(app)
        clients = [Client() for _ in range(MOST_CLIENTS)]
        async with asking(app, clients):
            assert {each.status for each in clients} == {200}

    asyncio.run(run())


def test_open_pages_are_no_requests_that_others_have_to_wait_for(feeding: Feeding) -> None:
    async def run() -> None:
        routes, gate = Starlette(routes=list(live_routes(feeding.feed, lambda: True))), Gate()
        metrics = HttpMetrics()
        app = Guard(routes, gate, Limits(in_flight=1), (), metrics, FakeClock())
        async with AsyncExitStack() as stack:
            for _ in range(5):
                await stack.enter_async_context(asking(app, [Client()]))
            assert gate.in_flight == 0
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
                assert (await client.get("/")).status_code == 200
        assert gate.in_flight == 0
        labels = {"route": "/v1/live", "method": "GET", "status": "200"}
        assert metrics.registry.get_sample_value("reco_http_requests_total", labels) == 5

    asyncio.run(run())
