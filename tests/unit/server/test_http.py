"""Real sockets: who comes slowly, sends too much, or talks nonsense, and how a server leaves."""

import socket
import threading
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from server.guard import Gate
from server.guarded_protocol import MOST_HEADER_BYTES
from server.http import BadAddress, Deadlines, HttpServer

QUICK = Deadlines(request_s=0.3, drain_s=0.2, stop_s=5.0)


class App:
    """Answers with the body; `/wait` only when it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()

    async def echo(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse(await request.body())

    def wait(self, _: Request) -> PlainTextResponse:
        self.entered.set()
        self.go.wait(10.0)
        return PlainTextResponse("done")


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App) -> Iterator[HttpServer]:
    routes = [Route("/echo", app.echo, methods=["POST"]), Route("/wait", app.wait)]
    server = HttpServer("127.0.0.1:0", Starlette(routes=routes), Gate(), QUICK)
    server.start()
    yield server
    app.go.set()
    server.stop()


def connected(server: HttpServer) -> socket.socket:
    """A raw connection."""
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10.0)


def said(server: HttpServer, *parts: bytes) -> bytes:
    """Everything that comes back, until the server closes."""
    with connected(server) as connection:
        for part in parts:
            connection.sendall(part)
        return until_closed(connection)


def until_closed(connection: socket.socket) -> bytes:
    """Read to the end."""
    received = b""
    try:
        while part := connection.recv(65_536):
            received += part
    except ConnectionError:
        pass
    return received


HEAD = b"POST /echo HTTP/1.1\r\nhost: a\r\n"


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
    assert said(server, part).startswith(b"HTTP/1.1 408")


def test_who_comes_slowly_on_a_kept_connection_is_sent_away_too(server: HttpServer) -> None:
    with connected(server) as connection:
        connection.sendall(HEAD + b"content-length: 2\r\n\r\nhi")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"POST /ec")
        until_closed(connection)  # or this test takes until its timeout


def test_headers_that_are_too_large_are_refused(server: HttpServer) -> None:
    large = b"x-large: " + b"a" * MOST_HEADER_BYTES + b"\r\n"
    assert said(server, HEAD + large + b"content-length: 0\r\n\r\n").startswith(b"HTTP/1.1 431")
    assert said(server, HEAD, large).startswith(b"HTTP/1.1 431")
    path = b"GET /" + b"a" * MOST_HEADER_BYTES + b" HTTP/1.1\r\nhost: a\r\n\r\n"
    assert said(server, path).startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"hello\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
def test_nonsense_is_refused_and_the_server_lives(server: HttpServer, nonsense: bytes) -> None:
    assert said(server, nonsense)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 408")
    assert said(server, HEAD + b"content-length: 0\r\nconnection: close\r\n\r\n").startswith(
        b"HTTP/1.1 200"
    )


def test_what_was_asked_before_the_server_leaves_is_answered(server: HttpServer, app: App) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n")
        assert app.entered.wait(10.0)
        leaving = threading.Thread(target=server.stop)
        leaving.start()
        app.go.set()
        assert until_closed(connection).endswith(b"done")
        leaving.join(10.0)
    assert not server.alive


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("nonsense", "HOST:PORT"),
        ("127.0.0.1:", "HOST:PORT"),
        ("127.0.0.1:70000", "HOST:PORT"),
        ("192.0.2.1:0", "can't listen"),
    ],
)
def test_an_address_where_nothing_can_listen_is_refused(address: str, why: str) -> None:
    with pytest.raises(BadAddress, match=why):
        HttpServer(address, Starlette(), Gate(), QUICK)
