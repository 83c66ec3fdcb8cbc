"""Who listens at an address that does not answer as expected: for a message that helps."""

import socket
import ssl
import struct
from enum import Enum
from typing import Final

_TIMEOUT_S: Final = 1.0
_HTTP_REQUEST: Final = b"GET / HTTP/1.0\r\n\r\n"  # Redis takes it for a command of its own
_CORRELATION_ID: Final = 7
_API_VERSIONS: Final = struct.pack(">ihhih", 10, 18, 0, _CORRELATION_ID, -1)


class Peer(Enum):
    """What was found; the value is how to speak of it."""

    NOBODY = "nobody"
    REDIS = "a Redis server"
    KAFKA = "a Kafka broker"
    HTTP = "an HTTP server"
    TLS = "a server that expects TLS"
    STRANGER = "something else"


def who_listens(host: str, port: int) -> Peer:
    """Connect, ask the simplest question of each protocol, and look at the answers."""
    try:
        answer = _answer(host, port, _HTTP_REQUEST)
        if answer.startswith(b"HTTP/"):
            return Peer.HTTP
        if answer.startswith((b"-", b"$")):  # an error, or what is stored under "/"
            return Peer.REDIS
        if _answer(host, port, _API_VERSIONS)[4:8] == struct.pack(">i", _CORRELATION_ID):
            return Peer.KAFKA
        if _speaks_tls(host, port):
            return Peer.TLS
    except OSError:
        return Peer.NOBODY
    return Peer.STRANGER


def tls_refusal(host: str, port: int, certificate: str | None, key: str | None, word: str) -> str:
    """OpenSSL's name for why a server that speaks TLS hangs up on this client, as in
    `TLSV13_ALERT_CERTIFICATE_REQUIRED`; empty if it does not, or does not say.

    Args:
        host: where it listens.
        port: where it listens.
        certificate: file with the client's; None for a client without one.
        key: file with its key; None where the certificate's holds it.
        word: password of the key, or empty.
    """
    context = _trusting()
    try:
        if certificate is not None:
            context.load_cert_chain(certificate, key, word)
        with (
            socket.create_connection((host, port), _TIMEOUT_S) as connection,
            context.wrap_socket(connection, server_hostname=host) as speaking,
        ):
            speaking.recv(1)  # TLS 1.3 refuses a client after the handshake; nothing may be sent
    except ssl.SSLError as error:
        return error.reason or ""
    except OSError:
        return ""
    return ""


def _answer(host: str, port: int, question: bytes) -> bytes:
    with socket.create_connection((host, port), _TIMEOUT_S) as connection:
        try:
            connection.sendall(question)
            return connection.recv(64)
        except OSError:  # closed, or silent
            return b""


def _speaks_tls(host: str, port: int) -> bool:
    context = _trusting()
    with socket.create_connection((host, port), _TIMEOUT_S) as connection:
        try:
            context.wrap_socket(connection, server_hostname=host).close()
        except ssl.SSLError as error:
            return "ALERT" in (error.reason or "")  # it understood, and refused
        except OSError:
            return False
    return True


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # nothing is said to it but hello
    context.verify_mode = ssl.CERT_NONE
    return context
