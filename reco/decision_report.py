"""One logged decision: what was shown, what came of it, and what the logs give again. Pure."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from reco.event_files import outcomes_of
from reco.settled import lies_before
from shared.events import UNDECODABLE, Decision, Outcome, SlateItem, decode_decision, encode
from shared.live_catalogue import LiveCatalogue
from shared.ports import Record


class Shown(msgspec.Struct):
    """One rank of the slate."""

    rank: int
    product_id: int
    name: str
    score: float
    mean: float
    bonus: float
    propensity: float | None
    reward: float | None
    """1 if it was clicked, 0 if it was looked at and not; None if nothing is known of it."""


class Recomputed(msgspec.Struct):
    """What the logs give."""

    slate: list[int] | None
    """product_ids; None if it can't be computed again."""
    same: bool | None
    why_not: str | None
    """Why it can't be."""


class DecisionReport(msgspec.Struct):
    """What `reco inspect decision` shows."""

    decision: Decision
    """As it was logged."""
    slate: list[Shown]
    came_of_it: str
    """`clicked`, `not clicked`, `open` (no outcome is in the log), or `unknown`: no click is in the
    log, and one of those that are not there may have been deleted."""
    recomputed: Recomputed


def find_decision(records: Iterable[Record], decision_id: str) -> Decision | None:
    """The first decision of this name among the records of the topic; None if there is none."""
    name = _as_written(decision_id)
    for record in records:
        if name not in (record.value or b""):  # far cheaper than to decode it
            continue
        try:
            decision = decode_decision(record.value or b"")
        except UNDECODABLE:
            continue
        if decision.decision_id == decision_id:
            return decision
    return None


def find_outcomes(records: Iterable[Record], decision_id: str) -> list[Outcome]:
    """The outcomes of a decision among the records of the topic, the first of each rank."""
    name = _as_written(decision_id)
    found: dict[int, Outcome] = {}
    for outcome in outcomes_of(each for each in records if name in (each.value or b"")):
        if outcome.decision_id == decision_id:
            found.setdefault(outcome.rank, outcome)
    return [found[rank] for rank in sorted(found)]


def _as_written(decision_id: str) -> bytes:
    return encode(decision_id)[1:-1]


def report_of(
    decision: Decision,
    outcomes: Sequence[Outcome],
    catalogue: LiveCatalogue,
    again: Sequence[SlateItem] | str,
    starts: Mapping[int, int],
) -> DecisionReport:
    """Put together what is known.

    Args:
        decision: as logged.
        outcomes: of it.
        catalogue: names the products.
        again: the slate as computed from the logs, or why it can't be.
        starts: first offset that the outcomes' log still holds, by partition.
    """
    rewards = {outcome.rank: outcome.reward for outcome in outcomes}
    slate = [
        Shown(
            rank,
            item.product_id,
            _name(catalogue, item.product_id),
            item.score,
            item.mean,
            item.bonus,
            item.propensity,
            rewards.get(rank),
        )
        for rank, item in enumerate(decision.slate, start=1)
    ]
    if any(reward > 0.0 for reward in rewards.values()):
        came_of_it = "clicked"
    elif len(rewards) < len(slate) and lies_before(decision, starts):
        came_of_it = "unknown"
    else:
        came_of_it = "not clicked" if rewards else "open"
    return DecisionReport(decision, slate, came_of_it, _recomputed(decision, again))


def _recomputed(decision: Decision, again: Sequence[SlateItem] | str) -> Recomputed:
    if isinstance(again, str):
        return Recomputed(None, None, again)
    slate = [item.product_id for item in again]
    return Recomputed(slate, slate == [item.product_id for item in decision.slate], None)


def _name(catalogue: LiveCatalogue, product_id: int) -> str:
    entry = catalogue.entry(product_id)
    return entry.product.name if entry else "unknown here"
