"""Logs: lines for people on a terminal, lines of JSON where programs collect them.

In JSON everything that a service says is a record: what people would read on standard error, the
visit lines, and the adapters' warnings.
"""

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, Literal

import click
import msgspec

from reco.terminal import printable_lines

Format = Literal["text", "json", "auto"]
FORMATS: Final = ("text", "json", "auto")

_FIELDS: Final = "reco_fields"
_log = logging.getLogger("reco")


class JsonFormatter(logging.Formatter):
    """One JSON object a record: at, level, logger, message, and the fields it was given."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        said: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(said).decode()


class _Handler(logging.StreamHandler[Any]):
    """Ours, to be told from those of others."""


def configure(format_: Format) -> None:
    """Choose how this process logs, on standard error; `auto` is text on a terminal."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, _Handler):
            root.removeHandler(handler)
    if format_ == "auto":
        format_ = "text" if sys.stderr.isatty() else "json"
    if format_ == "json":
        handler = _Handler(sys.stderr)
        handler.setFormatter(JsonFormatter())
        root.addHandler(handler)
        _log.setLevel(logging.INFO)


def structured() -> bool:
    """Whether the log is JSON."""
    return any(isinstance(handler, _Handler) for handler in logging.getLogger().handlers)


def record(message: str, level: int = logging.INFO, **fields: object) -> None:
    """Log a message with fields of its own, such as `decision_id`."""
    _log.log(level, message, extra={_FIELDS: fields})


def say(text: str, level: int = logging.INFO) -> None:
    """One line for people, on standard error; a record of the log where that is JSON."""
    if structured():
        record(text, level)
    else:
        click.echo(printable_lines(text), err=True)
