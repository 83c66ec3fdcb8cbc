"""What the API has decided and what came of it, on its way to the log.

The API's thread hands over only as much as the reporter has room for, and formats nothing.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple, Protocol, TypeAlias

from server.api_types import RankRequest
from shared.events import Decision
from shared.reward_window import Refused, Resolution, Waiting


class Decided(NamedTuple):
    """A request, and what was shown."""

    request: RankRequest
    decision: Decision


Heard: TypeAlias = Decided | Resolution


class Totals(NamedTuple):
    """What has been decided and clicked over HTTP so far."""

    decided: int
    clicked: int


class Told(Protocol):
    """What the API tells of itself."""

    @property
    def lines(self) -> "HttpLines": ...

    @property
    def totals(self) -> Totals: ...


class HttpLines:
    """Hands over as much as there is room for, from the API's thread to the reporter's."""

    def __init__(self) -> None:
        self._room = 0
        self._heard: deque[Heard] = deque()

    def decided(self, requests: Sequence[RankRequest], opened: Sequence[Waiting | Refused]) -> None:
        """These wait for their clicks, or were refused. On the hot path."""
        if self._room > 0:
            pairs = zip(requests, opened, strict=True)
            self._hear(Decided(r, each.decision) for r, each in pairs if isinstance(each, Waiting))

    def resolved(self, resolutions: Sequence[Resolution]) -> None:
        """These decisions were resolved."""
        if self._room > 0:
            self._hear(resolutions)

    def take(self, room: int) -> list[Heard]:
        """At most `room` of what was heard; what room is left may be filled until the next call."""
        heard = [self._heard.popleft() for _ in range(min(room, len(self._heard)))]
        if len(heard) == room:
            self._heard.clear()
        self._room = room - len(heard)
        return heard

    def _hear(self, heard: Iterable[Heard]) -> None:
        some = list(islice(heard, self._room))
        self._heard.extend(some)
        # If the reporter sets it just now, too much is heard; it takes no more than it may say.
        self._room -= len(some)
