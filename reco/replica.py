"""A name for each server process of this host that its successor gets again."""

import fcntl
import itertools
import os
import socket
import tempfile
from pathlib import Path
from typing import IO


class Replica:
    """Holds the lowest number that no other living process of this host, user and kind holds.

    The number is free again the moment the process ends, however it ends, so the one that is
    started in its place goes by the same name: at its first transaction the broker drops what the
    dead one left open, instead of waiting for the transaction to time out.

    Users count for themselves, in lock and name alike: none may open the locks of another.

    Args:
        kind: of which the replicas are counted, such as `reco-server-linucb`.
        folder: where the locks lie.

    Raises:
        OSError: the folder can't be written.
    """

    def __init__(self, kind: str, folder: Path | None = None) -> None:
        user = os.getuid()
        for number in itertools.count():
            path = (folder or Path(tempfile.gettempdir())) / f"{kind}-{user}-{number}.lock"
            lock = path.open("a")
            if _taken(lock):
                self._lock = lock  # held as long as the file is open
                self.name = f"{kind}-{socket.gethostname()}-{user}-{number}"
                return
            lock.close()

    def release(self) -> None:
        """Let another have the number."""
        self._lock.close()


def _taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
