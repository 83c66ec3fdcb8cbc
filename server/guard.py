"""What stands before every request: limits, keys, headers, measurement. One layer of ASGI."""

import hmac
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.problems import (
    HEADERS,
    NO_HTTP,
    NO_METHOD,
    OVERLOADED,
    RETRY_AFTER_S,
    SLOW,
    TOO_LARGE,
    UNAUTHORISED,
    Trouble,
)
from shared.metrics import HttpMetrics

MOST_BODY_BYTES: Final = 64 * 1024
UNGUARDED: Final = frozenset({"/livez", "/readyz", "/metrics"})
"""Answered even under overload: they are how it is noticed from outside."""

SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
"""Of every answer."""
NO_CONTENT_POLICY: Final = (
    b"content-security-policy",
    b"default-src 'none'; frame-ancestors 'none'",
)
"""Of every answer without one of its own."""

CONNECTIONS: Final = "connections"
UNREAD: Final = "unread"
_REASONS: Final = {
    OVERLOADED: "overload",
    TOO_LARGE: "too large",
    UNAUTHORISED: "not authorised",
    HEADERS: "headers too large",
    SLOW: "slow",
    NO_HTTP: "not HTTP",
    NO_METHOD: "not HTTP",
}
"""In short, as `HttpMetrics.rejected` explains them."""

_GUARDED: Final = "/v1/"
_STREAM: Final = b"text/event-stream"
_CLOSE: Final = (b"connection", b"close")


class Limits(NamedTuple):
    """What a server lets in."""

    in_flight: int = 256
    """Requests being answered at once; beyond it 503 with Retry-After, not a queue."""
    body_bytes: int = MOST_BODY_BYTES


class Gate:
    """How many requests are being answered or were not let in, and whether the server is to stop.

    Shared by the guard, the protocol beneath it, and whoever stops the server. Belongs to the
    server's event loop; others may read.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        """A stream of events is answered once it begins: what offers one limits how many are open.
        """
        self.draining = False
        """Whether the server is stopping: every answer then asks its client to go elsewhere."""
        self.rejected = dict.fromkeys((*_REASONS.values(), CONNECTIONS, UNREAD), 0)
        """How many were turned away, by why."""

    def reject(self, trouble: Trouble) -> Trouble:
        """Count a request that is turned away with this; returns it."""
        self.rejected[_REASONS[trouble.kind]] += 1
        return trouble


class Guard:
    """Admits requests or refuses them, marks and measures every answer. ASGI middleware.

    Args:
        app: what is guarded.
        gate: counts, and says when the server is leaving.
        limits: see `Limits`.
        keys: valid API keys; empty for none needed.
        metrics: counts and latencies by route.
        clock: monotonic seconds.
        around: wraps everything that answers, refusals included. For CORS: without its headers a
            browser hides even a refusal from a page of another origin, and its preflight
            requests come without a key.
    """

    def __init__(
        self,
        app: ASGIApp,
        gate: Gate,
        limits: Limits,
        keys: Sequence[bytes],
        metrics: HttpMetrics,
        clock: Callable[[], float],
        around: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    ) -> None:
        self._app = app
        self._answer = around(self._admit)
        self._gate = gate
        self._limits = limits
        self._keys = keys
        self._metrics = metrics
        self._clock = clock
        self._children: dict[tuple[str, str, int], tuple[Any, Any]] = {}
        metrics.in_flight.set_function(lambda: gate.in_flight)
        metrics.rejected.read(lambda: {(why,): n for why, n in list(gate.rejected.items())})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s, status, in_flight = self._clock(), 500, True

        def answered() -> None:
            nonlocal in_flight
            if in_flight:
                in_flight = False
                self._gate.in_flight -= 1
                self._observe(scope, status, self._clock() - started_s)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._mark(message)
                if (_header(message["headers"], b"content-type") or b"").startswith(_STREAM):
                    answered()
            await send(message)

        self._gate.in_flight += 1
        try:
            await self._answer(scope, receive, answer)
        finally:
            answered()

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        trouble = self._trouble(scope)
        if trouble is None:
            await self._app(scope, self._counted(scope, receive), send)
            return
        self._gate.reject(trouble)
        headers = {"WWW-Authenticate": "Bearer"} if trouble.kind is UNAUTHORISED else {}
        # The body was not read: what follows it could not be told from a new request.
        headers["Connection"] = "close"
        await trouble.response(headers)(scope, receive, send)

    def _trouble(self, scope: Scope) -> Trouble | None:
        path = scope["path"]
        if self._gate.in_flight > self._limits.in_flight and path not in UNGUARDED:
            return Trouble(OVERLOADED, "too many requests at once", RETRY_AFTER_S)
        length = _header(scope["headers"], b"content-length")
        if length and _exceeds(length, self._limits.body_bytes):
            return Trouble(TOO_LARGE, f"at most {self._limits.body_bytes} bytes")
        if self._keys and path.startswith(_GUARDED) and not self._known(scope):
            return Trouble(UNAUTHORISED, "this needs `Authorization: Bearer <key>`")
        return None

    def _counted(self, scope: Scope, receive: Receive) -> Receive:
        """Refuse a body without a length that turns out too large."""
        if _header(scope["headers"], b"transfer-encoding") is None:
            return receive
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._limits.body_bytes:
                detail = f"at most {self._limits.body_bytes} bytes"
                raise self._gate.reject(Trouble(TOO_LARGE, detail))
            return message

        return counted

    def _known(self, scope: Scope) -> bool:
        scheme, _, key = (_header(scope["headers"], b"authorization") or b"").partition(b" ")
        # Every key is compared, each in constant time: the duration tells nothing.
        matches = [hmac.compare_digest(key.strip(), each) for each in self._keys]
        return scheme.lower() == b"bearer" and any(matches)

    def _mark(self, message: Message) -> None:
        headers = message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS]
        if _header(headers, NO_CONTENT_POLICY[0]) is None:
            headers.append(NO_CONTENT_POLICY)
        if self._gate.draining:
            headers.append(_CLOSE)

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "")
        key = (route, scope["method"], status)
        children = self._children.get(key)
        if children is None:
            method = scope["method"] if route else ""  # anything may stand there
            children = (
                self._metrics.requests.labels(route, method, str(status)),
                self._metrics.latency.labels(route, method),
            )
            if route:
                self._children[key] = children
        children[0].inc()
        children[1].observe(seconds)


def _exceeds(length: bytes, most: int) -> bool:
    """Whether a Content-Length is no number, or one above this. It may begin with many zeros."""
    digits = length.lstrip(b"0") or b"0"
    return not digits.isdigit() or len(digits) > len(str(most)) or int(digits) > most


def _header(headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    for name, value in headers:
        if name == wanted:
            return value
    return None
