"""A listening socket, and how to stop listening without losing who has just connected.

The kernel accepts connections before the process does, and resets those that still wait when the
socket closes: whoever had sent a request by then can't know whether it was seen. So before it
closes the socket, a server lets no new connection begin, and takes all that have begun.
"""

import ctypes
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Final

from shared.host_port import host_port

_SO_ATTACH_FILTER: Final = 26
_NO_SYN: Final = (
    (0x30, 0, 0, 13),  # load byte 13 of the TCP header: the flags
    (0x45, 0, 1, 0x02),  # is SYN among them? A connection that begins …
    (0x06, 0, 0, 0),  # … is dropped: its client tries again, here or elsewhere
    (0x06, 0, 0, 0xFFFF_FFFF),  # anything else passes
)
"""Classic BPF, see Linux' Documentation/networking/filter.rst."""
_WAITING_AT: Final = 24
"""Of a listening socket, tcpi_unacked in struct tcp_info is how many wait to be accepted."""
_HANDSHAKE_S: Final = 0.05
_POLL_S: Final = 0.005


class BadAddress(Exception):
    """Nothing can listen there; the message says why."""


def listening(address: str) -> socket.socket:
    """A socket bound to `HOST:PORT`.

    Raises:
        BadAddress: it is not `HOST:PORT`, or is taken.
    """
    try:
        host, port = host_port(address)
    except ValueError as error:
        raise BadAddress(f"{address!r} is not HOST:PORT, such as 127.0.0.1:8000") from error
    try:
        family, kind, _, _, at = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(at)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        why = error.strerror or str(error)
        raise BadAddress(f"can't listen at {address}: {why}; choose another address") from error
    return bound


def let_no_more_in(listener: socket.socket, patience_s: float) -> None:
    """No connection begins from now on, and those that have begun are accepted when it returns.

    Another thread accepts them. Only Linux can do it; elsewhere nothing happens.

    Args:
        listener: listens.
        patience_s: how long they may wait to be accepted.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in _NO_SYN))
    fields = struct.pack("@HP", len(_NO_SYN), ctypes.addressof(program))
    with suppress(OSError):  # a sandbox may forbid it: then it is as elsewhere
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fields)
    until_s = time.monotonic() + patience_s
    time.sleep(_HANDSHAKE_S)  # for handshakes that had begun
    while _waiting(listener) and time.monotonic() < until_s:
        time.sleep(_POLL_S)


def _waiting(listener: socket.socket) -> int:
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    waiting: int = struct.unpack_from("@I", info, _WAITING_AT)[0]
    return waiting
