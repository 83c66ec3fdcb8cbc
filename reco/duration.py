"""Durations as people write them in options."""

import re
from typing import Any, Final

import click

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Duration(click.ParamType[float]):
    """`30s`, `500ms`, `2m`: seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds; a bare number is seconds, too."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", str(value))
        if not found or not 0.001 <= (seconds := float(found[1]) * _UNITS[found[2] or "s"]) < 1e6:
            self.fail(f"{value!r} is no duration, such as 30s, 500ms or 2m", param, ctx)
        return seconds
