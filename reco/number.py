"""Numbers as people write them in options."""

import math
from typing import Any

import click


class Number(click.FloatRange):
    """A finite number. `click.FloatRange` takes nan for being in any range."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number, if it is one and in the range."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number
