"""The reward window in memory: the state machine that the scripts in Redis must be. Pure.

The fake of the window and the chaos tests run on it, and the contract suite holds Redis to it.
"""

import msgspec

from shared.reward_window import (
    CLICKED,
    EXPIRED,
    WAITING,
    WITHDRAWN,
    Answer,
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


class _Entry(msgspec.Struct):
    waiting: Waiting | None
    kind: str
    live: list[str] = []
    """Attempts that were answered with it, while it waits …"""
    gone: list[str] = []
    """… and those that were withdrawn, whether they have arrived or not."""
    clicked_rank: int = 0
    resolved_ms: int = 0
    acknowledged: bool = False
    click_trace: str = ""


class WindowModel:
    """The window in memory: what the scripts in Redis must do, to the letter.

    Args:
        rules: limits.
    """

    def __init__(self, rules: WindowRules) -> None:
        self._rules = rules
        self._entries: dict[str, _Entry] = {}
        self._due: dict[str, int] = {}
        self._outbox: dict[str, int] = {}
        self._kept: dict[str, int] = {}

    def open(self, opening: Opening, now_ms: int) -> Waiting | Refused:
        """See `RewardWindow.open`."""
        decision_id = opening.waiting.decision.decision_id
        entry = self._entries.get(decision_id)
        if entry and entry.waiting:
            if entry.waiting.request != opening.waiting.request:
                return Refused.REUSED
            if entry.kind == WAITING and opening.attempt not in entry.live:
                if self._refuses(entry, opening.attempt):
                    return Refused.WITHDRAWN
                entry.live.append(opening.attempt)
            return entry.waiting
        if entry and self._refuses(entry, opening.attempt):
            return Refused.WITHDRAWN
        if len(self._due) + len(self._outbox) >= self._rules.most_waiting:
            return Refused.FULL
        gone = entry.gone if entry else []
        self._entries[decision_id] = _Entry(opening.waiting, WAITING, [opening.attempt], gone)
        self._due[decision_id] = now_ms + self._rules.window_ms
        self._kept.pop(decision_id, None)
        return opening.waiting

    def withdraw(self, withdrawn: Attempt, now_ms: int) -> None:
        """See `RewardWindow.withdraw`."""
        decision_id, attempt = withdrawn
        entry = self._entries.get(decision_id) or _Entry(None, WITHDRAWN)
        if entry.kind in (CLICKED, EXPIRED):
            return
        if attempt in entry.live:
            entry.live.remove(attempt)
        if not self._refuses(entry, attempt):
            entry.gone.append(attempt)
        if entry.live:
            return
        self._due.pop(decision_id, None)
        self._entries[decision_id] = _Entry(None, WITHDRAWN, gone=entry.gone)
        self._kept[decision_id] = now_ms + self._rules.keep_ms

    def click(self, click: Click, now_ms: int) -> Clicked:
        """See `RewardWindow.click`."""
        entry = self._entries.get(click.decision_id)
        if entry is None or entry.waiting is None:
            return Clicked(Answer.UNKNOWN)
        slate = [item.product_id for item in entry.waiting.decision.slate]
        if click.product_id not in slate:
            return Clicked(Answer.NOT_ON_SLATE)
        rank = slate.index(click.product_id) + 1
        if entry.kind == WAITING:
            if self._due[click.decision_id] > now_ms:
                self._resolve(click.decision_id, rank, now_ms, now_ms + self._rules.lease_ms)
                entry.click_trace = click.trace
                return Clicked(Answer.COUNTED, _resolution(entry))
            self._expire(click.decision_id)
        if entry.kind == EXPIRED:
            return Clicked(Answer.LATE, _resolution(entry))
        answer = Answer.AGAIN if entry.clicked_rank == rank else Answer.OTHER
        return Clicked(answer, _resolution(entry))

    def find(self, decision_id: str) -> Found | None:
        """See `RewardWindow.find`."""
        entry = self._entries.get(decision_id)
        if entry is None or entry.waiting is None:
            return None
        return Found(entry.waiting, self._due.get(decision_id), _resolution(entry))

    def take(self, limit: int, now_ms: int) -> list[Resolution]:
        """See `RewardWindow.take`."""
        for decision_id in _first(self._due, now_ms, limit):
            self._expire(decision_id)
        self._forget(limit, now_ms)
        taken = _first(self._outbox, now_ms, limit)
        for decision_id in taken:
            self._outbox[decision_id] = now_ms + self._rules.lease_ms
        resolutions = [_resolution(self._entries[decision_id]) for decision_id in taken]
        return [resolution for resolution in resolutions if resolution]

    def acknowledge(self, decision_id: str, now_ms: int) -> bool:
        """See `RewardWindow.acknowledge`; returns whether it was in the outbox."""
        if self._outbox.pop(decision_id, None) is None:
            return False
        self._entries[decision_id].acknowledged = True
        self._kept[decision_id] = now_ms + self._rules.keep_ms
        return True

    @property
    def load(self) -> Load:
        """See `RewardWindow.load`."""
        return Load(len(self._due), len(self._outbox), len(self._kept))

    def _refuses(self, entry: _Entry, attempt: str) -> bool:
        known = len(entry.live) + len(entry.gone)
        return attempt in entry.gone or known >= self._rules.most_attempts

    def _expire(self, decision_id: str) -> None:
        self._resolve(decision_id, 0, self._due[decision_id], 0)

    def _resolve(self, decision_id: str, rank: int, at_ms: int, leased_until_ms: int) -> None:
        del self._due[decision_id]
        entry = self._entries[decision_id]
        entry.kind = CLICKED if rank else EXPIRED
        entry.clicked_rank, entry.resolved_ms = rank, at_ms
        self._outbox[decision_id] = leased_until_ms

    def _forget(self, limit: int, now_ms: int) -> None:
        excess = min(len(self._kept) - self._rules.most_kept, limit)
        old = _first(self._kept, now_ms, limit)
        for decision_id in {*old, *_first(self._kept, None, max(excess, 0))}:
            del self._kept[decision_id], self._entries[decision_id]


def _first(times: dict[str, int], until_ms: int | None, limit: int) -> list[str]:
    """The earliest, as a sorted set gives them: by time, then by name."""
    ordered = sorted((at, name) for name, at in times.items())
    return [name for at, name in ordered if until_ms is None or at <= until_ms][:limit]


def _resolution(entry: _Entry) -> Resolution | None:
    if entry.waiting is None or entry.kind not in (CLICKED, EXPIRED):
        return None
    return Resolution(
        entry.waiting,
        entry.clicked_rank or None,
        entry.resolved_ms,
        entry.acknowledged,
        entry.click_trace,
    )
