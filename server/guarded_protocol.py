"""uvicorn's HTTP/1.1 with what it lacks: a deadline for each request, a limit for its headers."""

import asyncio
from typing import Any, ClassVar, Final

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from server.problems import HEADERS, Trouble

MOST_HEADER_BYTES: Final = 16 * 1024
MOST_CONNECTIONS: Final = 1_000
REQUEST_S: Final = 10.0
"""From a connection, or a request's first byte, to its last one: no slow loris holds a place."""

SILENT_S: Final = 0.5
"""For a connection to bring its first request, once the server leaves."""

_IN_BODY: Final = -(2**62)
_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    request_s: ClassVar[float] = REQUEST_S
    _deadline: asyncio.TimerHandle | None = None
    _silent: asyncio.TimerHandle | None = None
    _head_bytes = 0
    """Received of headers that are not complete."""
    _answering: RequestResponseCycle | None = None
    """The request that is being answered; `cycle` is the last that came, which may wait for it."""

    def connection_made(self, transport: Any) -> None:
        """Start the clock: whoever connects has something to say."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop it, and tell whoever answers a request, even if further ones came behind it."""
        self._disarm()
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server leaves. Whoever has connected and is yet to ask gets a moment for it."""
        if self.cycle or self._silent:
            super().shutdown()
        else:
            self._silent = self.loop.call_later(SILENT_S, super().shutdown)

    def data_received(self, data: bytes) -> None:
        """Count what the parser has to hold."""
        if self._last_answer_begun():
            return  # requests that wait stop the reading, and then nobody sees the client hang up
        if self._deadline is None:  # a next request on a connection that was kept
            self._arm()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MOST_HEADER_BYTES and not self.transport.is_closing():
            body = _refusal().body()
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n"
                b"content-type: application/problem+json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Headers that came at once may be too large as well."""
        self._head_bytes = _IN_BODY  # the guard counts the body
        size = sum(len(name) + len(value) for name, value in self.headers) + len(self.url)
        if size <= MOST_HEADER_BYTES:
            super().on_headers_complete()
            return
        app, self.app = self.app, _refuse
        try:
            super().on_headers_complete()
        finally:
            self.app = app

    def on_message_complete(self) -> None:
        """All has come in time."""
        self._disarm()
        self._head_bytes = 0
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _last_answer_begun(self) -> bool:
        """Whether an answer is on its way after which the connection is closed."""
        cycle = self._answering
        if cycle is None or cycle.more_body:
            return False
        return cycle.response_started and not cycle.keep_alive

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self.request_s, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            if self.cycle is None or not self.cycle.response_started:
                self.transport.write(_TOO_SLOW)
            self.transport.close()


def protocol_with(request_s: float) -> type[GuardedProtocol]:
    """The protocol with this deadline; uvicorn makes its instances itself."""
    return type("GuardedProtocol", (GuardedProtocol,), {"request_s": request_s})


def _refusal() -> Trouble:
    return Trouble(HEADERS, f"at most {MOST_HEADER_BYTES} bytes")


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await _refusal().response({"Connection": "close"})(scope, receive, send)
