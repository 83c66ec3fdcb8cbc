import ctypes
import subprocess
import sys
from textwrap import dedent

import pytest

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
    """While a batch is made and dropped a hundred times: 600 pages each."""
    code = dedent(_FAULTS).format(first=first)
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt to ask"
)
def test_what_a_batch_has_freed_the_next_one_finds_there() -> None:
    assert _pages_fetched("keep_freed_memory()") < 6_000 < _pages_fetched("")
