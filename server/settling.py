"""Which visits the page's rates count: those whose reaction would be known, whatever it was. Pure.

Over HTTP a click is known at once, and that there is none only when its window ends. Until then the
rate of all that is known would be that of the clicks. So a visit is held back until one that was
decided later is known to be without a click: windows end in the order of their decisions. What was
decided before this server began to look is left out: its clicks may have gone by unseen.
"""

import heapq
from collections import deque
from typing import Final, NamedTuple

from server.sample import is_among
from shared.events import Decision

MOST_HELD: Final = 20_000
"""Visits held back at most, about 5 MB; where there are more, every second is left out, or every
second of these, …, by a hash of its name: clicked or not."""


class Judged(NamedTuple):
    """A visit and its reaction, as the rates count it."""

    clicked: bool
    random: float
    best: float
    experiment: str | None
    variant: str | None
    visitor: str


class Settling:
    """Passes on what may be counted, once it may."""

    def __init__(self) -> None:
        self._ready: deque[Judged] = deque()
        self._held: list[tuple[float, str, Judged]] = []
        """A heap, earliest decision first."""
        self._one_in = 1
        self.forget()

    def forget(self) -> None:
        """Begin anew: part of the log was left out."""
        self._held.clear()
        self._one_in = 1
        self._since_s: float | None = None
        self._until_s = float("-inf")

    def add(self, decision: Decision, resolved_s: float, judged: Judged) -> None:
        """One visit whose reaction is known.

        Args:
            decision: what was decided; its time is one with a zone.
            resolved_s: when the reaction was known, seconds since 1970.
            judged: what to count.
        """
        if decision.via != "http":  # a click or none are known alike, at once
            self._ready.append(judged)
            return
        decided_s = decision.decided_at.timestamp()
        self._since_s = resolved_s if self._since_s is None else self._since_s
        if not judged.clicked:
            self._until_s = max(self._until_s, decided_s)
        if decided_s >= self._since_s and is_among(decision.decision_id, self._one_in):
            heapq.heappush(self._held, (decided_s, decision.decision_id, judged))
        if len(self._held) > MOST_HELD:
            self._one_in *= 2
            self.thin(self._one_in)

    def thin(self, one_in: int) -> None:
        """Of what is held back keep one in so many: of those to come no more will be known."""
        self._held = [each for each in self._held if is_among(each[1], one_in)]
        heapq.heapify(self._held)

    def settled(self) -> list[Judged]:
        """What may be counted since the last time."""
        while self._held and self._held[0][0] < self._until_s:
            self._ready.append(heapq.heappop(self._held)[2])
        found = [*self._ready]
        self._ready.clear()
        return found
