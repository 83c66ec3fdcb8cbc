"""Slates that nobody got to see are withdrawn, however long the window can't be reached."""

import asyncio
import logging
from collections.abc import Iterable
from itertools import islice
from typing import Final

from shared.ports import StoreUnavailable
from shared.reward_window import Attempt, RewardWindow

EVERY_S: Final = 0.25
MOST: Final = 100_000
"""Attempts to be withdrawn at once, some 20 MB; beyond it nothing more may be opened."""
_TOGETHER: Final = 1_000
LAST_TRY_S: Final = 2.0

_log = logging.getLogger(__name__)


class Withdrawals:
    """Attempts whose slates nobody saw, until the window has forgotten them.

    A store that hung may carry out an `open` that it was sent long before, though the request was
    turned away meanwhile: the decision would wait for a click that can't come. So an attempt is
    withdrawn again and again until the store has answered.

    Args:
        window: what is to forget them.
    """

    def __init__(self, window: RewardWindow) -> None:
        self._window = window
        self._pending: dict[Attempt, None] = {}
        self._telling: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """Whether there is no room left to withdraw what would be opened now."""
        return len(self._pending) >= MOST

    def add(self, attempts: Iterable[Attempt]) -> None:
        """Withdraw these: nobody will be answered with them."""
        self._pending.update(dict.fromkeys(attempts))
        if self._telling is None or self._telling.done():
            self._telling = asyncio.ensure_future(self._tell())

    async def settle(self) -> None:
        """Try for `LAST_TRY_S` more; what is still open then ends with its window."""
        if self._telling is not None:
            await asyncio.wait({self._telling}, timeout=LAST_TRY_S)
            self._telling.cancel()
        if self._pending:
            _log.warning(
                "%d slates that nobody saw could not be withdrawn; they will count as not clicked",
                len(self._pending),
            )

    async def _tell(self) -> None:
        while self._pending:
            some = list(islice(self._pending, _TOGETHER))
            try:
                await self._window.withdraw(some)
            except StoreUnavailable:
                await asyncio.sleep(EVERY_S)
            else:
                for attempt in some:
                    self._pending.pop(attempt)
