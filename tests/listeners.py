"""Servers that are neither Kafka nor Redis, and certificates: for what a wrong address meets."""

import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest


class Certificate(NamedTuple):
    """A self-signed certificate of 127.0.0.1 and localhost: server and CA in one."""

    certificate: Path
    key: Path


def make_certificate(folder: Path) -> Certificate:
    """A new one, by the `openssl` command."""
    if shutil.which("openssl") is None:
        missing = "the command openssl is not there, which makes the certificate"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    options = {
        "-days": "2",
        "-subj": "/CN=reco",
        "-newkey": "ec",
        "-pkeyopt": "ec_paramgen_curve:prime256v1",
        "-addext": "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-keyout": str(made.key),
        "-out": str(made.certificate),
    }
    flat = [part for pair in options.items() for part in pair]
    subprocess.run(["openssl", "req", "-x509", "-nodes", *flat], check=True, capture_output=True)
    made.key.chmod(0o644)  # for a server in a container, under another user
    return made


HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
STRANGER = b""


@contextmanager
def listening(
    reply: bytes, certificate: Certificate | None = None, wanted: Certificate | None = None
) -> Iterator[int]:
    """A server on a port of 127.0.0.1 with one reply for everything, HTTP or STRANGER (none).

    Args:
        reply: what it says before it closes the connection.
        certificate: to speak TLS.
        wanted: what clients have to show then.
    """
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
    if tls and certificate:
        tls.load_cert_chain(*certificate)
    if tls and wanted:
        tls.verify_mode = ssl.CERT_REQUIRED
        tls.load_verify_locations(wanted.certificate)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=[server, tls, reply], daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def _serve(server: socket.socket, tls: ssl.SSLContext | None, reply: bytes) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:  # closed
            return
        connection.settimeout(10.0)  # a slow machine takes its time to say hello
        with suppress(OSError), ExitStack() as open_:
            open_.enter_context(connection)
            if tls:  # which takes the connection over: another object is to be closed then
                connection = open_.enter_context(tls.wrap_socket(connection, server_side=True))
            connection.recv(1024)
            connection.sendall(reply)
