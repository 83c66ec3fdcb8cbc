"""Waiting for what other processes and threads do in their own time."""

import time
from collections.abc import Callable

_POLL_S = 0.02


def until(condition: Callable[[], bool], what: str, within_s: float = 240.0) -> None:
    """Return once something is so; fail, and say what never was, if it takes too long."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, f"never {what}"
        time.sleep(_POLL_S)
