"""TLS and SASL in front of a plain Kafka listener, as a sidecar does it.

Connections are passed on as they are, but for SASL's two requests, which are answered here.
"""

import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from tests.listeners import Certificate

_SASL_HANDSHAKE: Final = 17
_SASL_AUTHENTICATE: Final = 36
_FAILED: Final = 58
"""SASL_AUTHENTICATION_FAILED"""


class Gateway:
    """What a connection has to pass.

    Args:
        behind: port of 127.0.0.1 of the plain listener.
        certificate: to speak TLS with; None for none.
        login: user and password for SASL PLAIN; None for none.
    """

    def __init__(
        self, behind: int, certificate: Certificate | None, login: tuple[str, str] | None
    ) -> None:
        self._behind = behind
        self._login = login
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
        if self._tls and certificate:
            self._tls.load_cert_chain(*certificate)

    def accept(self, server: socket.socket) -> None:
        """Serve connections, each in a thread, until the server's socket is closed."""
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=[client], daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError), client:
            if self._tls:
                client = self._tls.wrap_socket(client, server_side=True)
            with client, socket.create_connection(("127.0.0.1", self._behind)) as broker:
                if self._login and not self._admitted(client, broker, self._login):
                    return
                back = threading.Thread(target=_copy, args=[broker, client], daemon=True)
                back.start()
                _copy(client, broker)

    def _admitted(
        self, client: socket.socket, broker: socket.socket, login: tuple[str, str]
    ) -> bool:
        while True:
            request = _frame(client)
            key, _, correlation = struct.unpack_from(">hhi", request)
            if key == _SASL_HANDSHAKE:
                answer = struct.pack(">ihih", correlation, 0, 1, 5) + b"PLAIN"
            elif key == _SASL_AUTHENTICATE:
                good = request.endswith(b"\0" + b"\0".join(part.encode() for part in login))
                answer = struct.pack(">ih", correlation, 0 if good else _FAILED)
                answer += struct.pack(">h", -1) if good else struct.pack(">h", 9) + b"bad login"
                answer += struct.pack(">iq", 0, 0)  # no token, and no end of the session
                _send(client, answer)
                return good
            else:  # what versions the broker speaks
                _send(broker, request)
                answer = _frame(broker)
            _send(client, answer)


@contextmanager
def gateway(
    port: int,
    behind: int,
    certificate: Certificate | None = None,
    login: tuple[str, str] | None = None,
) -> Iterator[str]:
    """A gateway at this port of 127.0.0.1, as long as the block lasts; its address."""
    with socket.create_server(("127.0.0.1", port)) as server:
        guard = Gateway(behind, certificate, login)
        threading.Thread(target=guard.accept, args=[server], daemon=True).start()
        yield f"127.0.0.1:{port}"
        server.shutdown(socket.SHUT_RDWR)


def _frame(connection: socket.socket) -> bytes:
    [size] = struct.unpack(">i", _exactly(connection, 4))
    return _exactly(connection, size)


def _exactly(connection: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        part = connection.recv(count - len(content))
        if not part:
            raise EOFError
        content += part
    return content


def _send(connection: socket.socket, frame: bytes) -> None:
    connection.sendall(struct.pack(">i", len(frame)) + frame)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65_536):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)
