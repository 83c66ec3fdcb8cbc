"""Ports of this machine for who has to name one before anybody listens at it."""

import errno
import random
import socket
from itertools import islice
from typing import Final

# Below those that systems give to outgoing connections: one of these could take the port between
# its choice and its use. And above what our services are usually found at.
_RANGE: Final = range(20_000, 32_000)


def free_port() -> int:
    """See `free_ports`."""
    [port] = free_ports(1)
    return port


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens at now, all different.

    Raises:
        OSError: there are not so many.
    """
    drawn = random.Random().sample(_RANGE, len(_RANGE))  # whoever asks meanwhile: others
    found = list(islice(filter(is_free, drawn), count))
    if len(found) < count:
        raise OSError(errno.EADDRINUSE, f"no {count} free ports of 127.0.0.1 in {_RANGE}")
    return found


def is_free(port: int, *, reuse: bool = False) -> bool:
    """Whether a server can listen at this port of 127.0.0.1 now.

    Args:
        port: its number.
        reuse: as a server does that does not mind connections which have just ended there.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
