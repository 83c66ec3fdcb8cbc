"""The live page in a process that serves: its feed, its tail, and the server that answers."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from reco.wiring import say

STOP_S: Final = 2


def listening_socket(address: str) -> socket.socket:
    """A socket that listens at HOST:PORT; port 0 takes a free one.

    Raises:
        click.BadParameter: the address is none, or is taken.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise click.BadParameter(f"--http {address}: give HOST:PORT, as in 127.0.0.1:8080")
    try:
        return socket.create_server((host.strip("[]"), int(port)))
    except OSError as error:
        raise click.BadParameter(f"can't listen at {address}: {error.strerror}") from error


def url_of(listening: socket.socket) -> str:
    """The address for a browser."""
    host, port = listening.getsockname()[:2]
    return f"http://{host}:{port}"


@contextmanager
def answering(listening: socket.socket, routes: list[Route]) -> Iterator[None]:
    """Answer HTTP in a thread of its own for the length of a block."""
    config = uvicorn.Config(
        Starlette(routes=routes),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=STOP_S,
        server_header=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve([listening])), name="http", daemon=True
    )
    thread.start()
    say(f"page: {url_of(listening)}")
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()
