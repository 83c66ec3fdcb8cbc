"""Who is there: each process says so once a second, and what it says is gone soon after it is.

For people and for the live page. Nothing relies on it: a process that can't say that it is there
works all the same.
"""

from datetime import datetime
from typing import Final, Literal, Protocol

import msgspec

EXPIRES_S: Final = 5
"""Nobody is thought to be there who has been silent for so long."""


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """One process, in its own words."""

    kind: Literal["server", "trainer", "producer"]
    name: str
    """Its own alone: host, pid and start (`reco.process.process_name`)."""
    host: str
    pid: int
    started_at: datetime
    at: datetime
    """When this was said."""
    rate_per_s: float
    """Visits decided, outcomes applied or visits confirmed, over the last second."""
    counts: dict[str, int]
    not_ready: list[str]
    """Why not; empty if it is ready."""
    partitions: list[int]
    """Those of `visits` (server) or `outcomes` (trainer) that are its own."""
    positions: dict[int, int]
    """Next offset of each outcomes partition: in the view (server), in the store (trainer)."""
    lag: int | None = None
    """Records of its partitions not dealt with yet; None if the broker did not say."""
    view_age_s: float | None = None
    stale: bool | None = None
    policy: str | None = None
    delivery: str | None = None
    experiment: str | None = None
    """Name of the one that a server runs."""
    stream: bool | None = None
    """Whether a server decides the visits of the topic; None of who is none, or older than this."""


class Board(Protocol):
    """Where processes say that they are there. Both may raise `StoreUnavailable`."""

    def announce(self, presence: Presence) -> None:
        """Say it; it stands for `EXPIRES_S`."""

    def present(self) -> list[Presence]:
        """Everyone who is there, by kind and name. What can't be read is left out."""

    def withdraw(self, name: str) -> None:
        """Leave."""

    def close(self) -> None: ...


def in_order(presences: list[Presence]) -> list[Presence]:
    """By kind and name."""
    return sorted(presences, key=lambda each: (each.kind, each.name))
