"""Policies × worlds × seeds, beside other libraries: `make learning-report` writes the page."""

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import click
import msgspec
import numpy as np

from producer.prepare import prepare
from reco.simulation import Rates
from tests.learning import page
from tests.learning.figures import Runs
from tests.learning.plan import TABLES, Entry, Job, jobs

OTHERS_PYTHON: Final = Path(".venv-compare/bin/python")
FIRST_SEED: Final = 1237
PREPARED: Final = 1237


@click.command()
@click.option("--seeds", default=20, show_default=True, type=click.IntRange(min=1))
@click.option("--visits", default=4_000, show_default=True, type=click.IntRange(min=1))
@click.option("--workers", default=os.cpu_count() or 1, show_default=True, type=int)
@click.option("--table", "tables", multiple=True, type=click.Choice(list(TABLES)))
@click.option("--cache", default=".learning", show_default=True, type=click.Path(path_type=Path))
@click.option("--out", default="docs", show_default=True, type=click.Path(path_type=Path))
@click.option("--page-only", is_flag=True, help="Run nothing; write what is there.")
def main(
    seeds: int,
    visits: int,
    workers: int,
    tables: tuple[str, ...],
    cache: Path,
    out: Path,
    page_only: bool,
) -> None:
    """Run what is missing, then write docs/learning.md and its plots.

    Results are kept run by run in the cache folder, so an interrupted report goes on where it was.
    Remove the folder after a change of the policies.

    Example: python -m tests.learning --table seed --seeds 5
    """
    chosen = tables or tuple(TABLES)
    for folder in (cache, out):
        folder.mkdir(parents=True, exist_ok=True)
    wanted = list(jobs(range(FIRST_SEED, FIRST_SEED + seeds), visits, chosen, others=True))
    if not page_only:
        _run_missing(wanted, cache, workers)
    page.write(out, {table: _results(table, wanted, cache) for table in chosen})
    click.echo(f"{out / 'learning.md'}")


def _run_missing(wanted: list[Job], cache: Path, workers: int) -> None:
    folder = cache / "data"
    if not folder.exists():
        prepare(folder, PREPARED)
    missing = list(dict.fromkeys(job for job in wanted if not (cache / job.file_name).exists()))
    with ThreadPoolExecutor(workers) as pool:
        for done, job in enumerate(pool.map(lambda job: _run(job, folder, cache), missing), 1):
            click.echo(f"{done} of {len(missing)}: {job.file_name}", err=True)


def _run(job: Job, folder: Path, cache: Path) -> Job:
    python = str(OTHERS_PYTHON) if job.entry.other else sys.executable
    arguments = [msgspec.json.encode(job).decode(), str(folder), str(cache / job.file_name)]
    subprocess.run([python, "-m", "tests.learning.run", *arguments], check=True)
    return job


def _results(table: str, wanted: list[Job], cache: Path) -> Mapping[Entry, Runs]:
    """The runs there are, of each line that has some."""
    world, entries = TABLES[table]
    runs: dict[Entry, dict[int, Rates]] = {}
    for job in wanted:
        if job.world == world and job.entry in entries and (cache / job.file_name).exists():
            runs.setdefault(job.entry, {})[job.seed] = _load(cache / job.file_name)
    return {entry: runs[entry] for entry in entries if entry in runs}


def _load(path: Path) -> Rates:
    with np.load(path) as kept:
        return Rates(*(kept[name] for name in Rates._fields))


if __name__ == "__main__":
    main()
