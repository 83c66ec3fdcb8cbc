"""A logged decision, computed again from the logs alone."""

from collections.abc import Sequence

import msgspec
import numpy as np

from reco.catalogue_feed import features_of
from reco.catalogue_history import CatalogueHistory
from reco.rebuild import CannotReplay, rebuild
from server.joint_solver import JointSolver
from server.restriction import allowed, part
from server.scorer import JOINT, Model, Policy, rank, seeds_of
from shared.arm_statistics import Floats
from shared.catalogue import DataSet
from shared.events import Decision, SlateItem
from shared.features import Roles
from shared.linucb import solve, untrained
from shared.ports import EventConsumer
from shared.shared_linucb import Hyperparameters
from trainer.apply import PartitionFold, Rules


class CannotRecompute(Exception):
    """Something that the decision was made from is not here; the message says what."""


def recompute(
    decision: Decision,
    consumer: EventConsumer,
    rules: Rules,
    data: DataSet,
    history: CatalogueHistory | None = None,
) -> list[SlateItem]:
    """The slate that this decision must have shown.

    Folds the outcomes up to the view that the decision names, solves those of the products that it
    was chosen from by the policy and parameters that it names, and ranks. Products are the same;
    scores agree to rounding (a batch of visits is multiplied in another order than one).

    Args:
        decision: from the topic `decisions`.
        consumer: of the outcomes topic, in no group.
        rules: those of the trainer.
        data: the prepared products and features it was ranked from.
        history: of the catalogue, where it has changed.

    Raises:
        CannotRecompute: the encoder is another, the policy is unknown here, or one of the logs no
            longer tells, or never told, what it was made from.
        BrokerUnavailable: see `reco.rebuild.rebuild`.
    """
    history = history or CatalogueHistory(data.products)
    if decision.encoder_id != data.encoder.id:
        raise CannotRecompute(
            f"decision {decision.decision_id} was made with encoder {decision.encoder_id}, this "
            f"data folder has {data.encoder.id}: use the folder it was made with"
        )
    policy, arms = policy_of(decision), arms_of(decision, history)
    folds = [
        _folded(consumer, partition, rules, position)
        for partition, position in enumerate(decision.view)
    ]
    model = model_of(
        policy,
        decision.parameters,
        folds,
        arms,
        features_of(history, data, arms),
        data.encoder.roles,
    )
    model = part(model, allowed(model.arms, decision.candidates, decision.exclude))
    seeds = seeds_of([decision.decision_id])
    [slate] = rank(policy, model, np.array([decision.x]), seeds, len(decision.slate))
    return slate


def arms_of(decision: Decision, history: CatalogueHistory) -> list[int]:
    """The products that the decision's model ranked.

    Raises:
        CannotRecompute: they are not known (any more).
    """
    found = history.sets([decision.arms_id])
    if found:
        return found[decision.arms_id]
    if decision.arms_id is None:
        raise CannotRecompute(
            f"the record of decision {decision.decision_id} does not say which products were "
            "ranked, and the catalogue has changed since"
        )
    raise CannotRecompute(
        f"decision {decision.decision_id} ranked a set of products ({decision.arms_id}) that the "
        "topic products does not tell (any more): it was compacted since, or the data folder is "
        "another"
    )


def _folded(consumer: EventConsumer, partition: int, rules: Rules, position: int) -> PartitionFold:
    held = consumer.watermarks(partition)
    if held.start > 0 or held.end < position:
        raise CannotRecompute(
            f"partition {partition} of the outcomes' log holds {held.start:,} to {held.end:,}, the "
            f"decision was made with all before {position:,}: they were deleted since, or the log "
            "is another"
        )
    try:
        return rebuild(consumer, partition, rules, position).fold
    except CannotReplay as error:  # deleted at this moment
        raise CannotRecompute(str(error)) from error


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
    policy: Policy,
    parameters: dict[str, float],
    folds: Sequence[PartitionFold],
    arms: Sequence[int],
    Z: Floats,
    roles: Roles,
) -> Model:
    """The rows of all partitions, solved as the parameters say.

    Args:
        policy: whose model.
        parameters: of the decision's record.
        folds: of all partitions.
        arms: product_ids, K.
        Z: their features, K × p.
        roles: of a context's features, d of them.

    Raises:
        CannotRecompute: the parameters do not say what is needed.
    """
    d = len(roles.constant)
    row = {arm: i for i, arm in enumerate(arms)}
    n, clicks = np.zeros(len(arms), np.int64), np.zeros(len(arms), np.int64)
    solution = untrained(len(arms), d, policy.lambda_)
    solver = None
    if policy.name in JOINT:
        # Records from before there were ρ and ν don't have them.
        said = {"rho": 0.0, "nu": 1.0} | parameters
        names = Hyperparameters.__struct_fields__
        if lacking := [name for name in names if name not in said]:
            raise CannotRecompute(f"the decision's parameters lack {', '.join(lacking)}")
        hyper = msgspec.convert({name: said[name] for name in names}, Hyperparameters)
        solver = JointSolver(arms, Z, roles, hyper, estimates=False)
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
