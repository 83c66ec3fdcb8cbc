"""Processes of ours: started, watched, restarted when they die, killed when asked to."""

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from reco.process import UNTIL_EOF

STOP_TIMEOUT_S: Final = 10.0
_HASTY_DEATHS: Final = 3
_HASTY_S: Final = 20.0


class ChildFailed(Exception):
    """A process dies again and again; the message ends with what it said."""


class Child:
    """One `reco …` process whose standard output is lines of JSON (any other is passed over).

    Args:
        name: for people.
        arguments: of `reco`.
        log: file that its standard error goes to.
        restart: start it again whenever it ends with an error.
        module: what is run with these arguments instead of `reco`.
        environment: what it has in addition to ours.
        without: prefixes of those of our variables that it does not get.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        log: Path,
        *,
        restart: bool = True,
        module: str = "reco",
        environment: Mapping[str, str] | None = None,
        without: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        """What it reported, parsed."""
        self.starts = 0
        self._command = [sys.executable, "-m", module, *arguments]
        ours = {name: value for name, value in os.environ.items() if not name.startswith(without)}
        self._environment = {**ours, **(environment or {}), UNTIL_EOF: "1"}
        self._log = log
        self._restart = restart
        self._started_s = 0.0
        self._hasty = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self.start()

    @property
    def alive(self) -> bool:
        """Whether it runs now."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the running process.

        Raises:
            ChildFailed: it was never started.
        """
        if self._process is None:
            raise ChildFailed(f"{self.name} does not run")
        return self._process.pid

    def start(self) -> None:
        """Start it (again)."""
        self._reap()
        self.starts += 1
        self._started_s = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,  # closed with us, which ends it: see `UNTIL_EOF`
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for the parent, which then stops its children
            )
        self._reader = threading.Thread(target=self._read, args=[self._process.stdout], daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """SIGKILL."""
        if self._process:
            self._process.kill()
            self._reap()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """SIGTERM, and SIGKILL if that is ignored for so long."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        self.kill()

    def check(self) -> bool:
        """Start it again if it has died; True if so.

        Raises:
            ChildFailed: it dies as soon as it starts.
        """
        if self.alive or self._process is None or (not self._restart or self.finished):
            return False
        if time.monotonic() - self._started_s > _HASTY_S:
            self._hasty = 0
        self._hasty += self._process.returncode > 0  # a kill (negative) is not its own fault
        if self._hasty >= _HASTY_DEATHS:
            raise ChildFailed(f"{self.name} does not stay up; it says: {self.last_words()}")
        self.start()
        return True

    @property
    def finished(self) -> bool:
        """Whether it ended by itself, and well."""
        return self._process is not None and self._process.poll() == 0

    def last_words(self) -> str:
        """The end of its standard error."""
        return self._log.read_text(errors="replace").strip()[-500:]

    def _reap(self) -> None:
        """Wait for the end of a process that is ending, and take in the last it said."""
        if self._process is None:
            return
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        if self._reader:
            self._reader.join()

    def _read(self, output: IO[bytes]) -> None:
        with output:
            for line in output:
                with contextlib.suppress(msgspec.DecodeError):  # cut off by a kill
                    self.lines.put(msgspec.json.decode(line, type=dict[str, Any]))
