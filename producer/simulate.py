"""Simulated shoppers: who visits when, as a pure function of seed and number."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Final

from shared.catalogue import User
from shared.events import Context, Visit

_MONDAY: Final = datetime(2026, 1, 5)  # noqa: DTZ001 (the shop's own clock has no zone)
_MINUTES: Final = 4 * 7 * 24 * 60


class Shoppers:
    """Visits in any order: number `index` is the same whenever it is asked for.

    A uniformly drawn user comes at a uniformly drawn minute of four weeks.

    Args:
        users: who may come.
        seed: which visits; another seed gives others.
        run_id: tells the visits of one run from those of another with the same seed.

    Raises:
        ValueError: there are no users.
    """

    def __init__(self, users: Sequence[User], seed: int, run_id: str) -> None:
        if not users:
            raise ValueError("there are no users to simulate")
        self._users = users
        self._run_id = run_id
        self._key = seed.to_bytes(16, "little")

    def visit_id(self, index: int) -> str:
        """The id of visit number `index`."""
        return f"{self._run_id}-{index:07d}"

    def visit(self, index: int, emitted_at: datetime) -> Visit:
        """Visit number `index`, emitted at this real time."""
        digest = blake2b(index.to_bytes(8, "little"), digest_size=16, key=self._key).digest()
        user = self._users[int.from_bytes(digest[:8], "little") % len(self._users)]
        minute = int.from_bytes(digest[8:], "little") % _MINUTES
        return Visit(
            visit_id=self.visit_id(index),
            user_id=user.user_id,
            context=Context(
                age=user.age,
                gender=user.gender,
                latitude=user.latitude,
                longitude=user.longitude,
                traffic_source=user.traffic_source,
                occurred_at=_MONDAY + timedelta(minutes=minute),
            ),
            emitted_at=emitted_at,
        )
