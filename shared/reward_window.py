"""The reward window: a decision waits for its click, and is resolved once. Pure, and a port.

    open ─▶ waiting ─┬─ click ────────▶ clicked ─┬─▶ outbox ─ Kafka has it ─▶ kept ─▶ forgotten
                     ├─ window's end ─▶ expired ─┘
                     └─ withdrawn: nobody saw it, so nothing came of it

Each arrow is one atomic step, whoever asks for it: in Redis a script (`shared.redis_window`), in
memory a method of `shared.window_model.WindowModel`. A resolution enters the outbox in the same
step that decides it, so it outlives the replica that decided.
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
    """Different for each, without space or comma: a decision is forgotten when every attempt that
    was answered with it is withdrawn."""


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
    """This attempt was given up before it arrived, or may have been: there were too many."""
    UNREADABLE = "unreadable"
    """What is kept under this decision_id is not what this software wrote."""


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
    UNREADABLE = "unreadable"
    """What is kept of the decision is not what this software wrote: nothing comes of it."""


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
    """Decisions waiting at once, for their clicks or in the outbox; beyond it new ones are
    refused."""
    most_kept: int = 200_000
    """Resolved decisions kept at once; beyond it the oldest are forgotten early."""
    most_attempts: int = 300
    """Attempts at one decision that are remembered; beyond it all others are refused, as it could
    not be known which of them were withdrawn."""


class RewardWindow(Protocol):
    """Where decisions wait. Every method may raise `StoreUnavailable`.

    All of it may be sent again: an attempt that is opened twice is open once, a click repeated is
    answered `AGAIN`.
    """

    put_aside: int
    """Resolved decisions that could not be read, so far: nothing comes of them."""

    def names(self, count: int) -> list[str]:
        """Unique decision_ids for so many new decisions: one batch of `open` at the least cost."""

    async def open(self, openings: Sequence[Opening]) -> list[Waiting | Refused]:
        """Let decisions wait: those that begin to are returned themselves, the same objects. One
        that waits or was resolved already is returned as it was."""

    async def withdraw(self, attempts: Sequence[Attempt]) -> None:
        """Nobody saw the answers of these attempts: forget them, or refuse them if they are yet to
        arrive. What another attempt was answered with stays, until that is withdrawn as well."""

    async def click(self, clicks: Sequence[Click]) -> list[Clicked]:
        """Resolve by clicks; those that resolve are leased to the caller, to publish."""

    async def find(self, decision_id: str) -> Found | None:
        """What is known of a decision.

        Raises:
            CorruptState: it can't be read.
        """

    async def take(self, limit: int) -> list[Resolution]:
        """End the windows that are due, and lease what waits in the outbox, to publish. What can't
        be read there is put aside."""

    async def acknowledge(self, decision_ids: Sequence[str]) -> list[str]:
        """These are in Kafka: out of the outbox; kept for a while to answer repeats. Returns those
        that were in it: of a decision that was published twice, once."""

    async def load(self) -> Load:
        """How much there is."""

    async def close(self) -> None:
        """Let go of the connections."""


# A decision's state, as the scripts write it.
WAITING: Final = "w"
CLICKED: Final = "c"
EXPIRED: Final = "z"
WITHDRAWN: Final = "x"


def learned(resolution: Resolution) -> list[Outcome]:
    """The cascade's outcomes: the same bytes whoever computes them, and however often."""
    decision, depth = resolution.waiting.decision, resolution.waiting.depth
    rewards = cascade(resolution.clicked_rank, len(decision.slate), depth)
    return outcomes_of(decision, rewards, resolution.resolved_at)
