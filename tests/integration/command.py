"""`reco` as a process of its own, as people run it."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

TIMEOUT_S: Final = 180.0


class Result(NamedTuple):
    """What a command line came to."""

    code: int
    out: str
    err: str


Reco = Callable[..., Result]


def reco_with(environment: Mapping[str, str]) -> Reco:
    """A function that runs `reco …` with these variables."""

    def run(*arguments: object, **variables: str) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "reco", *map(str, arguments)],
            env={**os.environ, **environment, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run
