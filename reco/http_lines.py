"""What the API has decided and what came of it, on its way to the log.

The API's thread only hands over what there is still room for; who reports puts it into words.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple, Protocol, TypeAlias

from server.api_types import RankRequest
from shared.events import Decision
from shared.reward_window import (
    Answer,
    Click,
    Clicked,
    Found,
    Load,
    Opening,
    Refused,
    Resolution,
    RewardWindow,
    Waiting,
)


class Decided(NamedTuple):
    """A request, and what was shown."""

    request: RankRequest
    decision: Decision


Heard: TypeAlias = Decided | Resolution


class Totals(NamedTuple):
    """Of what was asked for over HTTP."""

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

    def clicked(self, answers: Sequence[Clicked]) -> None:
        """What became of clicks: those that resolved a decision are told."""
        if self._room > 0:
            counted = (each.resolution for each in answers if each.answer is Answer.COUNTED)
            self._hear(resolution for resolution in counted if resolution)

    def taken(self, resolutions: Sequence[Resolution]) -> None:
        """These windows have ended, or others left their resolutions behind."""
        if self._room > 0:
            self._hear(resolutions)

    def take(self, room: int) -> list[Heard]:
        """What was heard, at most `room`; for what is left of that more is heard from now on."""
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


class HeardWindow:
    """`RewardWindow` that tells what it resolves.

    Args:
        window: does it all.
        lines: told.
    """

    def __init__(self, window: RewardWindow, lines: HttpLines) -> None:
        self._window = window
        self._lines = lines

    def names(self, count: int) -> list[str]:
        """See `RewardWindow.names`."""
        return self._window.names(count)

    async def open(self, openings: Sequence[Opening]) -> list[Waiting | Refused]:
        """See `RewardWindow.open`."""
        return await self._window.open(openings)

    async def withdraw(self, openings: Sequence[Opening]) -> None:
        """See `RewardWindow.withdraw`."""
        await self._window.withdraw(openings)

    async def click(self, clicks: Sequence[Click]) -> list[Clicked]:
        """See `RewardWindow.click`."""
        answers = await self._window.click(clicks)
        self._lines.clicked(answers)
        return answers

    async def find(self, decision_id: str) -> Found | None:
        """See `RewardWindow.find`."""
        return await self._window.find(decision_id)

    async def take(self, limit: int) -> list[Resolution]:
        """See `RewardWindow.take`."""
        taken = await self._window.take(limit)
        self._lines.taken(taken)
        return taken

    async def acknowledge(self, decision_ids: Sequence[str]) -> None:
        """See `RewardWindow.acknowledge`."""
        await self._window.acknowledge(decision_ids)

    async def load(self) -> Load:
        """See `RewardWindow.load`."""
        return await self._window.load()

    async def close(self) -> None:
        """See `RewardWindow.close`."""
        await self._window.close()
