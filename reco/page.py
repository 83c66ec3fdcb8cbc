"""The live page of a serving process: its feed, the thread that reads along, the server."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import click
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from reco.live import Tail
from reco.wiring import say
from server.live import live_routes
from server.live_feed import LiveFeed
from server.live_state import Hidden
from server.scorer import Policy
from server.stream import Viewing
from shared.catalogue import DataSet
from shared.kafka import KafkaCluster
from shared.ports import StateStore
from shared.presence import Board

STOP_S: Final = 2


class Page:
    """The page over the view of this process.

    Args:
        cluster: whose topics are shown.
        store: where the positions are.
        data: products, users and encoder.
        policy: what this process ranks by.
        partitions: of the outcomes topic.
        hidden: what random and best slates would get, where it is known.
        board: where processes say that they are there.
    """

    def __init__(
        self,
        cluster: KafkaCluster,
        store: StateStore,
        data: DataSet,
        policy: Policy,
        partitions: int,
        hidden: Hidden | None,
        board: Board,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._data = data
        self._policy = policy
        self._partitions = partitions
        self._hidden = hidden
        self._board = board
        self._feed: LiveFeed | None = None

    def advanced(self, partition: int, next_offset: int) -> None:
        """The view has moved on; to be called from its own thread."""
        if self._feed:
            self._feed.advanced(partition, next_offset)

    def routes(self, view: Viewing, stopping: Callable[[], bool]) -> list[Route]:
        """What answers for the page, over this view."""
        self._feed = LiveFeed(
            view, self._policy, self._data, self._partitions, self._hidden, utc_s=time.time
        )
        return live_routes(self._feed, stopping)

    @contextmanager
    def fed(self) -> Iterator[None]:
        """Read along on the topics for the length of a block, if anything shows the page."""
        if self._feed is None:
            yield
            return
        done = threading.Event()
        tail = Tail(self._feed, self._cluster, self._store, self._board, done)
        tail.start()
        try:
            yield
        finally:
            done.set()
            tail.join()


def listening_socket(address: str) -> socket.socket:
    """A socket that listens at HOST:PORT; port 0 takes a free one.

    Raises:
        click.BadParameter: the address is none, or is taken.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise click.BadParameter(f"{address!r} is no HOST:PORT, as in 127.0.0.1:8080")
    try:
        return socket.create_server((host.strip("[]"), int(port)))
    except OSError as error:
        raise click.BadParameter(f"can't listen at {address}: {error.strerror}") from error


def free_port(port: int) -> int:
    """The port, or for 0 a free one, of 127.0.0.1.

    Raises:
        click.BadParameter: it is taken.
    """
    with listening_socket(f"127.0.0.1:{port}") as listening:
        return int(listening.getsockname()[1])


@contextmanager
def answering(listening: socket.socket, routes: list[Route]) -> Iterator[str]:
    """Answer HTTP in a thread of its own for the length of a block; gives the page's address."""
    config = uvicorn.Config(
        Starlette(routes=routes),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=STOP_S,
        server_header=False,
    )
    server = uvicorn.Server(config)
    serve = server.serve([listening])
    thread = threading.Thread(target=lambda: asyncio.run(serve), name="http", daemon=True)
    thread.start()
    host, port = listening.getsockname()[:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def shown(
    page: Page, listening: socket.socket | None, view: Viewing, stop: threading.Event
) -> Iterator[None]:
    """Show the page for the length of a block, where someone asked for it."""
    if listening is None:
        yield
        return
    routes = page.routes(view, stop.is_set)
    with page.fed(), answering(listening, routes) as address:
        say(f"page: {address}")
        yield
