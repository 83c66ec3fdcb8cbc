"""The thread that keeps the model's view up to date beside the serving."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from server.model_view import ModelView, WrongModel
from shared.health import Heartbeat
from shared.live_catalogue import LiveCatalogue
from shared.ports import BrokerUnavailable, CorruptState, LogTruncated
from shared.products_feed import ProductsFeed

if TYPE_CHECKING:  # brings scipy.linalg, for the policies whose arms learn from each other
    from server.joint_solver import JointSolver

_log = logging.getLogger(__name__)

FOLLOW_S: Final = 0.1

STUCK_AFTER_S: Final = 300.0
"""Longer than a round that reads all of a large model anew from a store that is slow."""


class NoView(Exception):
    """No whole model could be read in time; the message says why."""


class Follower(threading.Thread):
    """Keeps the view up to date beside the serving, so that serving never waits for the store.

    Args:
        view: what is kept up to date.
        stop: set to end it.
        products: which products are ranked, where that changes while it runs.
        solver: makes what solves these products of the catalogue together, if the policy is one
            that does.
        leads: whether it reads the products' changes itself. Where several followers share a
            catalogue one does, so none ranks a product that the catalogue does not name yet.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        view: ModelView,
        stop: threading.Event,
        products: ProductsFeed | None = None,
        solver: Callable[
            [LiveCatalogue, Sequence[int]], "JointSolver | None"
        ] = lambda catalogue, arms: None,
        leads: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="view", daemon=True)
        self.failure = ""
        self.heartbeat = Heartbeat(clock, STUCK_AFTER_S, "the loop that follows the model")
        """Of its rounds, from the first whole view on."""
        self.view: Final = view
        self._stopping = stop
        self._products = products
        self._solver = solver
        self._leads = leads
        self._version = products.catalogue.version if products else 0

    def run(self) -> None:
        """Follow until stopped, or until the store turns out to hold another model."""
        try:
            while not self._stopping.is_set():
                self._follow_products()
                self.view.refresh(FOLLOW_S)
                if self.view.ready:
                    self.heartbeat.beat()
                if self.view.error:
                    self._stopping.wait(FOLLOW_S)
        except (WrongModel, CorruptState) as error:
            self.failure = str(error)
        except Exception as error:  # serving would go on for ever with what it has
            _log.exception("the model can't be followed")
            self.failure = f"the model can't be followed: {error!r}"
        finally:
            self.heartbeat.rest()
            self._stopping.set()
            self.view.close()

    def _follow_products(self) -> None:
        if self._products is None:
            return
        try:
            if self._leads:
                self._products.follow()
        except (BrokerUnavailable, LogTruncated) as error:
            _log.debug("the catalogue stays as it is: %s", error)
        catalogue = self._products.catalogue
        if catalogue.version != self._version:
            self._version = catalogue.version
            arms = catalogue.arms  # once: who leads may change the catalogue at any moment
            self.view.rank_these(arms, self._solver(catalogue, arms))

    def await_view(self, patience_s: float) -> bool:
        """Wait for the first whole view; False if the process is stopped before.

        Raises:
            NoView: it did not come in time.
        """
        deadline_s = time.monotonic() + patience_s
        while not self.view.ready and not self._stopping.is_set():
            if time.monotonic() > deadline_s:
                raise NoView(f"no model to serve: {self.view.error}")
            self._stopping.wait(0.01)
        return self.view.ready and not self._stopping.is_set()
