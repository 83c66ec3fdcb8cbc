"""Another policy's click rate from the log of decisions and their outcomes.

The policy is asked what it would have shown in every logged visit, with the model as it stood then
(or a frozen one), so nothing that it is judged by has taught it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import msgspec
import numpy as np

from reco.past_models import PastModels
from server import thompson
from server.propensities import Flags, expectation, propensities
from server.scorer import (
    DRAWING,
    Policy,
    choose,
    next_rank,
    score_deviations,
    seeds_of,
)
from shared import off_policy
from shared.arm_statistics import Floats, Integers
from shared.events import Decision, Outcome
from shared.off_policy import Estimate, Log, Overlap, Prediction


class NothingToEvaluate(Exception):
    """The log has no decision that says anything; the message says why."""


class Rounds(NamedTuple):
    """The decisions that can be used, in the order of their views."""

    decisions: list[Decision]
    slates: Integers
    """Indices into the arms, N × k; k is as far as anyone looked."""
    X: Floats
    propensity: Floats
    reward: Floats
    examined: Flags
    skipped: dict[str, int]
    """Why others can't be used → how many."""


class LogEvaluation(msgspec.Struct, frozen=True):
    """What a log says of a policy."""

    policy: str
    parameters: dict[str, float]
    model: str
    """`as logged`: that of each decision's own view; `frozen`: one for all."""
    decisions: int
    skipped: dict[str, int]
    logged: dict[str, int]
    """Policies that made the decisions → how many."""
    ranks: int
    """How far shoppers looked: what lies behind is left out."""
    estimates: list[Estimate]
    overlap: Overlap
    caution: str | None
    """Why the estimates should not be believed, if so."""


def rounds(
    decisions: Iterable[Decision],
    outcomes: Iterable[Outcome],
    arms: Sequence[int],
    encoder_id: str,
) -> Rounds:
    """Join decisions with their outcomes and keep what can be used.

    Raises:
        NothingToEvaluate: nothing is left.
    """
    rewards: dict[str, dict[int, float]] = {}
    for outcome in outcomes:
        rewards.setdefault(outcome.decision_id, {}).setdefault(outcome.rank, outcome.reward)
    known = set(arms)
    unique = {decision.decision_id: decision for decision in reversed(list(decisions))}
    reasons = {
        key: _unusable(decision, rewards, known, encoder_id) for key, decision in unique.items()
    }
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
        raise NothingToEvaluate(
            f"no decision of the log can be used ({why or 'there is none'}): log with a policy "
            "that randomises, such as `reco serve --policy linucb --epsilon 0.1`"
        )
    kept.sort(key=lambda decision: (sum(decision.view), decision.decided_at, decision.decision_id))
    return _arrays(kept, rewards, arms, dict(skipped))


def _unusable(
    decision: Decision,
    rewards: Mapping[str, Mapping[int, float]],
    known: set[int],
    encoder_id: str,
) -> str | None:
    if decision.encoder_id != encoder_id:
        return "another encoder"
    if not all(item.propensity for item in decision.slate):
        return "no propensities"
    if any(item.product_id not in known for item in decision.slate):
        return "products that are unknown here"
    if not decision.slate or decision.decision_id not in rewards:
        return "no outcome yet"
    return None


def _arrays(
    kept: list[Decision],
    rewards: Mapping[str, Mapping[int, float]],
    arms: Sequence[int],
    skipped: dict[str, int],
) -> Rounds:
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
        np.array([[index[item.product_id] for item in d.slate[:k]] for d in kept]),
        np.array([decision.x for decision in kept], np.float64),
        np.array([[item.propensity for item in d.slate[:k]] for d in kept], np.float64),
        reward,
        examined,
        skipped,
    )


def evaluate_log(log: Rounds, policy: Policy, models: PastModels, frozen: bool) -> LogEvaluation:
    """Estimate the policy's click rate.

    Args:
        log: what was decided, and what came of it.
        policy: what to evaluate.
        models: where the model comes from.
        frozen: leave the model as it is, instead of bringing it to each decision's view.
    """
    count, k = log.slates.shape
    q = off_policy.predicted_rewards(
        log.slates, log.X, log.reward, log.examined, len(models.model.arms)
    )
    target, expected, own = np.empty((count, k)), np.empty((count, k)), np.empty_like(log.slates)
    for rows in _of_one_view(log.decisions):
        if not frozen:
            models.advance(log.decisions[rows.start].view)
        asked = _asked(policy, models, log, rows, q[rows])
        target[rows], expected[rows], own[rows] = asked
    asked_log = Log(log.propensity, target, log.reward)
    prediction = Prediction(
        np.take_along_axis(q, log.slates, axis=1),
        expected,
        off_policy.clicks_ahead(np.take_along_axis(q, own, axis=1)),
    )
    matched = (log.slates[:, :, None] == own[:, None, :]).any(axis=2)
    found = off_policy.overlap(asked_log)
    return LogEvaluation(
        policy.name,
        policy.parameters,
        "frozen" if frozen else "as logged",
        count,
        log.skipped,
        dict(Counter(decision.policy for decision in log.decisions)),
        k,
        [
            off_policy.on_policy(log.reward),
            off_policy.replay(matched, log.reward, log.examined),
            off_policy.ips(asked_log),
            off_policy.snips(asked_log),
            off_policy.doubly_robust(asked_log, prediction),
        ],
        found,
        _caution(log, found),
    )


def _of_one_view(decisions: Sequence[Decision]) -> Iterator[slice]:
    start = 0
    for _, group in groupby(decisions, key=lambda decision: decision.view):
        end = start + len(list(group))
        yield slice(start, end)
        start = end


def _asked(
    policy: Policy, models: PastModels, log: Rounds, rows: slice, q: Floats
) -> tuple[Floats, Floats, Integers]:
    """What the policy would have done: probability of what was shown, expected q, its own slate.

    Its own slate is the one without ε.
    """
    model, X, slates = models.model, log.X[rows], log.slates[rows]
    # The decision's own seed breaks ties as the log did. What is drawn must not repeat its dice.
    ids = [decision.decision_id for decision in log.decisions[rows]]
    seeds = seeds_of(ids)
    k = slates.shape[1]
    scores, _ = choose(policy, model, X, seeds, k)
    quiet = msgspec.structs.replace(policy, epsilon=0.0)
    again = seeds_of([f"{key} evaluated" for key in ids]) if policy.name in DRAWING else seeds
    _, own = choose(quiet, model, X, again, k)
    if policy.name != "lints":
        mixture = next_rank(policy, model, scores, seeds, slates)
        return (
            propensities(mixture, slates, len(model.arms)),
            expectation(mixture, slates, q),
            own,
        )
    deviations = policy.alpha * score_deviations(policy, model, X)
    following = [
        thompson.next_probabilities(*each)
        for each in zip(scores.mean, deviations, slates, strict=True)
    ]
    target = [
        np.take_along_axis(p, s[:, None], 1)[:, 0] for p, s in zip(following, slates, strict=True)
    ]
    expected = [p @ row for p, row in zip(following, q, strict=True)]
    return np.array(target), np.array(expected), own


def _caution(log: Rounds, found: Overlap) -> str | None:
    if (log.propensity == 1.0).all():
        return (
            "the logged policy never randomised, so the log says nothing of any other slate: only "
            "the logged click rate is an estimate"
        )
    return off_policy.doubt(found)
