"""`reco serve --http` as a process, ready to be asked."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.e2e.system import DEADLINE_S, EmbeddedSystem, running
from tests.waiting import ready


class Served(NamedTuple):
    """The system, and where its API is."""

    system: EmbeddedSystem
    url: str


@contextmanager
def serving(data_folder: Path, logs: Path, **options: str | float) -> Iterator[Served]:
    """One server and one trainer on the embedded broker and store."""
    with running(data_folder, logs) as system:
        system.start("trainer", "train")
        # Whoever runs the tests may be busy: it is no question of milliseconds here.
        options = {"rank_budget_ms": 5_000, **options}
        server = system.start("server", "serve", "--no-stream", http="127.0.0.1:0", **options)
        url: str = server.lines.get(timeout=DEADLINE_S)["http"]
        system.until(lambda: ready(url), "ready")
        yield Served(system, url)


def run_block(command: list[str], text: str, url: str) -> str:
    """Run a code block of a page against the API; returns what it prints."""
    environment = {**os.environ, "API": url}
    done = subprocess.run(
        [*command, text], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
