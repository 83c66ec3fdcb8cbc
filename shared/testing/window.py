"""The fake of the reward window: `WindowModel` behind the port, with faults."""

import uuid
from collections.abc import Sequence

from shared.ports import StoreUnavailable
from shared.reward_window import (
    Attempt,
    Click,
    Clicked,
    Found,
    Load,
    Opening,
    Refused,
    Resolution,
    Waiting,
    WindowRules,
)
from shared.window_model import WindowModel


class FakeWindow:
    """`shared.reward_window.RewardWindow` in memory; several replicas may share one.

    Faults: `available = False`; `lose_replies` (it is done, but the answer is lost).
    """

    def __init__(self, rules: WindowRules) -> None:
        self.available = True
        self.lose_replies = 0
        self.put_aside = 0
        self.now_ms = 1_790_000_000_000
        self.model = WindowModel(rules)

    def names(self, count: int) -> list[str]:
        """See `RewardWindow.names`."""
        return [uuid.uuid4().hex for _ in range(count)]

    async def open(self, openings: Sequence[Opening]) -> list[Waiting | Refused]:
        """See `RewardWindow.open`."""
        self._check()
        answers = [self.model.open(opening, self.now_ms) for opening in openings]
        self._reply()
        return answers

    async def withdraw(self, attempts: Sequence[Attempt]) -> None:
        """See `RewardWindow.withdraw`."""
        self._check()
        for attempt in attempts:
            self.model.withdraw(attempt, self.now_ms)

    async def click(self, clicks: Sequence[Click]) -> list[Clicked]:
        """See `RewardWindow.click`."""
        self._check()
        answers = [self.model.click(click, self.now_ms) for click in clicks]
        self._reply()
        return answers

    async def find(self, decision_id: str) -> Found | None:
        """See `RewardWindow.find`."""
        self._check()
        return self.model.find(decision_id)

    async def take(self, limit: int) -> list[Resolution]:
        """See `RewardWindow.take`."""
        self._check()
        taken = self.model.take(limit, self.now_ms)
        self._reply()
        return taken

    async def acknowledge(self, decision_ids: Sequence[str]) -> list[str]:
        """See `RewardWindow.acknowledge`."""
        self._check()
        return [each for each in decision_ids if self.model.acknowledge(each, self.now_ms)]

    async def load(self) -> Load:
        """See `RewardWindow.load`."""
        self._check()
        return self.model.load

    async def close(self) -> None:
        """See `RewardWindow.close`."""

    def _check(self) -> None:
        if not self.available:
            raise StoreUnavailable("the fake window is away")

    def _reply(self) -> None:
        if self.lose_replies:
            self.lose_replies -= 1
            raise StoreUnavailable("the fake window's reply was lost")
