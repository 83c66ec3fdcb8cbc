"""A server on a real socket, and clients that write to it byte by byte."""

import asyncio
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import cast

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from server.api_types import Problem
from server.guard import Gate
from server.guarded_protocol import GuardedProtocol
from server.http import Deadlines, HttpServer

QUICK = Deadlines(request_s=0.3, drain_s=0.2, stop_s=5.0)
PATIENT = Deadlines(request_s=600.0, answer_s=600.0, drain_s=0.0, stop_s=600.0)
UNHURRIED = PATIENT._replace(request_s=3.0)
"""Time for a request on a busy machine, and not too long to wait for its end."""


class App:
    """Answers with the body; `/wait` and `/block` once `go` is set, `/stream` for ever.

    `/flood` and `/large` are more than waits for a client outside the server.
    """

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        self.left = threading.Event()
        self.enough: Callable[[], bool] = lambda: False
        """Asked between the parts of a flood, on the server's own loop: whether it is to end."""
        self.failures: list[Exception] = []
        self.routes = Starlette(
            routes=[
                Route("/echo", self.echo, methods=["POST"]),
                Route("/names", self.names, methods=["POST"]),
                Route("/wait", self.wait),
                Route("/block", self.block),
                Route("/stream", self.stream),
                Route("/flood", self.flood),
                Route("/large", self.large),
            ],
            exception_handlers={Exception: self.failed},
        )

    async def echo(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse(await request.body())

    async def names(self, request: Request) -> PlainTextResponse:
        """The names of the headers, as they are once the body and its trailers have come."""
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

    async def flood(self, request: Request) -> StreamingResponse:
        """As much as the client takes and more, in parts smaller than what makes a writer wait."""

        async def parts() -> AsyncGenerator[bytes]:
            try:
                while not self.enough():
                    yield b"a" * 16_384
                    await asyncio.sleep(0)
            finally:
                self.left.set()

        return StreamingResponse(parts(), headers={"Connection": "close"})

    async def large(self, request: Request) -> PlainTextResponse:
        """One that is written in one go."""
        return PlainTextResponse(b"a" * LARGE)

    async def block(self, request: Request) -> PlainTextResponse:
        """The same on the server's own loop, which accepts nobody meanwhile."""
        return self.wait(request)

    def wait(self, _: Request) -> PlainTextResponse:
        self.entered.set()
        self.go.wait(10.0)
        return PlainTextResponse("done")


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


def connected(server: HttpServer) -> socket.socket:
    """A raw connection. Little waits for the client to read it outside the server."""
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    connection = socket.socket()
    connection.settimeout(10.0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    connection.connect((host, int(port)))
    return connection


def connections(server: HttpServer) -> list[GuardedProtocol]:
    """Those that the server has."""
    return [*cast(set[GuardedProtocol], server._server.server_state.connections)]


def reply_to(server: HttpServer, *parts: bytes) -> bytes:
    """Send the parts; everything that comes back, until the server closes."""
    with connected(server) as connection:
        with suppress(ConnectionError):  # it may have closed already
            for part in parts:
                connection.sendall(part)
        return until_closed(connection)


def half_closed(server: HttpServer, connection: socket.socket) -> None:
    """Send no more, and return once the server has seen that."""
    connection.shutdown(socket.SHUT_WR)
    reply_to(server, b"GET / HTTP/1.0\r\n\r\n")  # its loop goes on to this after that


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
    """The kind of problem that an answer is; its form and headers are checked."""
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


LARGE = 8 * 2**20
HEAD = b"POST /echo HTTP/1.1\r\nhost: a\r\n"
SHORT = HEAD + b"content-length: 2\r\n\r\nhi"
WAIT = b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n"
