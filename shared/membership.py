"""Whether a consumer group has said which partitions are ours. Pure."""

from collections.abc import Callable
from typing import Final

PATIENCE_S: Final = 10.0
"""Longer than a group takes to divide its partitions anew while nothing is wrong."""


class Membership:
    """One member's; for any thread.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._has_been_told = False
        self._waiting_since_s: float | None = clock()

    def told(self) -> None:
        """The group has said which partitions are ours, none included."""
        self._has_been_told, self._waiting_since_s = True, None

    def waits(self) -> None:
        """They were taken away; the group will say which are ours from now on."""
        self._waiting_since_s = self._clock()

    @property
    def not_ready(self) -> list[str]:
        """Why there is nothing to serve although there may be enough to do; empty if not so."""
        since_s = self._waiting_since_s
        if since_s is None:
            return []
        if not self._has_been_told:
            return ["the group has assigned no partitions yet"]
        waited_s = self._clock() - since_s
        if waited_s <= PATIENCE_S:
            return []
        return [f"the group has been dividing its partitions for {waited_s:.0f} s"]
