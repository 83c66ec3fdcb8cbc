"""How long the view is held for one batch of visits: for scoring and ranking, and nothing else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from server.view import View, Viewing


class TimedView:
    """A view that measures. Stands where the view does (`server.view.Viewing`).

    Args:
        view: the view.
        clock: monotonic seconds.
        observe: told how long it was held, in seconds.
    """

    def __init__(
        self, view: Viewing, clock: Callable[[], float], observe: Callable[[float], None]
    ) -> None:
        self._view = view
        self._clock = clock
        self._observe = observe

    @contextmanager
    def locked(self) -> Iterator[View]:
        """See `Viewing.locked`."""
        with self._view.locked() as view:
            began_s = self._clock()
            yield view
            self._observe(self._clock() - began_s)
