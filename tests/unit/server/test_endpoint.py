"""Real sockets: an endpoint learns that its client has closed the connection."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Scope

from server.endpoint import JsonEndpoint, hung_up
from server.guard import Gate
from server.http import HttpServer
from tests.unit.server.raw_http import PATIENT, connected, until_closed

ASK = (
    b"POST /ask HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    b"content-length: 2\r\n\r\n{}"
)


def close(connection: socket.socket) -> None:
    connection.close()


def send_no_more(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Waiting:
    """Answers once its client has hung up, or is let."""

    def __init__(self) -> None:
        self.entered, self.noticed, self.go = (threading.Event() for _ in range(3))
        endpoint = JsonEndpoint(lambda body: body, self.handle)
        app = Starlette(routes=[Route("/ask", endpoint)])
        self.server = HttpServer("127.0.0.1:0", app, Gate(), PATIENT)

    async def handle(self, body: bytes, scope: Scope) -> bytes:
        gone = hung_up(scope)
        self.entered.set()
        while not gone() and not self.go.is_set():
            await asyncio.sleep(0.001)
        if gone():
            self.noticed.set()
        return body


@pytest.mark.parametrize("leave", [close, send_no_more, reset])
def test_who_closes_the_connection_is_known_to_have_hung_up(
    leave: Callable[[socket.socket], None],
) -> None:
    waiting = Waiting()
    waiting.server.start()
    with connected(waiting.server) as connection:
        connection.sendall(ASK)
        assert waiting.entered.wait(10.0)
        leave(connection)
        assert waiting.noticed.wait(10.0)
    waiting.server.stop()


def test_who_waits_for_the_answer_is_not_taken_for_one_that_left() -> None:
    waiting = Waiting()
    waiting.server.start()
    with connected(waiting.server) as connection:
        connection.sendall(ASK)
        assert waiting.entered.wait(10.0)
        waiting.go.set()
        waiting.server.stop()
        assert until_closed(connection).endswith(b"{}")
    assert not waiting.noticed.is_set()
