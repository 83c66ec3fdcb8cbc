"""What a service says of its own health, and how that becomes an answer over HTTP. Pure."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec

Reasons: TypeAlias = Sequence[str]
"""Why not; empty if all is well."""

STUCK_AFTER_S: Final = 60.0
"""Longer than any round of a loop may take, waiting for a broker that is away included."""


class Health(NamedTuple):
    """What to ask a service."""

    not_alive: Callable[[], Reasons]
    """Why it has to be started anew: it does not get on, whatever may come."""
    not_ready: Callable[[], Reasons]
    """Why it should get no work just now."""


class Answer(NamedTuple):
    """Of `/livez` and `/readyz`."""

    status: int
    body: bytes


def answer(reasons: Reasons) -> Answer:
    """200 `{"ok": true, "reasons": []}`, or 503 and why not."""
    body = msgspec.json.encode({"ok": not reasons, "reasons": list(reasons)})
    return Answer(503 if reasons else 200, body)


class Heartbeat:
    """Tells a loop that waits from one that is stuck.

    Args:
        clock: monotonic seconds.
        stuck_after_s: longer than any round of it may take.
        loop: which one, for people.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        stuck_after_s: float = STUCK_AFTER_S,
        loop: str = "the loop",
    ) -> None:
        self._clock = clock
        self._stuck_after_s = stuck_after_s
        self._loop = loop
        self._beat_s: float | None = None

    def beat(self) -> None:
        """The loop has come round."""
        self._beat_s = self._clock()

    def rest(self) -> None:
        """The loop is over, as it should be."""
        self._beat_s = None

    def not_alive(self) -> list[str]:
        """See `Health.not_alive`; a loop that has not begun, or is over, is not stuck."""
        beat_s = self._beat_s
        if beat_s is None:
            return []
        silent_s = self._clock() - beat_s
        if silent_s <= self._stuck_after_s:
            return []
        return [f"{self._loop} has not come round for {silent_s:.0f} s"]
