"""Measure in one run, as ratios: `make bench`, or `python -m tests.benchmarks --json FILE`."""

import os
import platform
import sys

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from infra.embedded import EmbeddedError
from reco.options import json_output, write_json
from tests.benchmarks import http, joint, memory, speed
from tests.benchmarks.measure import Result

CAPTION = "µs and bytes (B) are per visit, arm or outcome, as the line says"


@click.command()
@json_output("the results")
def main(json_file: str | None) -> None:
    """Measure scoring, learning and memory, each against what it is compared with.

    Both sides of a ratio are run alternately and the best of 15 turns counts. Other load on the
    machine moves the microseconds; the ratios move less. "MABWiser predict" is its
    `predict_expectations` on the same contexts; the trainer's core decodes, checks, looks for
    duplicates and adds.

    Example: python -m tests.benchmarks --json bench.json
    """
    console = Console(stderr=json_file == "-", width=104)
    results: list[Result] = []
    with console.status("Measuring …") as status:
        try:
            for part in (speed, joint, memory, http):
                for result in part.results():
                    results.append(result)
                    status.update(f"Measured: {result.name} …")
        except EmbeddedError as error:
            console.print(f"The store can't be measured: {error}", style="red")
            sys.exit(1)
    console.print(table_of(results))
    machine = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
    write_json({"machine": machine, "results": results}, json_file)


def table_of(results: list[Result]) -> Table:
    """The results as people read them."""
    table = Table(title="LiveReco, measured in this run", caption=CAPTION)
    for heading in ("what", "ours", "against", "", "ratio", "target", ""):
        table.add_column(heading, justify="left" if heading in ("what", "against") else "right")
    for result in results:
        table.add_row(
            result.name,
            _quantity(result.ours, result.unit, 2),
            result.reference_name,
            f"{result.reference:,.2f} µs" if result.reference else "",
            f"{result.ratio:,.3g}×" if result.ratio else "",
            _target(result),
            {True: "✓", False: "✗", None: ""}[result.met],
        )
    return table


def _target(result: Result) -> str:
    if result.target is None:
        return ""
    if result.ratio:
        return f"≥ {result.target:,.3g}×"
    return f"≤ {_quantity(result.target, result.unit, 0)}"


def _quantity(value: float, unit: str, digits: int) -> str:
    if unit == "µs":
        return f"{value:,.{digits}f} µs"
    return f"{value:,.0f} B" if unit.startswith("bytes") else f"{value:,.0f}"


if __name__ == "__main__":
    main()
