"""Real sockets: who comes slowly, sends too much, or talks nonsense, and how a server leaves."""

import asyncio
import socket
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from server.api_types import Problem
from server.guard import MOST_BODY_BYTES, Gate
from server.guarded_protocol import MOST_HEADER_BYTES, MOST_WAITING, MOST_WIRE_BYTES
from server.http import Deadlines, HttpServer
from server.listener import BadAddress

QUICK = Deadlines(request_s=0.3, drain_s=0.2, stop_s=5.0)
PATIENT = Deadlines(request_s=600.0, drain_s=0.0, stop_s=600.0)


class App:
    """Answers with the body; `/wait` and `/block` only when they are let go, `/stream` for ever."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        self.left = threading.Event()
        self.failures: list[Exception] = []
        self.routes = Starlette(
            routes=[
                Route("/echo", self.echo, methods=["POST"]),
                Route("/names", self.names, methods=["POST"]),
                Route("/wait", self.wait),
                Route("/block", self.block),
                Route("/stream", self.stream),
            ],
            exception_handlers={Exception: self.failed},
        )

    async def echo(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse(await request.body())

    async def names(self, request: Request) -> PlainTextResponse:
        """Of the headers, once all has come."""
        await request.body()
        return PlainTextResponse(" ".join(request.headers))

    async def failed(self, _: Request, error: Exception) -> PlainTextResponse:
        self.failures.append(error)
        return PlainTextResponse("failed", 500)

    async def stream(self, request: Request) -> StreamingResponse:
        """One event, then silence until the client leaves, or more and more if it wants that."""

        async def events() -> AsyncGenerator[bytes]:
            try:
                yield b"first"
                while request.query_params:
                    yield b"more"
                    await asyncio.sleep(0)
                await asyncio.Event().wait()
            finally:
                self.left.set()

        return StreamingResponse(events(), headers={"Connection": "close"})

    async def block(self, request: Request) -> PlainTextResponse:
        """Holds up the server's loop."""
        return self.wait(request)

    def wait(self, _: Request) -> PlainTextResponse:
        self.entered.set()
        self.go.wait(10.0)
        return PlainTextResponse("done")


@pytest.fixture
def app() -> App:
    return App()


@contextmanager
def serving(app: App, deadlines: Deadlines) -> Iterator[HttpServer]:
    """A server of the app; at the end nothing waits any more."""
    server = HttpServer("127.0.0.1:0", app.routes, Gate(), deadlines)
    server.start()
    try:
        yield server
    finally:
        app.go.set()
        server.stop()


@pytest.fixture
def server(app: App) -> Iterator[HttpServer]:
    with serving(app, QUICK) as server:
        yield server


@pytest.fixture
def patient(app: App) -> Iterator[HttpServer]:
    """No deadline ends what should end for another reason."""
    with serving(app, PATIENT) as server:
        yield server


def connected(server: HttpServer) -> socket.socket:
    """A raw connection."""
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10.0)


def said(server: HttpServer, *parts: bytes) -> bytes:
    """Everything that comes back, until the server closes."""
    with connected(server) as connection:
        with suppress(ConnectionError):  # it may have closed already
            for part in parts:
                connection.sendall(part)
        return until_closed(connection)


def half_closed(server: HttpServer, connection: socket.socket) -> None:
    """Send no more; the server has seen that."""
    connection.shutdown(socket.SHUT_WR)
    said(server, b"GET / HTTP/1.0\r\n\r\n")  # its loop goes on to this after that


def until_closed(connection: socket.socket) -> bytes:
    """Read to the end."""
    received = b""
    try:
        while part := connection.recv(65_536):
            received += part
    except ConnectionError:
        pass
    return received


def problem(answer: bytes) -> str:
    """The kind of an answer that is a problem, checked for its form and its headers."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    assert len(headers) == len(lines)
    assert headers["content-type"] == "application/problem+json"
    assert headers["content-length"] == str(len(body))
    assert headers["connection"] == "close"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    found = msgspec.json.decode(body, type=Problem)
    assert status.split()[1] == str(found.status)
    return found.type.removeprefix("/docs#")


HEAD = b"POST /echo HTTP/1.1\r\nhost: a\r\n"
WAIT = b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n"


def test_a_request_in_time_is_answered_and_the_connection_kept(server: HttpServer) -> None:
    with connected(server) as connection:
        for _ in range(3):
            connection.sendall(HEAD + b"content-length: 2\r\n\r\nhi")
            answer = connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.endswith(b"hi")


@pytest.mark.parametrize(
    "part",
    [
        b"",
        b"POST /echo HT",
        HEAD,
        HEAD + b"x-endless: a",
        HEAD + b"content-length: 10\r\n\r\nhalf",
        HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
def test_who_comes_slowly_is_sent_away(server: HttpServer, part: bytes) -> None:
    assert problem(said(server, part)) == "slow"


def test_who_comes_slowly_on_a_kept_connection_is_sent_away_too(server: HttpServer) -> None:
    with connected(server) as connection:
        connection.sendall(HEAD + b"content-length: 2\r\n\r\nhi")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"POST /ec")
        assert problem(until_closed(connection)) == "slow"


def test_who_was_answered_before_the_whole_body_came_is_answered_once(server: HttpServer) -> None:
    answer = said(server, b"POST /nowhere HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf")
    assert answer.startswith(b"HTTP/1.1 404")
    assert answer.count(b"HTTP/1.1") == 1


def test_headers_that_are_too_large_are_refused(server: HttpServer) -> None:
    large = b"x-large: " + b"a" * MOST_HEADER_BYTES + b"\r\n"
    path = b"GET /" + b"a" * MOST_HEADER_BYTES + b" HTTP/1.1\r\nhost: a\r\n\r\n"
    many = b"a: b\r\n" * (MOST_HEADER_BYTES // 6)
    end = b"content-length: 0\r\n\r\n"
    for parts in ([HEAD + large + end], [HEAD, large], [path], [HEAD + many + end], [HEAD, many]):
        assert problem(said(server, *parts)) == "headers-too-large"


CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"2\r\nhi\r\n0\r\n"
TOO_MANY = b"x-t: aaaa\r\n" * (MOST_HEADER_BYTES // 8)


@pytest.mark.parametrize(
    "parts",
    [
        [LAST_CHUNK + TOO_MANY + b"\r\n"],
        [LAST_CHUNK + TOO_MANY],
        [LAST_CHUNK, *[b"x-t: " + b"a" * 1_000 + b"\r\n"] * 20],
    ],
    ids=["whole", "without an end", "one by one"],
)
def test_trailers_that_are_too_large_are_refused_before_their_end(
    patient: HttpServer, parts: list[bytes]
) -> None:
    assert problem(said(patient, HEAD + CHUNKED, *parts)) == "headers-too-large"


@pytest.mark.parametrize(
    "endless",
    [LAST_CHUNK + b"x-t: ", b"1;", b"1\r\na\r\n1;", b"1;b=" + b"c" * 200 + b"\r\na\r\n"],
    ids=["a trailer", "a first chunk's extension", "a next one's", "many chunks' extensions"],
)
def test_what_stands_around_chunks_is_bounded(patient: HttpServer, endless: bytes) -> None:
    more = endless if endless.endswith(b"\n") else b"a" * 1_000
    parts = [endless, *[more] * (2 * MOST_WIRE_BYTES // len(more) + 1_000)]
    assert problem(said(patient, HEAD + CHUNKED, *parts)) == "too-large"


def test_a_body_of_the_smallest_chunks_is_taken(patient: HttpServer) -> None:
    body = b"1\r\na\r\n" * MOST_BODY_BYTES + b"0\r\nx-t: a\r\n\r\n"
    with connected(patient) as connection:
        connection.sendall(HEAD + b"connection: close\r\n" + CHUNKED + body)
        assert until_closed(connection).endswith(b"a" * MOST_BODY_BYTES)


def test_a_trailer_is_taken_for_no_header(server: HttpServer) -> None:
    head = b"POST /names HTTP/1.1\r\nhost: a\r\nconnection: close\r\n" + CHUNKED
    answer = said(server, head + LAST_CHUNK + b"authorization: Bearer k\r\n\r\n")
    assert answer.endswith(b"host connection transfer-encoding")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"GET / HTTP/9.1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
def test_what_is_not_http_is_refused_and_the_server_lives(
    server: HttpServer, nonsense: bytes
) -> None:
    assert problem(said(server, nonsense)) in ("not-http", "slow")
    assert said(server, HEAD + b"content-length: 0\r\nconnection: close\r\n\r\n").startswith(
        b"HTTP/1.1 200"
    )


@pytest.mark.parametrize(
    "begin", [b"FOO /echo HTTP/1.1\r\n", b"DESCRIBE / HTTP/1.1\r\n", b"hello\r\n", b"\x16\x03\x01"]
)
def test_a_method_that_nobody_knows_is_called_that(server: HttpServer, begin: bytes) -> None:
    assert problem(said(server, begin + b"host: a\r\n\r\n")) == "unknown-method"


@pytest.mark.parametrize("wanted", [b"GET /stream", b"HEAD /stream", b"GET /stream?more=1"])
@pytest.mark.parametrize("at_once", [True, False])
def test_who_hangs_up_is_noticed_whatever_was_sent_behind_and_is_no_failure(
    server: HttpServer, app: App, wanted: bytes, at_once: bool
) -> None:
    request = wanted + b" HTTP/1.1\r\nhost: a\r\n\r\n"
    with connected(server) as connection:
        connection.sendall(request + WAIT if at_once else request)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        if not at_once:
            connection.sendall(WAIT)
    assert app.left.wait(10.0)
    server.stop()
    assert app.failures == []


@pytest.mark.parametrize("asked", [1, 2])
def test_who_has_asked_and_sends_no_more_is_answered(
    patient: HttpServer, app: App, asked: int
) -> None:
    with connected(patient) as connection:
        connection.sendall(WAIT * asked)
        assert app.entered.wait(10.0)
        half_closed(patient, connection)
        app.go.set()
        assert until_closed(connection).count(b"HTTP/1.1 200") == asked


@pytest.mark.parametrize(
    "part", [b"", HEAD, HEAD + b"content-length: 9\r\n\r\nhalf", HEAD + CHUNKED]
)
def test_who_sends_no_more_before_all_was_asked_is_hung_up_on(
    patient: HttpServer, part: bytes
) -> None:
    with connected(patient) as connection:
        connection.sendall(part)
        half_closed(patient, connection)
        assert until_closed(connection) == b""


def test_who_sends_no_more_gets_no_stream_without_an_end(app: App) -> None:
    deadlines = PATIENT._replace(request_s=3.0)
    with serving(app, deadlines) as server, connected(server) as connection:
        connection.sendall(WAIT + b"GET /stream HTTP/1.1\r\nhost: a\r\n\r\n")
        assert app.entered.wait(10.0)
        half_closed(server, connection)
        app.go.set()
        assert b"first" in until_closed(connection)
        assert app.left.wait(10.0)


def test_requests_that_wait_behind_another_are_answered(server: HttpServer, app: App) -> None:
    with connected(server) as connection:
        connection.sendall(WAIT)
        assert app.entered.wait(10.0)
        behind = [WAIT] * (MOST_WAITING - 1) + [b"GET /wait HTTP/1.0\r\n\r\n"]
        connection.sendall(b"".join(behind))
        app.go.set()
        assert until_closed(connection).count(b"HTTP/1.1 200") == 1 + MOST_WAITING


def test_not_any_number_of_requests_waits_behind_another(server: HttpServer, app: App) -> None:
    with connected(server) as connection:
        connection.sendall(WAIT)
        assert app.entered.wait(10.0)
        connection.sendall(WAIT * (10 * MOST_WAITING))
        assert problem(until_closed(connection)) == "overloaded"


def test_what_was_asked_before_the_server_leaves_is_answered(server: HttpServer, app: App) -> None:
    with connected(server) as connection:
        connection.sendall(WAIT)
        assert app.entered.wait(10.0)
        leaving = threading.Thread(target=server.stop)
        leaving.start()
        app.go.set()
        assert until_closed(connection).endswith(b"done")
        leaving.join(10.0)
    assert not server.alive


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What is to happen once nothing is accepted any more, just before the listener closes.

    The server's own loop does it, so that nothing of it can be accepted in between.
    """
    steps: list[Callable[[], None]] = []
    shutdown = uvicorn.Server.shutdown

    async def after_the_steps(self: uvicorn.Server, sockets: list[socket.socket] | None) -> None:
        for step in steps:
            step()
        await shutdown(self, sockets)

    monkeypatch.setattr(uvicorn.Server, "shutdown", after_the_steps)
    return steps


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can refuse a connection like this")
def test_who_comes_as_the_server_closes_is_not_let_in_and_then_dropped(
    server: HttpServer, meanwhile: list[Callable[[], None]]
) -> None:
    met: list[bytes] = []

    def come() -> None:
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=0.3) as connection:
                connection.sendall(HEAD + b"content-length: 2\r\n\r\nhi")
                met.append(b"was let in")
        except OSError:
            met.append(b"can go elsewhere")  # has sent nothing yet

    meanwhile.append(come)
    server.stop()
    assert met == [b"can go elsewhere"]


def test_who_waits_to_be_accepted_when_the_server_leaves_is_answered(app: App) -> None:
    server = HttpServer("127.0.0.1:0", app.routes, Gate(), PATIENT)
    server.start()
    with connected(server) as first, ExitStack() as stack:
        first.sendall(b"GET /block HTTP/1.1\r\nhost: a\r\n\r\n")
        assert app.entered.wait(10.0)  # from now on nothing is accepted
        waiting = [stack.enter_context(connected(server)) for _ in range(20)]
        for connection in waiting:
            connection.sendall(HEAD + b"content-length: 2\r\n\r\nhi")
        leaving = threading.Thread(target=server.stop)
        leaving.start()
        app.go.set()
        for connection in waiting:
            assert until_closed(connection).endswith(b"hi")
        leaving.join(10.0)
    assert not server.alive


def test_who_has_connected_when_the_server_leaves_may_still_ask(
    app: App, meanwhile: list[Callable[[], None]]
) -> None:
    server = HttpServer("127.0.0.1:0", app.routes, Gate(), PATIENT)
    server.start()
    with connected(server) as connection:
        meanwhile.append(lambda: connection.sendall(HEAD + b"content-length: 2\r\n\r\nhi"))
        server.stop()
        assert until_closed(connection).endswith(b"hi")


def test_who_has_connected_and_never_asks_does_not_hold_the_server_up() -> None:
    server = HttpServer("127.0.0.1:0", Starlette(), Gate(), PATIENT)
    server.start()
    with connected(server) as connection:
        server.stop()
        assert until_closed(connection) == b""
    assert not server.alive


def test_a_server_that_never_served_can_be_stopped_and_leaves_its_port() -> None:
    server = HttpServer("127.0.0.1:0", Starlette(), Gate(), PATIENT)
    server.stop()
    address = server.url.removeprefix("http://")
    HttpServer(address, Starlette(), Gate(), QUICK).stop()


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("nonsense", "HOST:PORT"),
        ("127.0.0.1:", "HOST:PORT"),
        ("127.0.0.1:70000", "HOST:PORT"),
        ("http://127.0.0.1:8000", "HOST:PORT"),
        ("192.0.2.1:0", "can't listen"),
        ("a..b:0", "HOST:PORT"),
    ],
)
def test_an_address_where_nothing_can_listen_is_refused(address: str, why: str) -> None:
    with pytest.raises(BadAddress, match=why):
        HttpServer(address, Starlette(), Gate(), QUICK)
