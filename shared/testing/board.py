"""The board of presences, in memory."""

from collections.abc import Callable

from shared.ports import StoreUnavailable
from shared.presence import EXPIRES_S, Presence, in_order


class FakeBoard:
    """`shared.presence.Board` in memory. Fault: `available = False`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.available = True
        self._clock = clock
        self._said: dict[str, tuple[float, Presence]] = {}

    def announce(self, presence: Presence) -> None:
        """See `Board.announce`."""
        self._check()
        self._said[presence.name] = (self._clock(), presence)

    def present(self) -> list[Presence]:
        """See `Board.present`."""
        self._check()
        now_s = self._clock()
        return in_order([said for at_s, said in self._said.values() if now_s - at_s < EXPIRES_S])

    def withdraw(self, name: str) -> None:
        """See `Board.withdraw`."""
        self._check()
        self._said.pop(name, None)

    def close(self) -> None:
        """See `Board.close`."""

    def _check(self) -> None:
        if not self.available:
            raise StoreUnavailable("the fake board is away")
