"""Spans through OpenTelemetry; needs the extra `otel`, and only this module imports it."""

import functools
import time

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import (
    TracerProvider as AnyTracerProvider,
)

from shared.tracing import Attributes, TraceContext


class OpenTelemetryTracer:
    """`shared.tracing.Tracer`"""

    def __init__(self, provider: AnyTracerProvider) -> None:
        self._tracer = provider.get_tracer("livereco")

    def record(
        self, name: str, parent: TraceContext | None, began_ms: int, attributes: Attributes
    ) -> TraceContext:
        """See `Tracer.record`."""
        ended_ns = time.time_ns()
        # A record without a time says -1, and one such span could not be sent, nor those beside it.
        began_ns = min(began_ms * 1_000_000, ended_ns) if began_ms >= 0 else ended_ns
        span = self._tracer.start_span(
            name,
            _context(parent),
            start_time=began_ns,
            attributes=dict(attributes),
        )
        span.end(ended_ns)
        made = span.get_span_context()
        return TraceContext(made.trace_id, made.span_id, bool(made.trace_flags.sampled))


@functools.cache
def exporting(service: str) -> OpenTelemetryTracer:
    """What exports as `OTEL_*` says, in the background; the rest when the process ends."""
    provider = TracerProvider(resource=Resource.create({"service.name": f"livereco-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return OpenTelemetryTracer(provider)


def _context(parent: TraceContext | None) -> Context:
    if parent is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
    remote = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(remote), Context())
