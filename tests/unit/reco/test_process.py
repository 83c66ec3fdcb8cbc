import ctypes
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import pytest

from shared.ports import BrokerUnavailable
from tests.unit.reco.command_line import Reco

_FAULTS = """
import resource
import numpy as np
from reco.process import keep_freed_memory
{first}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def batch():
    return [np.ones(100_000) for _ in range(3)]
batch()
before = faults()
for _ in range(100):
    batch()
print(faults() - before)
"""


def _pages_fetched(first: str) -> int:
    """While a batch is made and dropped a hundred times: 600 pages of 4 KiB each."""
    code = dedent(_FAULTS).format(first=first)
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt to ask"
)
def test_what_a_batch_has_freed_the_next_one_finds_there() -> None:
    kept, freed = _pages_fetched("keep_freed_memory()"), _pages_fetched("")
    assert 10 * kept < freed


_INTERRUPTED = """
import os, signal, threading
from functools import partial
from multiprocessing import active_children
from reco.commands import simulate

def run(seed):
    if seed:
        threading.Event().wait()

def interrupted(text):
    os.kill(os.getpid(), signal.SIGINT)

os.cpu_count = lambda: 2
simulate.say = interrupted
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started us
try:
    simulate._all(partial(run), range(2), 2)
except KeyboardInterrupt:
    print(active_children())
"""


def test_runs_that_are_interrupted_are_not_waited_for() -> None:
    ended = subprocess.run([sys.executable, "-c", _INTERRUPTED], check=True, capture_output=True)
    assert (ended.stdout, ended.stderr) == (b"[]\n", b"")


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("reco.commands.status", "status"),
        ("reco.commands.topics", "topics watch visits"),
        ("reco.commands.train", "train"),
        ("reco.commands.produce", "produce"),
        ("reco.serving", "serve"),
    ],
)
def test_ctrl_c_ends_a_command_that_still_waits_for_the_broker(
    reco: Reco, monkeypatch: pytest.MonkeyPatch, data_folder: Path, module: str, line: str
) -> None:
    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        raise BrokerUnavailable("the signal was put off")

    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(import_module(module), "open_cluster", interrupted)
    monkeypatch.setenv("RECO_DATA", str(data_folder))
    result = reco(*line.split())
    assert (result.code, result.err.strip()) == (130, "")
