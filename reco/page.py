"""The live page of a serving process: its feed, and the thread that reads along."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.routing import Route

from reco.live import Tail
from server.live import live_routes
from server.live_feed import LiveFeed
from server.live_state import Hidden
from server.model_view import ModelView
from server.scorer import Policy
from shared.catalogue import DataSet
from shared.kafka import KafkaCluster
from shared.live_catalogue import LiveCatalogue
from shared.ports import StateStore
from shared.presence import Board


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
        catalogue: the products as they are now.
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
        catalogue: LiveCatalogue,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._data = data
        self._policy = policy
        self._partitions = partitions
        self._hidden = hidden
        self._board = board
        self._catalogue = catalogue
        self._feed: LiveFeed | None = None

    def advanced(self, partition: int, next_offset: int) -> None:
        """The view has moved on; to be called from its own thread."""
        if self._feed:
            self._feed.advanced(partition, next_offset)

    def routes(self, view: ModelView, stopping: Callable[[], bool]) -> list[Route]:
        """What answers for the page, over this view."""
        self._feed = LiveFeed(
            view,
            self._policy,
            self._data,
            self._partitions,
            self._hidden,
            time.time,
            self._catalogue,
        )
        return live_routes(self._feed, lambda: view.ready, stopping)

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
