"""Another policy's click rate from the log of decisions and their outcomes.

The policy is asked what it would have shown in every logged visit, with the model as it stood then
(or a frozen one), so nothing that it is judged by has taught it.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import msgspec
import numpy as np

from reco.logged_rounds import Rounds
from reco.past_models import PastModels, chains
from reco.settled import moment
from server import thompson
from server.propensities import expectation, propensities
from server.restriction import allowed, part
from server.scorer import (
    DRAWING,
    Model,
    Policy,
    choose,
    next_rank,
    score_deviations,
    seeds_of,
)
from shared import off_policy
from shared.arm_statistics import Floats, Integers
from shared.events import Decision
from shared.off_policy import Estimate, Log, Overlap, Prediction


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


def evaluate_log(
    log: Rounds, policy: Policy, models: Callable[[], PastModels], frozen: bool
) -> LogEvaluation:
    """Estimate the policy's click rate.

    Args:
        log: what was decided, and what came of it.
        policy: what to evaluate.
        models: makes a model as it was before the log.
        frozen: leave the model as it is, instead of bringing it to each decision's view.
    """
    decided_s = np.array([moment(decision.decided_at).timestamp() for decision in log.decisions])
    q = off_policy.predicted_rewards(
        log.slates, log.X, log.reward, log.examined, len(log.arms), decided_s
    )
    would, made_with = _asked_of_all(policy, models, log, q, frozen)
    asked_log = Log(log.propensity, would.target, log.reward)
    prediction = Prediction(
        np.take_along_axis(q, log.slates, axis=1),
        would.expected,
        off_policy.clicks_ahead(np.take_along_axis(q, would.own, axis=1)),
    )
    matched = (log.slates[:, :, None] == would.own[:, None, :]).any(axis=2)
    found = off_policy.overlap(asked_log)
    estimates = [
        off_policy.on_policy(log.reward),
        off_policy.replay(matched, log.reward, log.examined),
        off_policy.ips(asked_log),
        off_policy.snips(asked_log),
        off_policy.doubly_robust(asked_log, prediction),
    ]
    return LogEvaluation(
        policy.name,
        policy.parameters | made_with,
        "frozen" if frozen else "as logged",
        len(log.decisions),
        log.skipped,
        dict(Counter(decision.policy for decision in log.decisions)),
        log.slates.shape[1],
        estimates,
        found,
        _caution(log, found, estimates),
    )


class _Would(NamedTuple):
    """What the policy would have done in N visits, as far as k ranks."""

    target: Floats
    """Probability of each product that was shown, given the ranks above, N × k."""
    expected: Floats
    """Expected q of the next product, N × k."""
    own: Integers
    """Its own slates, without ε, N × k."""


def _asked_of_all(
    policy: Policy, models: Callable[[], PastModels], log: Rounds, q: Floats, frozen: bool
) -> tuple[_Would, dict[str, float]]:
    """Ask the policy about every visit, with the model and the products that it was decided with.

    Returns:
        Its answers, own slates as indices into the arms of the log, and what the last model was
        made with.
    """
    shape, made_with = log.slates.shape, dict[str, float]()
    result = _Would(np.empty(shape), np.empty(shape), np.empty_like(log.slates))
    column = {arm: i for i, arm in enumerate(log.arms)}
    place = np.zeros(len(log.arms), np.int64)
    for chain in _chains(log, frozen):
        past = models()
        for rows in _ranked_together(log.decisions, chain):
            decisions = [log.decisions[row] for row in rows]
            past.rank_these(log.sets[decisions[0].arms_id])
            if not frozen:
                past.advance(decisions[0].view)
            asked = decisions[0].candidates, decisions[0].exclude
            model = part(past.model, allowed(past.model.arms, *asked))
            columns = np.array([column[arm] for arm in model.arms.tolist()])
            place[columns] = np.arange(len(columns))
            slates, predicted = place[log.slates[rows]], q[rows][:, columns]
            would = _asked(policy, model, decisions, log.X[rows], slates, predicted)
            result.target[rows], result.expected[rows] = would.target, would.expected
            result.own[rows] = columns[would.own]
        made_with = past.parameters
    return result, made_with


def _chains(log: Rounds, frozen: bool) -> list[list[int]]:
    """Rows that one model can be brought along (`reco.past_models.chains`)."""
    if frozen:
        return [[*range(len(log.decisions))]]
    return chains([decision.view for decision in log.decisions])


def _ranked_together(decisions: Sequence[Decision], chain: Sequence[int]) -> Iterator[list[int]]:
    """Rows of a chain that one model ranked the same products of."""
    for _, same in groupby(chain, key=lambda row: decisions[row].view):
        groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for row in same:
            decision = decisions[row]
            asked = [
                None if each is None else tuple(each)
                for each in (decision.candidates, decision.exclude)
            ]
            groups[decision.arms_id, *asked].append(row)
        yield from groups.values()


def _asked(
    policy: Policy,
    model: Model,
    decisions: Sequence[Decision],
    X: Floats,
    slates: Integers,
    q: Floats,
) -> _Would:
    """Ask the policy about decisions of one model.

    Slates are indices into the model's K arms, N × k, as are those that come back; q is N × K.
    """
    # The decision's own seed breaks ties as the log did. What is drawn must not repeat its dice.
    ids = [decision.decision_id for decision in decisions]
    seeds = seeds_of(ids)
    # As long as it was asked for: a slate that is chosen together depends on all of its products.
    k, length = slates.shape[1], len(decisions[0].slate)
    scores, _ = choose(policy, model, X, seeds, length)
    quiet = msgspec.structs.replace(policy, epsilon=0.0)
    again = seeds_of([f"{key} evaluated" for key in ids]) if policy.name in DRAWING else seeds
    _, own = choose(quiet, model, X, again, length)
    if policy.name != "lints":
        mixture = next_rank(policy, model, scores, seeds, slates)
        return _Would(
            propensities(mixture, slates, len(model.arms)),
            expectation(mixture, slates, q),
            own[:, :k],
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
    return _Would(np.array(target), np.array(expected), own[:, :k])


def _caution(log: Rounds, found: Overlap, estimates: Sequence[Estimate]) -> str | None:
    if (log.propensity == 1.0).all():
        return (
            "the logged policy never randomised, so the log says nothing of any other slate: only "
            "the logged click rate is an estimate"
        )
    return off_policy.doubt(found, estimates)
