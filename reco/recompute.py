"""A logged decision, computed again from the log alone."""

from collections.abc import Sequence

import msgspec
import numpy as np

from reco.rebuild import rebuild
from server.joint_solver import JointSolver
from server.scorer import JOINT, Model, Policy, rank, seeds_of
from shared.catalogue import DataSet
from shared.events import Decision, SlateItem
from shared.linucb import solve, untrained
from shared.ports import EventConsumer
from shared.shared_linucb import Hyperparameters
from trainer.apply import PartitionFold, Rules


class CannotRecompute(Exception):
    """The decision was made with another encoder, or by something that this software has not."""


def recompute(
    decision: Decision, consumer: EventConsumer, rules: Rules, data: DataSet
) -> list[SlateItem]:
    """The slate that this decision must have shown.

    Folds the outcomes up to the view that the decision names, solves them by the policy and
    parameters that it names, and ranks. Products are the same; scores agree to rounding (a batch
    of visits is multiplied in another order than one).

    Args:
        decision: from the topic `decisions`.
        consumer: of the outcomes topic, in no group.
        rules: those of the trainer.
        data: the catalogue and features it was ranked from.

    Raises:
        CannotRecompute: the encoder is another, or the policy is unknown here.
        CannotReplay, BrokerUnavailable: see `reco.rebuild.rebuild`.
    """
    if decision.encoder_id != data.encoder.id:
        raise CannotRecompute(
            f"decision {decision.decision_id} was made with encoder {decision.encoder_id}, this "
            f"data folder has {data.encoder.id}: use the folder it was made with"
        )
    folds = [
        rebuild(consumer, partition, rules, position).fold
        for partition, position in enumerate(decision.view)
    ]
    policy = policy_of(decision)
    model = model_of(policy, decision.parameters, folds, data)
    seeds = seeds_of([decision.decision_id])
    [slate] = rank(policy, model, np.array([decision.x]), seeds, len(decision.slate))
    return slate


def policy_of(decision: Decision) -> Policy:
    """The policy that the decision's record names.

    Raises:
        CannotRecompute: this software has no such policy.
    """
    said = decision.parameters
    try:
        plain = Policy(decision.policy)
        return Policy(
            decision.policy,
            said.get("alpha", plain.alpha),
            said.get("lambda", plain.lambda_),
            said.get("epsilon", plain.epsilon),
        )
    except ValueError as error:
        raise CannotRecompute(f"decision {decision.decision_id}: {error}") from error


def model_of(
    policy: Policy, parameters: dict[str, float], folds: Sequence[PartitionFold], data: DataSet
) -> Model:
    """The rows of all partitions, solved as the parameters say."""
    arms, d = data.arms, data.encoder.d
    row = {arm: i for i, arm in enumerate(arms)}
    n, clicks = np.zeros(len(arms), np.int64), np.zeros(len(arms), np.int64)
    solution = untrained(len(arms), d, policy.lambda_)
    solver = None
    if policy.name in JOINT:
        # Records from before there were ρ and ν don't have them.
        said = {"rho": 0.0, "nu": 1.0} | parameters
        names = Hyperparameters.__struct_fields__
        hyper = msgspec.convert({name: said[name] for name in names}, Hyperparameters)
        solver = JointSolver(arms, data.features, data.encoder.roles, hyper, estimates=False)
    for fold in folds:
        statistics = fold.statistics
        known = [(i, row[arm]) for arm, i in statistics.index.items() if arm in row]
        source, target = np.array(known, np.int64).reshape(-1, 2).T
        b, xx = statistics.decayed(fold.next_offset)
        if solver:
            taken = statistics.n[source], statistics.clicks[source]
            solver.take(target, *taken, b[source], xx[source])
            continue
        n[target], clicks[target] = statistics.n[source], statistics.clicks[source]
        fresh = solve(b[source], xx[source], policy.lambda_)
        solution.theta[target], solution.covariance[target] = fresh
    if solver:
        return solver.solve()
    return Model(np.array(arms), n, clicks, solution, np.flatnonzero(n == 0))
