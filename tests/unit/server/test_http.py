"""Real sockets: how a server leaves, and where none can listen."""

import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager

import pytest
import uvicorn
from starlette.applications import Starlette

from server.guard import Gate
from server.http import HttpServer, NotServing
from server.listener import BadAddress
from tests.unit.server.raw_http import PATIENT, QUICK, SHORT, WAIT, App, connected, until_closed
from tests.waiting import until


def test_what_was_asked_before_the_server_leaves_is_answered(patient: HttpServer, app: App) -> None:
    with connected(patient) as connection:
        connection.sendall(WAIT)
        assert app.entered.wait(10.0)
        leaving = threading.Thread(target=patient.stop)
        leaving.start()
        app.go.set()
        assert until_closed(connection).endswith(b"done")
        leaving.join(10.0)
    assert not patient.alive


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
                connection.sendall(SHORT)
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
            connection.sendall(SHORT)
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
        meanwhile.append(lambda: connection.sendall(SHORT))
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


def fail(*_: object) -> None:
    raise ZeroDivisionError("nobody thought of it")


@asynccontextmanager
async def failing(_: Starlette) -> AsyncIterator[None]:
    fail()
    yield


@pytest.mark.parametrize("where", ["app", "server"])
def test_a_server_that_does_not_start_says_so(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = Starlette(lifespan=failing if where == "app" else None)
    if where == "server":
        monkeypatch.setattr(uvicorn.Server, "run", fail)
    server = HttpServer("127.0.0.1:0", app, Gate(), QUICK)
    with pytest.raises(NotServing, match="did not start"):
        server.start()
    assert "nobody thought of it" in caplog.text
    server.stop()


def test_a_server_that_has_ended_by_itself_is_noticed(server: HttpServer) -> None:
    server.check()
    server._server.should_exit = True
    until(lambda: not server.alive, "ended", 10.0)
    with pytest.raises(NotServing, match="has ended"):
        server.check()


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
