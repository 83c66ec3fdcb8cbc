"""`reco demo` as a process."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

DEADLINE_S = 240.0


class Demo(Protocol):
    """Starts the demo with these options."""

    def __call__(self, *options: str) -> "subprocess.Popen[str]": ...


@contextmanager
def demos(data_folder: Path) -> Iterator[Demo]:
    """Demos of which none outlives the block."""
    with ExitStack() as stack:

        def start(*options: str) -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                [sys.executable, "-m", "reco", "demo", "--data", str(data_folder), *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                # Tests in the background may have Ctrl-C ignored, which is inherited.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def run(demo: Demo, tmp_path: Path, *options: str) -> tuple[int, str, dict[str, Any]]:
    """Exit code, what was shown, and the JSON."""
    file = tmp_path / "verdict.json"
    process = demo("--json", str(file), *options)
    shown, errors = process.communicate(timeout=DEADLINE_S)
    assert errors == ""
    return process.returncode, shown, msgspec.json.decode(file.read_bytes())
