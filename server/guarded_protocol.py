"""uvicorn's HTTP/1.1 with what it lacks: a deadline for each request, a limit for its headers."""

import asyncio
from typing import Any, ClassVar, Final

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from server.guard import NO_CONTENT_POLICY, SECURITY_HEADERS
from server.problems import HEADERS, NO_HTTP, SLOW, Trouble

MOST_HEADER_BYTES: Final = 16 * 1024
MOST_CONNECTIONS: Final = 1_000
REQUEST_S: Final = 10.0
"""From a connection, or a request's first byte, to its last one: no slow loris holds a place."""

SILENT_S: Final = 0.5
"""For a connection to bring its first request, once the server leaves."""

_IN_BODY: Final = -(2**62)
_HEADERS: Final = (*SECURITY_HEADERS, NO_CONTENT_POLICY, (b"connection", b"close"))


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
        if self._head_bytes > MOST_HEADER_BYTES:
            self._end_with(_TOO_LARGE)

    def send_400_response(self, msg: str) -> None:
        """What the parser does not understand."""
        self._end_with(Trouble(NO_HTTP, "the request can't be read"))

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
        self._end_with(Trouble(SLOW, f"at most {self.request_s:g} s for all of it"))

    def _end_with(self, trouble: Trouble) -> None:
        """Say so, unless that would be read as part of another answer, and hang up."""
        if self.transport.is_closing():
            return
        cycle = self._answering
        if cycle is None or cycle.response_complete or not cycle.response_started:
            answer = trouble.response()
            headers = [*self.server_state.default_headers, *answer.raw_headers, *_HEADERS]
            lines = b"".join(b"%b: %b\r\n" % header for header in headers)
            self.transport.write(STATUS_LINE[answer.status_code] + lines + b"\r\n" + answer.body)
        self.transport.close()


def protocol_with(request_s: float) -> type[GuardedProtocol]:
    """The protocol with this deadline; uvicorn makes its instances itself."""
    return type("GuardedProtocol", (GuardedProtocol,), {"request_s": request_s})


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    answer = _TOO_LARGE.response()
    answer.raw_headers += _HEADERS
    await answer(scope, receive, send)


_TOO_LARGE: Final = Trouble(HEADERS, f"at most {MOST_HEADER_BYTES} bytes")
