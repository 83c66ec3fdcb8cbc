"""One trace from visit to learned outcome: W3C trace context in the records' headers. Pure.

The services only ask for headers and pass records on; who makes spans of that is an adapter
(`shared.otel`), and without one nothing is added to any record.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol, TypeAlias

TRACEPARENT: Final = "traceparent"

Headers: TypeAlias = Sequence[tuple[str, bytes]]
Attributes: TypeAlias = Mapping[str, str | int]

_FORM: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class TraceContext(NamedTuple):
    """What `traceparent` says."""

    trace_id: int
    span_id: int
    sampled: bool

    def header(self) -> bytes:
        """As `traceparent` says it."""
        return b"00-%032x-%016x-%02x" % (self.trace_id, self.span_id, self.sampled)


def parsed(header: bytes) -> TraceContext | None:
    """The context in a `traceparent`; None if it is not one."""
    found = _FORM.fullmatch(header.strip())
    if found is None or found[1] == b"ff" or (found[1] == b"00" and found[5]):
        return None
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    if not trace_id or not span_id:
        return None
    return TraceContext(trace_id, span_id, bool(int(found[4], 16) & 1))


def context_in(headers: Iterable[tuple[str, bytes]]) -> TraceContext | None:
    """The context that a record or request carries, if any."""
    for name, value in headers:
        if name.lower() == TRACEPARENT:
            return parsed(value)
    return None


def headers_of(traceparent: str) -> Headers:
    """The headers that carry this context; none if it is empty."""
    return ((TRACEPARENT, traceparent.encode()),) if traceparent else ()


class Tracer(Protocol):
    """Makes spans."""

    def record(
        self, name: str, parent: TraceContext | None, began_ms: int, attributes: Attributes
    ) -> TraceContext:
        """A span that ends now.

        Args:
            name: what was done.
            parent: what it was a part of; None starts a trace.
            began_ms: since the epoch.
            attributes: what it was done to.

        Returns:
            What the parts of this span are to name as their parent.
        """


Trace: TypeAlias = Callable[[Headers, int, Attributes], Headers]
"""From the headers of what came in, when, and what it is, to those of what goes out for it."""


def untraced(came_in: Headers, began_ms: int, attributes: Attributes) -> Headers:
    """A `Trace` that leaves none."""
    return ()


def tracing(tracer: Tracer, name: str, *, starts: bool = False) -> Trace:
    """A `Trace` with spans of this name.

    Args:
        tracer: makes them.
        name: of the spans.
        starts: whether what came in without a trace starts one.
    """

    def trace(came_in: Headers, began_ms: int, attributes: Attributes) -> Headers:
        parent = context_in(came_in)
        if parent is None and not starts:
            return ()
        if parent is not None and not parent.sampled:
            return ((TRACEPARENT, parent.header()),)
        context = tracer.record(name, parent, began_ms, attributes)
        return ((TRACEPARENT, context.header()),)

    return trace
