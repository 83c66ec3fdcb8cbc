"""Our policies as `reco.simulation` runs them: statistics, solution and scorer in one. Pure."""

from typing import Final

import numpy as np

from reco.worlds import World
from server.joint_solver import JointSolver
from server.scorer import JOINT, Model, Policy, rank, seeds_of
from shared.arm_statistics import ArmStatistics, Floats, Integers
from shared.events import OUTCOMES, key_of
from shared.linucb import solve, untrained
from shared.partitioner import partition_of
from shared.settings import PARTITIONS
from shared.shared_linucb import Hyperparameters

GROWTH: Final = 0.005
"""Joint solves come each time the outcomes have grown by this share: every visit at first, every
twentieth at visit 4,000."""


class Learner:
    """A policy with statistics of its own, brought up to date as outcomes come.

    Offsets count the outcomes of an arm's partition, as in the log.
    """

    def __init__(self, world: World, policy: Policy, gamma: float = 1.0) -> None:
        arms, d = world.data.arms, world.data.encoder.d
        self._policy = policy
        self._statistics = ArmStatistics(d, gamma)
        self.partition = {arm: partition_of(key_of(arm), PARTITIONS[OUTCOMES]) for arm in arms}
        self._ends = np.zeros(PARTITIONS[OUTCOMES], np.int64)
        self._row = {arm: row for row, arm in enumerate(arms)}
        zeros, everything = np.zeros(len(arms), np.int64), np.arange(len(arms))
        solution = untrained(len(arms), d, policy.lambda_)
        self.model = Model(np.array(arms), zeros, zeros.copy(), solution, everything)

    def choose(self, visit_id: str, x: Floats, k: int) -> list[int]:
        """See `reco.simulation.Bandit`."""
        [slate] = rank(self._policy, self.model, x[None], seeds_of([visit_id]), k)
        return [item.product_id for item in slate]

    def learn(self, arms: Integers, X: Floats, rewards: Floats) -> None:
        """See `reco.simulation.Bandit`."""
        # Partitions apart, as trainers see them: within one the offsets ascend.
        homes = np.array([self.partition[arm] for arm in arms.tolist()])
        for home in np.unique(homes).tolist():
            mine = homes == home
            end = int(self._ends[home])
            self._ends[home] += int(mine.sum())
            offsets = np.arange(end, self._ends[home])
            self._statistics.add(arms[mine], X[mine], rewards[mine], offsets)
        self._bring_up_to_date(list(dict.fromkeys(arms.tolist())), set(homes.tolist()))

    def _bring_up_to_date(self, changed: list[int], homes: set[int]) -> None:
        target, n, clicks, b, xx = self._rows(changed, homes)
        fresh = solve(b, xx, self._policy.lambda_)
        model = self.model
        model.n[target], model.clicks[target] = n, clicks
        model.solution.theta[target] = fresh.theta
        model.solution.covariance[target] = fresh.covariance
        if len(model.untrained):
            self.model = model._replace(untrained=np.flatnonzero(model.n == 0))

    def _rows(
        self, changed: list[int], homes: set[int]
    ) -> tuple[Integers, Integers, Integers, Floats, Floats]:
        """What is to be solved: arms that changed; with forgetting, all of their partitions."""
        statistics = self._statistics
        if statistics.gamma < 1.0:
            changed = [arm for arm in statistics.arms if self.partition[arm] in homes]
        at = np.array([statistics.index[arm] for arm in changed])
        target = np.array([self._row[arm] for arm in changed])
        ends = np.array([self._ends[self.partition[arm]] for arm in changed])
        b, xx = statistics.decayed_to(at, ends)
        return target, statistics.n[at], statistics.clicks[at], b, xx


class JointLearner(Learner):
    """A policy whose arms are solved together.

    Args:
        world: its products and their features.
        policy: `shared-linucb` or `shared`.
        hyper: the variances, or where they start.
        estimates: whether they follow the rows.
        gamma: forgetting factor.
        growth: solve again once the outcomes have grown by this share.
    """

    def __init__(
        self,
        world: World,
        policy: Policy,
        hyper: Hyperparameters,
        estimates: bool,
        gamma: float = 1.0,
        growth: float = GROWTH,
    ) -> None:
        super().__init__(world, policy, gamma)
        data = world.data
        self._growth = growth
        self._solver = JointSolver(data.arms, data.features, data.encoder.roles, hyper, estimates)
        self.model = self._solver.model
        self._solve_from = 0.0
        self._changed: dict[int, None] = {}
        self._homes: set[int] = set()

    @property
    def hyper(self) -> Hyperparameters:
        """The variances of the latest solve."""
        return self._solver.hyper

    def _bring_up_to_date(self, changed: list[int], homes: set[int]) -> None:
        self._changed.update(dict.fromkeys(changed))
        self._homes |= homes
        outcomes = int(self._statistics.n.sum())
        if outcomes < self._solve_from:
            return
        self._solver.take(*self._rows(list(self._changed), self._homes))
        self._changed.clear()
        self._homes.clear()
        self.model = self._solver.solve()
        self._solve_from = outcomes * (1.0 + self._growth)


def learner(
    world: World,
    policy: Policy,
    hyper: Hyperparameters,
    estimates: bool,
    gamma: float = 1.0,
    growth: float = GROWTH,
) -> Learner:
    """The learner of this policy."""
    if policy.name in JOINT:
        return JointLearner(world, policy, hyper, estimates, gamma, growth)
    return Learner(world, policy, gamma)
