"""The decisions of a log that can be used, joined with what came of them. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from reco.catalogue_history import CatalogueHistory
from reco.settled import DELETED, OPEN, left_out, lies_before, moment
from server.propensities import Flags
from shared.arm_statistics import Floats, Integers
from shared.events import Decision, Outcome

LEARNED: Final = "outcomes that the frozen model may have learned from"
_RANDOMISE: Final = (
    "log with a policy that randomises, such as `reco serve --policy linucb --epsilon 0.1`"
)
_WHAT_HELPS: Final = {
    DELETED: "keep the topic outcomes for as long as decisions",
    LEARNED: "give a --snapshot from before the decisions to be judged by",
}


class NothingToEvaluate(Exception):
    """The log has no decision that says anything; the message says why."""


class Rounds(NamedTuple):
    """The decisions that can be used, none before one whose view it follows."""

    decisions: list[Decision]
    arms: list[int]
    """All products that any of them could show."""
    sets: Mapping[str | None, Sequence[int]]
    """What was ranked, by its name (`Decision.arms_id`)."""
    slates: Integers
    """Indices into the arms, N × k; k is as far as anyone looked."""
    X: Floats
    propensity: Floats
    reward: Floats
    examined: Flags
    skipped: dict[str, int]
    """Why others can't be used → how many."""


def rounds(
    decisions: Iterable[Decision],
    outcomes: Iterable[Outcome],
    history: CatalogueHistory,
    encoder_id: str,
    starts: Mapping[int, int] | None = None,
    learned: Mapping[int, int] | None = None,
) -> Rounds:
    """Join decisions with their outcomes and keep what can be used.

    Args:
        decisions: as logged; one that comes twice counts once.
        outcomes: of these and others.
        history: what the decisions were chosen from.
        encoder_id: that of the encoder here.
        starts: first offset that the outcomes' log still holds, by partition; None if it is whole.
        learned: up to which offset a model that is to stay as it is has learned, by partition.

    Raises:
        NothingToEvaluate: nothing is left.
    """
    outcomes = list(outcomes)
    rewards: dict[str, dict[int, float]] = {}
    for outcome in outcomes:
        rewards.setdefault(outcome.decision_id, {}).setdefault(outcome.rank, outcome.reward)
    unique = {decision.decision_id: decision for decision in reversed(list(decisions))}
    sets = history.sets(decision.arms_id for decision in unique.values())
    known = {name: set(arms) for name, arms in sets.items()}
    reasons = {key: _unusable(decision, known, encoder_id) for key, decision in unique.items()}
    for key, reason in left_out(unique.values(), outcomes, starts).items():
        reasons[key] = reasons[key] or reason
    for key, decision in unique.items():
        if reasons[key] is None and lies_before(decision, learned or {}):
            reasons[key] = LEARNED
    skipped = Counter(reason for reason in reasons.values() if reason)
    kept = [decision for key, decision in unique.items() if reasons[key] is None]
    if kept:
        [(length, _)] = Counter(len(decision.slate) for decision in kept).most_common(1)
        other = [decision for decision in kept if len(decision.slate) != length]
        if other:
            skipped["another slate length"] = len(other)
        kept = [decision for decision in kept if len(decision.slate) == length]
    if not kept:
        why = "; ".join(f"{count:,} with {reason}" for reason, count in skipped.items())
        most = max(skipped, key=lambda reason: skipped[reason], default="")
        raise NothingToEvaluate(
            f"no decision of the log can be used ({why or 'there is none'}): "
            f"{_WHAT_HELPS.get(most, _RANDOMISE)}"
        )
    kept.sort(
        key=lambda decision: (sum(decision.view), moment(decision.decided_at), decision.decision_id)
    )
    return _arrays(kept, rewards, sets, dict(skipped))


def _unusable(
    decision: Decision,
    known: Mapping[str | None, set[int]],
    encoder_id: str,
) -> str | None:
    if decision.encoder_id != encoder_id:
        return "another encoder"
    if not all(item.propensity for item in decision.slate):
        return "no propensities"
    if decision.arms_id not in known:
        return (
            "a set of products that the catalogue is not known to have had"
            if decision.arms_id
            else "no name of the set of products, which has changed since"
        )
    shown = {item.product_id for item in decision.slate}
    if not known[decision.arms_id].issuperset(shown):
        return "products that are unknown here"
    candidates, exclude = decision.candidates, decision.exclude or ()
    if (candidates is not None and not shown.issubset(candidates)) or shown.intersection(exclude):
        return "products that its own request leaves out"
    return None if decision.slate else OPEN


def _arrays(
    kept: list[Decision],
    rewards: Mapping[str, Mapping[int, float]],
    sets: Mapping[str | None, Sequence[int]],
    skipped: dict[str, int],
) -> Rounds:
    arms = list(dict.fromkeys(arm for ranked in sets.values() for arm in ranked))
    index = {arm: i for i, arm in enumerate(arms)}
    k = max(max(rewards[decision.decision_id]) for decision in kept)
    k = min(k, len(kept[0].slate))
    reward, examined = np.zeros((len(kept), k)), np.zeros((len(kept), k), np.bool_)
    for row, decision in enumerate(kept):
        for rank, value in rewards[decision.decision_id].items():
            if rank <= k:
                reward[row, rank - 1], examined[row, rank - 1] = value, True
    return Rounds(
        kept,
        arms,
        sets,
        np.array([[index[item.product_id] for item in d.slate[:k]] for d in kept]),
        np.array([decision.x for decision in kept], np.float64),
        np.array([[item.propensity for item in d.slate[:k]] for d in kept], np.float64),
        reward,
        examined,
        skipped,
    )
