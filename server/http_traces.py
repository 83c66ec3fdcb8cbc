"""Traces of requests: what a caller's `traceparent` becomes, kept with what waits in the window."""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from shared.tracing import TRACEPARENT, Attributes, Headers, Trace, untraced


class Came(NamedTuple):
    """A request that is part of a trace."""

    headers: Headers
    at_ms: int
    """Since the epoch."""


class HttpTraces:
    """Leaves a span for each request that came with a trace; does nothing where none is made.

    Args:
        rank: for slates.
        click: for clicks.
        utc_ms: milliseconds since the epoch.
    """

    def __init__(
        self,
        rank: Trace = untraced,
        click: Trace = untraced,
        utc_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._rank = rank
        self._click = click
        self._utc_ms = utc_ms
        self._on = rank is not untraced or click is not untraced

    def came(self, headers: Iterable[tuple[bytes, bytes]]) -> Came | None:
        """What is known of a request by its headers; None if it leaves no trace."""
        if not self._on:
            return None
        found = [(TRACEPARENT, value) for name, value in headers if name == _NAME]
        return Came(found[:1], self._utc_ms()) if found else None

    def ranked(self, came: Came, decision_id: str) -> str:
        """A slate was made: the `traceparent` of what follows from it, or nothing."""
        return _text(self._rank(came.headers, came.at_ms, {"decision_id": decision_id}))

    def clicked(self, came: Came, decision_id: str, product_id: int) -> str:
        """A click came: the `traceparent` of what follows from it, or nothing."""
        named: Attributes = {"decision_id": decision_id, "product_id": product_id}
        return _text(self._click(came.headers, came.at_ms, named))


def _text(headers: Headers) -> str:
    return next((value.decode() for name, value in headers if name == TRACEPARENT), "")


_NAME = TRACEPARENT.encode()
