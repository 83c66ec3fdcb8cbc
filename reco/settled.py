"""Which decisions of a log count: those whose reaction would be known, whatever it was. Pure.

A click is known at once, and that there is none only when the window ends. Whoever counts all that
is known counts the latest clicks without the visits of the same time that come to nothing. So of
each way of asking (`Decision.via`), only what was decided before the oldest decision that is still
open counts:

- One in the log without an outcome is open, unless it has had as much time as any other took to end
  without a click: then it is lost, and holds up nothing.
- Over HTTP a decision enters the log when it is resolved (infra/adr/0012-the-reward-window.md), so
  the open ones can't be seen. But windows end in the order of their decisions: all that were made
  before the newest one known to be without a click have had their time.

At the log's old end, retention deletes the outcomes of one decision at different times, since they
lie in different partitions: its zeros may still be there when its click is gone. So a decision
counts only if none of its outcomes can have been deleted (`lies_before`).
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from shared.events import Decision, Outcome

OPEN: Final = "no outcome yet"
DELETED: Final = "outcomes of which some may have been deleted"
EARLY: Final = "an outcome that is known before that of others of the same time"


class _End(NamedTuple):
    clicked: bool
    resolved_at: datetime


def moment(said: datetime) -> datetime:
    """One without a zone is taken for UTC: whoever writes on the topic may have left it out."""
    return said if said.tzinfo else said.replace(tzinfo=UTC)


def lies_before(decision: Decision, offsets: Mapping[int, int]) -> bool:
    """Whether an outcome of the decision may lie before these offsets of the outcomes' partitions.

    What comes of a decision is published after it was made, so behind all that its view has seen.
    That is certain without a clock, and for a partition that holds no record any more too.
    """
    view = decision.view
    return any(
        (view[partition] if partition < len(view) else 0) < offset
        for partition, offset in offsets.items()
    )


def left_out(
    decisions: Iterable[Decision],
    outcomes: Iterable[Outcome],
    starts: Mapping[int, int] | None = None,
) -> dict[str, str]:
    """The decisions that don't count, by decision_id → why: `DELETED`, `OPEN` or `EARLY`.

    Args:
        decisions: all that are known.
        outcomes: all that are known of these.
        starts: first offset that the outcomes' log still holds, by partition; None if it is whole.
    """
    decisions = list(decisions)
    gone = {made.decision_id for made in decisions if lies_before(made, starts or {})}
    ends: dict[str, _End] = {}
    for outcome in outcomes:
        key, clicked = outcome.decision_id, outcome.reward > 0.0
        resolved_at = moment(outcome.resolved_at)
        if before := ends.get(key):
            clicked, resolved_at = clicked or before.clicked, max(resolved_at, before.resolved_at)
        ends[key] = _End(clicked, resolved_at)
    by_way: dict[str, list[Decision]] = {}
    for decision in decisions:
        if decision.decision_id not in gone:
            by_way.setdefault(decision.via, []).append(decision)
    reasons = dict.fromkeys(gone, DELETED)
    for via, found in by_way.items():
        until = _settled_until(via, found, ends)
        for decision in found:
            if decision.decision_id not in ends:
                reasons[decision.decision_id] = OPEN
            elif until is not None and moment(decision.decided_at) >= until:
                reasons[decision.decision_id] = EARLY
    return reasons


def _settled_until(
    via: str, decisions: list[Decision], ends: Mapping[str, _End]
) -> datetime | None:
    """When the oldest decision was made that may still be open; None if none is."""
    made = [(moment(d.decided_at), ends.get(d.decision_id)) for d in decisions]
    resolved = [end.resolved_at for _, end in made if end]
    known_at = max([*resolved, *(at for at, _ in made)])
    silent = [(at, end.resolved_at) for at, end in made if end and not end.clicked]
    longest = max((resolved_at - at for at, resolved_at in silent), default=timedelta.max)
    waiting = [at for at, end in made if end is None and known_at - at < longest]
    if via == "http":
        first = min(at for at, _ in made)
        waiting.append(max((at for at, _ in silent), default=first))
    return min(waiting, default=None)
