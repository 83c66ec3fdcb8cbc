"""The reward window: a decision waits for its click, and is resolved once. Pure, and a port.

    open ─▶ waiting ─┬─ click ────────▶ clicked ─┬─▶ outbox ─ Kafka has it ─▶ kept ─▶ forgotten
                     ├─ window's end ─▶ expired ─┘
                     └─ withdrawn: nobody saw it, so nothing came of it

Each arrow is one atomic step, whoever asks for it: in Redis a script (`shared.redis_window`), here
a method of `WindowModel`. A resolution enters the outbox in the same step that decides it, so it
outlives the replica that decided.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Final, NamedTuple, Protocol

import msgspec

from shared.cascade import cascade, outcomes_of
from shared.events import Decision, Outcome


class Waiting(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A decision with what is needed to resolve it on any replica."""

    decision: Decision
    request: str
    """Fingerprint of the request: a retry is the same request with the same decision_id."""
    depth: int
    """How many ranks were examined if no click comes."""
    trace: str = ""
    """`traceparent` of its request, for the records that come of it."""


class Attempt(NamedTuple):
    """Names one attempt to let a decision wait."""

    decision_id: str
    attempt: str
    """Different for each: a decision that a second one was answered with is not withdrawn."""


class Opening(NamedTuple):
    """One attempt to let a decision wait."""

    waiting: Waiting
    attempt: str

    @property
    def name(self) -> Attempt:
        """What it is withdrawn by."""
        return Attempt(self.waiting.decision.decision_id, self.attempt)


class Refused(Enum):
    """Why a decision does not wait."""

    FULL = "full"
    REUSED = "reused"
    """The decision_id belongs to another request."""
    WITHDRAWN = "withdrawn"
    """This attempt was given up before it arrived."""


class Click(NamedTuple):
    """A shopper clicked this product of this decision."""

    decision_id: str
    product_id: int
    trace: str = ""
    """`traceparent`, if it came with one; kept with what it resolves."""


class Answer(Enum):
    """What became of a click."""

    COUNTED = "counted"
    AGAIN = "again"
    """The same click once more: the same answer, counted once."""
    OTHER = "other"
    """The decision was resolved by a click on another product."""
    LATE = "late"
    UNKNOWN = "unknown"
    NOT_ON_SLATE = "not-on-slate"


class Resolution(msgspec.Struct, frozen=True):
    """What came of a decision."""

    waiting: Waiting
    clicked_rank: int | None
    """From 1 on; None: the window ended without a click."""
    resolved_ms: int
    """The store's clock, milliseconds since 1970."""
    acknowledged: bool = False
    """Kafka has the decision and its outcomes."""
    click_trace: str = ""
    """Of the click that resolved it."""

    @property
    def resolved_at(self) -> datetime:
        """`resolved_ms` as events have it."""
        return datetime.fromtimestamp(self.resolved_ms / 1e3, UTC)


class Clicked(NamedTuple):
    """The answer to a click, and the resolution where there is one."""

    answer: Answer
    resolution: Resolution | None = None


class Found(NamedTuple):
    """What the window holds of a decision."""

    waiting: Waiting
    due_ms: int | None
    """End of the window while it is open."""
    resolution: Resolution | None


class Load(NamedTuple):
    """How much the window holds."""

    waiting: int
    outbox: int
    kept: int


class WindowRules(NamedTuple):
    """The limits of a window; all replicas of a model should have the same."""

    window_ms: int = 30_000
    keep_ms: int = 600_000
    """How long a resolved decision is kept to answer repeats."""
    lease_ms: int = 15_000
    """How long a resolution belongs to one replica to be published."""
    most_waiting: int = 200_000
    """Decisions waiting at once; beyond it new ones are refused."""
    most_kept: int = 200_000
    """Resolved decisions kept at once; beyond it the oldest are forgotten early."""


class RewardWindow(Protocol):
    """Where decisions wait. Every method may raise `StoreUnavailable`.

    All of it may be sent again: an attempt that is opened twice is open once, a click repeated is
    answered `AGAIN`.
    """

    def names(self, count: int) -> list[str]:
        """Unique decision_ids for so many new decisions: one batch of `open` at the least cost."""

    async def open(self, openings: Sequence[Opening]) -> list[Waiting | Refused]:
        """Let decisions wait; one that waits or was resolved already is returned as it was."""

    async def withdraw(self, attempts: Sequence[Attempt]) -> None:
        """Nobody saw the answers of these attempts: forget them, or refuse them if they are yet to
        arrive. What another attempt was answered with stays."""

    async def click(self, clicks: Sequence[Click]) -> list[Clicked]:
        """Resolve by clicks; those that resolve are leased to the caller, to publish."""

    async def find(self, decision_id: str) -> Found | None:
        """What is known of a decision."""

    async def take(self, limit: int) -> list[Resolution]:
        """End the windows that are due, and lease what waits in the outbox, to publish."""

    async def acknowledge(self, decision_ids: Sequence[str]) -> None:
        """These are in Kafka: out of the outbox; kept for a while to answer repeats."""

    async def load(self) -> Load:
        """How much there is."""

    async def close(self) -> None:
        """Let go of the connections."""


WAITING: Final = "w"
CLICKED: Final = "c"
EXPIRED: Final = "z"
WITHDRAWN: Final = "x"
ANSWERED: Final = "-"
"""In the place of the attempt's name: several attempts were answered."""


class _Entry(msgspec.Struct):
    waiting: Waiting | None
    kind: str
    attempt: str = ""
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
            if entry.attempt != opening.attempt:
                entry.attempt = ANSWERED
            return entry.waiting
        if entry and entry.attempt == opening.attempt:
            return Refused.WITHDRAWN
        if len(self._due) >= self._rules.most_waiting:
            return Refused.FULL
        self._entries[decision_id] = _Entry(opening.waiting, WAITING, opening.attempt)
        self._due[decision_id] = now_ms + self._rules.window_ms
        self._kept.pop(decision_id, None)
        return opening.waiting

    def withdraw(self, withdrawn: Attempt, now_ms: int) -> None:
        """See `RewardWindow.withdraw`."""
        decision_id, attempt = withdrawn
        entry = self._entries.get(decision_id)
        ours = entry and entry.kind == WAITING and entry.attempt == attempt
        if entry and entry.waiting and not ours:
            return
        self._due.pop(decision_id, None)
        self._entries[decision_id] = _Entry(None, WITHDRAWN, attempt)
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

    def acknowledge(self, decision_id: str, now_ms: int) -> None:
        """See `RewardWindow.acknowledge`."""
        if self._outbox.pop(decision_id, None) is not None:
            self._entries[decision_id].acknowledged = True
            self._kept[decision_id] = now_ms + self._rules.keep_ms

    @property
    def load(self) -> Load:
        """See `RewardWindow.load`."""
        return Load(len(self._due), len(self._outbox), len(self._kept))

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


def learned(resolution: Resolution) -> list[Outcome]:
    """The cascade's outcomes: the same bytes whoever computes them, and however often."""
    decision, depth = resolution.waiting.decision, resolution.waiting.depth
    rewards = cascade(resolution.clicked_rank, len(decision.slate), depth)
    return outcomes_of(decision, rewards, resolution.resolved_at)


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
