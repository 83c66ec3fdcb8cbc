"""Where a service's traces go."""

import os
from typing import Final

import click

from shared.tracing import Trace, tracing, untraced

_OTLP: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def open_trace(service: str, name: str, *, starts: bool = False) -> Trace:
    """How a service leaves traces: where OTEL_EXPORTER_OTLP_ENDPOINT says, else not at all.

    Args:
        service: server, trainer or producer.
        name: of its spans.
        starts: whether what came in without a trace starts one.

    Raises:
        click.UsageError: traces are asked for, and the extra `otel` is not installed.
    """
    if not any(os.environ.get(endpoint) for endpoint in _OTLP):
        return untraced
    try:
        from shared.otel import exporting
    except ImportError as error:
        raise click.UsageError(
            f"{_OTLP[0]} is set, but OpenTelemetry is not installed: install livereco[otel], or "
            "unset it"
        ) from error
    return tracing(exporting(service), name, starts=starts)
