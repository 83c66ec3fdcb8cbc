"""uvicorn's HTTP/1.1 with what it lacks: deadlines for request and answer, a limit for headers."""

import asyncio
import sys
from collections.abc import Sequence
from itertools import chain
from typing import Any, ClassVar, Final, NamedTuple

from httptools import HttpParserUpgrade, HttpRequestParser
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from server.endpoint import HUNG_UP
from server.guard import (
    CONNECTIONS,
    MOST_BODY_BYTES,
    NO_CONTENT_POLICY,
    SECURITY_HEADERS,
    UNREAD,
    Gate,
)
from server.problems import (
    HEADERS,
    NO_HTTP,
    NO_METHOD,
    OVERLOADED,
    RETRY_AFTER_S,
    SLOW,
    TOO_LARGE,
    Trouble,
)

MOST_HEADER_BYTES: Final = 16 * 1024
"""Of a head; and of the trailers behind a chunked body."""

MOST_WIRE_BYTES: Final = 6 * MOST_BODY_BYTES + MOST_HEADER_BYTES
"""Of all behind a head: each byte of a body may be a chunk of its own, and trailers may follow."""

MOST_CONNECTIONS: Final = 1_000
MOST_WAITING: Final = 16
"""Requests behind the one that is being answered, on one connection."""

REQUEST_S: Final = 10.0
"""From a connection, or a request's first byte, to its last one: no slow loris holds a place."""

ANSWER_S: Final = 10.0
"""How long more of an answer may wait for its client than a handler should add to; and, up to twice
as long, anything at all once the connection was closed. Who does not read holds no place either."""

SILENT_S: Final = 0.5
"""How long a connection may take to send its first request once the server is stopping."""

_HEADERS: Final = (*SECURITY_HEADERS, NO_CONTENT_POLICY, (b"connection", b"close"))
_REQUEST_LINE: Final = len(b"GET  HTTP/1.1\r\n\r\n")
"""Bytes of a request line beside the address, and of the empty line that ends the headers."""
_OFFER: Final = b"upgrade"
_PASSED_OVER: Final = b"offered"


class _Part(NamedTuple):
    """A part of a request, head or body: at most so many bytes, and the answer to more."""

    most: int
    trouble: Trouble


_TOO_LARGE: Final = Trouble(HEADERS, f"at most {MOST_HEADER_BYTES} bytes")
_HEAD: Final = _Part(MOST_HEADER_BYTES, _TOO_LARGE)
_BODY: Final = _Part(
    MOST_WIRE_BYTES, Trouble(TOO_LARGE, f"at most {MOST_WIRE_BYTES} bytes, chunks' own included")
)


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    gate: ClassVar[Gate]
    """Counts whom this turns away."""
    request_s: ClassVar[float] = REQUEST_S
    answer_s: ClassVar[float] = ANSWER_S
    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    """While too much of an answer waits for the client."""
    _look: asyncio.TimerHandle | None = None
    """The next one at whether a connection that was closed has ended."""
    _silent: asyncio.TimerHandle | None = None
    _part = _HEAD
    """The part that is being received."""
    _received = 0
    """Bytes of that part so far. A segment counts for the part in which it begins."""
    _offered: int | None = None
    """Where in the segment the head of an offer to upgrade ends, until that is passed over."""
    _answering: RequestResponseCycle | None = None
    """The request that is being answered; `cycle` is the last that came, which may wait for it."""

    def connection_made(self, transport: Any) -> None:
        """Start the clock: whoever connects has something to say."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self.gate.rejected[CONNECTIONS] += 1
            transport.abort()
        else:
            self._arm()
            self._look_again(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock, and tell the handler that is answering, even if more requests wait."""
        self._disarm()
        for timer in (self._unread, self._look):
            if timer is not None:
                timer.cancel()
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.scope["state"][HUNG_UP] = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not take its answer as fast as it comes: it has until the deadline."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.answer_s, self._not_read)

    def resume_writing(self) -> None:
        """It has taken it."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def shutdown(self) -> None:
        """The server leaves. Whoever has connected and is yet to ask gets a moment for it."""
        if self.cycle or self._silent:
            super().shutdown()
        else:
            self._silent = self.loop.call_later(SILENT_S, super().shutdown)

    def data_received(self, data: bytes) -> None:
        """Count what comes: the parser holds a line until it ends."""
        if self._last_answer_begun():
            return  # requests that wait stop the reading, and then nobody sees the client hang up
        if self._deadline is None:  # a next request on a connection that was kept
            self._arm()
        self._received += len(data)
        super().data_received(data)
        while self._offered is not None:
            data, self._offered = self._without_offer() + data[self._offered :], None
            super().data_received(data)
        if self._received > self._part.most:
            self._end_with(self._part.trouble)

    def eof_received(self) -> Any:  # bool, which uvicorn says it never is
        """Whether to keep the connection of a client that sends no more: it may await its answer.

        From then on nothing shows whether the client is still there. So the connection is closed
        if an answer has begun, which may be an endless stream, and in any case after `request_s`.
        """
        cycle = self._answering
        if cycle is None or cycle.response_started or self.cycle.more_body:
            return False
        self.cycle.keep_alive = False
        cycle.scope["state"][HUNG_UP] = True
        if self._deadline is None:
            self._arm()
        return True

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser does not understand, or what a callback here has refused."""
        self._end_with(_fault(sys.exception()))

    def on_headers_complete(self) -> None:
        """Refuse headers that are too large, as one segment may bring, and too many requests."""
        if len(self.pipeline) >= MOST_WAITING:
            why = "too many requests at once on this connection"
            raise Trouble(OVERLOADED, why, RETRY_AFTER_S)
        if self.parser.should_upgrade():
            if not any(name == _OFFER for name, _ in self.headers):
                raise Trouble(NO_METHOD, "this is no proxy")  # it is CONNECT
            super().on_headers_complete()
            return
        self._part, self._received = _BODY, 0  # the guard counts what is in the chunks
        if _REQUEST_LINE + len(self.url) + _on_the_wire(self.headers) <= MOST_HEADER_BYTES:
            super().on_headers_complete()
            return
        self.gate.reject(_TOO_LARGE)
        app, self.app = self.app, _refuse
        try:
            super().on_headers_complete()
        finally:
            self.app = app

    def on_chunk_header(self) -> None:
        """Trailers may follow, if it is the last one. They do not count as headers."""
        self.headers = _Trailers()

    def on_message_complete(self) -> None:
        """All has come in time, unless an offer to upgrade made the parser skip the body."""
        if self.parser.should_upgrade():
            return
        self._disarm()
        self._part, self._received = _HEAD, 0
        super().on_message_complete()

    def _should_upgrade(self) -> bool:
        """Whatever is offered: else uvicorn answers at once, without the body."""
        return True

    def handle_websocket_upgrade(self) -> None:
        """Pass the offer over, whatever it is to, as a server may (RFC 9110, 7.8).

        The parser has left out the body, and would take it for the next request: who can have
        another send a body would send requests in its name. So the head is read once more.
        """
        stopped = sys.exception()
        if isinstance(stopped, HttpParserUpgrade):
            self._offered = stopped.args[0]
        self.parser = HttpRequestParser(self)  # the old one is at its end after "close"
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    def _without_offer(self) -> bytes:
        """The head again, as long as it was, with the offer under a name that means nothing."""
        version = self.scope["http_version"].encode()
        line = b"%b %b HTTP/%b\r\n" % (self.scope["method"].encode(), self.url, version)
        named = ((_PASSED_OVER if name == _OFFER else name, value) for name, value in self.headers)
        return line + b"".join(b"%b: %b\r\n" % header for header in named) + b"\r\n"

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

    def _look_again(self, closed: bool) -> None:
        """End what was closed at the last look. It has waited since for a client to take the rest.

        Whoever closes a connection, the transport's buffer is sent first, however long it takes.
        """
        if closed:
            self._not_read()
        else:
            closing = self.transport.is_closing()
            self._look = self.loop.call_later(self.answer_s, self._look_again, closing)

    def _not_read(self) -> None:
        self.gate.rejected[UNREAD] += 1
        self.transport.abort()

    def _too_slow(self) -> None:
        self._end_with(Trouble(SLOW, f"at most {self.request_s:g} s for all of it"))

    def _end_with(self, trouble: Trouble) -> None:
        """Answer with the problem, unless it would land inside another answer, and hang up."""
        if self.transport.is_closing():
            return
        self.gate.reject(trouble)
        if not self._answered():
            answer = trouble.response()
            headers = [*self.server_state.default_headers, *answer.raw_headers, *_HEADERS]
            lines = b"".join(b"%b: %b\r\n" % header for header in headers)
            self.transport.write(STATUS_LINE[answer.status_code] + lines + b"\r\n" + answer.body)
        self.transport.close()

    def _answered(self) -> bool:
        """Whether an answer sent now would land inside one, or be a second to the same request."""
        cycle = self._answering
        if cycle is None or not cycle.response_started:
            return False
        return not cycle.response_complete or self._part is _BODY


def protocol_with(gate: Gate, request_s: float, answer_s: float) -> type[GuardedProtocol]:
    """The protocol with these deadlines; uvicorn makes its instances itself."""
    its_own = {"gate": gate, "request_s": request_s, "answer_s": answer_s}
    return type("GuardedProtocol", (GuardedProtocol,), its_own)


class _Trailers(list[tuple[bytes, bytes]]):
    """Takes trailers in the place of headers and drops them; refuses too many bytes of them."""

    _bytes = 0

    def append(self, header: tuple[bytes, bytes], /) -> None:
        """One more."""
        self._bytes += _on_the_wire([header])
        if self._bytes > MOST_HEADER_BYTES:
            raise Trouble(HEADERS, f"at most {MOST_HEADER_BYTES} bytes of trailers")


def _on_the_wire(headers: Sequence[tuple[bytes, bytes]]) -> int:
    return sum(map(len, chain.from_iterable(headers))) + len(b": \r\n") * len(headers)


def _fault(error: BaseException | None) -> Trouble:
    """What to say of the parser's error."""
    stopped = error and error.__context__
    if isinstance(stopped, Trouble):
        return stopped
    if "method" in str(error):  # one is of a class of its own, others are not
        return Trouble(NO_METHOD, "the request begins with none that is known here")
    return Trouble(NO_HTTP, "the request can't be read")


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    answer = _TOO_LARGE.response()
    answer.raw_headers += _HEADERS
    await answer(scope, receive, send)
