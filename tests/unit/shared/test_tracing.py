import pytest

from shared.tracing import (
    TRACEPARENT,
    Attributes,
    TraceContext,
    context_in,
    parsed,
    tracing,
    untraced,
)

HEADER = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CONTEXT = TraceContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, True)


class Tracer:
    """Notes the spans, and numbers them."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, TraceContext | None, Attributes]] = []

    def record(
        self, name: str, parent: TraceContext | None, began_ms: int, attributes: Attributes
    ) -> TraceContext:
        self.spans.append((name, parent, attributes))
        return TraceContext(parent.trace_id if parent else 7, len(self.spans), True)


def test_a_context_is_read_and_written_as_the_standard_says() -> None:
    assert parsed(HEADER) == CONTEXT
    assert CONTEXT.header() == HEADER
    assert parsed(HEADER[:-1] + b"0") == CONTEXT._replace(sampled=False)


def test_a_later_version_may_say_more() -> None:
    assert parsed(b"01" + HEADER[2:] + b"-more") == CONTEXT


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"nonsense",
        HEADER.upper(),
        HEADER + b"-more",
        b"ff" + HEADER[2:],
        HEADER.replace(b"0af7651916cd43dd8448eb211c80319c", b"0" * 32),
        HEADER.replace(b"b7ad6b7169203331", b"0" * 16),
        HEADER[:-1],
        b"\xff" * 55,
    ],
)
def test_what_is_no_context_is_none(header: bytes) -> None:
    assert parsed(header) is None


def test_a_context_is_found_among_other_headers_whatever_its_case() -> None:
    assert context_in([("reason", b"x"), ("TraceParent", HEADER)]) == CONTEXT
    assert context_in([("reason", b"x")]) is None


def test_what_goes_out_names_the_span_as_parent_in_the_same_trace() -> None:
    tracer = Tracer()
    [(name, value)] = tracing(tracer, "decide")([(TRACEPARENT, HEADER)], 0, {"visit_id": "v"})
    assert name == TRACEPARENT
    assert parsed(value) == TraceContext(CONTEXT.trace_id, 1, True)
    assert tracer.spans == [("decide", CONTEXT, {"visit_id": "v"})]


def test_only_who_starts_traces_makes_one_of_nothing() -> None:
    tracer = Tracer()
    assert tracing(tracer, "decide")((), 0, {}) == ()
    assert len(tracing(tracer, "visit", starts=True)((), 0, {})) == 1


def test_a_trace_that_is_not_sampled_is_passed_on_without_a_span() -> None:
    tracer = Tracer()
    unsampled = CONTEXT._replace(sampled=False).header()
    assert tracing(tracer, "decide")([(TRACEPARENT, unsampled)], 0, {}) == (
        (TRACEPARENT, unsampled),
    )
    assert tracer.spans == []


def test_without_a_tracer_nothing_is_added() -> None:
    assert untraced([(TRACEPARENT, HEADER)], 0, {}) == ()
