"""The thread that keeps the model's view up to date beside the serving."""

import threading
import time
from typing import Final

from server.model_view import ModelView, WrongModel
from shared.arm_statistics import CorruptRow
from shared.ports import CorruptState

FOLLOW_S: Final = 0.1


class NoView(Exception):
    """No whole model could be read in time; the message says why."""


class Follower(threading.Thread):
    """Keeps the view up to date beside the serving, so that serving never waits for the store."""

    def __init__(self, view: ModelView, stop: threading.Event) -> None:
        super().__init__(name="view", daemon=True)
        self.failure = ""
        self._view = view
        self._stopping = stop

    def run(self) -> None:
        """Follow until stopped, or until the store turns out to hold another model."""
        try:
            while not self._stopping.is_set():
                self._view.refresh(FOLLOW_S)
                if self._view.error:
                    self._stopping.wait(FOLLOW_S)
        except (WrongModel, CorruptRow, CorruptState) as error:
            self.failure = str(error)
            self._stopping.set()
        finally:
            self._view.close()

    def await_view(self, patience_s: float) -> bool:
        """Wait for the first whole view; False if the process is stopped before.

        Raises:
            NoView: it did not come in time.
        """
        deadline_s = time.monotonic() + patience_s
        while not self._view.ready and not self._stopping.is_set():
            if time.monotonic() > deadline_s:
                raise NoView(f"no model to serve: {self._view.error}")
            self._stopping.wait(0.01)
        return self._view.ready and not self._stopping.is_set()
