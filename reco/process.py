"""What every process of ours does: how it is named, tells the time, and ends."""

import ctypes
import gc
import os
import secrets
import signal
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from types import FrameType
from typing import Final

from threadpoolctl import threadpool_limits

UNTIL_EOF: Final = "RECO_UNTIL_EOF"

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
"""Parameters of mallopt(3)."""
_KEPT_BYTES: Final = 32 * 2**20
"""The most that glibc takes for the second."""


def utc_now() -> datetime:
    """The time of events."""
    return datetime.now(UTC)


def process_name() -> str:
    """A name for this process that no other has: host, pid, and when."""
    return f"{socket.gethostname()}-{os.getpid()}-{time.time_ns():x}"


def run_name() -> str:
    """A short name for a run of visits that no other has: when, and by chance."""
    return f"{utc_now():%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set; a second one ends the process as usual.

    A process whose parent put `UNTIL_EOF` into its environment also stops when its standard input
    closes: then the parent is gone, however it ended.
    """
    stop = threading.Event()
    if os.environ.get(UNTIL_EOF):
        threading.Thread(target=_await_eof, args=[stop], daemon=True).start()

    def handle(signum: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(signum, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop


def unwind_on_sigterm() -> None:
    """Have SIGTERM leave every `with` block, so that folders go and children are stopped.

    For commands that wait in many places, or for other processes, and so can't look at the event of
    `stop_on_signals`. The exit code is 128 + 15, as in a shell; a second signal ends the process as
    usual.
    """

    def handle(signum: int, _: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_DFL)
        raise SystemExit(128 + signum)

    signal.signal(signal.SIGTERM, handle)


def _await_eof(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()


def one_blas_thread() -> None:
    """Keep matrix products on the calling thread.

    The products here are small; spread over threads they take two to three times as long
    (`make bench`), and every process would bring a pool of its own.
    """
    threadpool_limits(1, user_api="blas")


def keep_freed_memory() -> None:
    """Have the C library keep what was freed for the next batch that needs it.

    Every batch makes and drops the same arrays. Given back to the kernel in between, as glibc does
    from 128 KiB on, their pages have to be fetched anew each time: nearly a third of the time that
    a block of visits takes to be ranked. Other C libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)


def keep_what_is_there() -> None:
    """Exempt what exists now (imports, set-up) from garbage collection.

    A full collection takes 40 ms, in which nobody is answered, and would free none of it.
    """
    gc.collect()
    gc.freeze()
