"""A model whose arms are solved together: rows in, a whole model out. Pure."""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from server.kinship import Kin
from server.scorer import Model
from shared.arm_statistics import Floats, Integers, packed_length
from shared.evidence import counted, estimate
from shared.features import Roles
from shared.shared_linucb import Hyperparameters, JointModel

ESTIMATE_GROWTH: Final = 1.25
"""The variances are estimated again once there are so many times the outcomes, forgotten ones
included: what is remembered may have stopped growing. And at once where there are fewer: the state
was lost or put back, and what was estimated is of outcomes that are no longer there."""


class JointSolver:
    """Collects rows and solves all arms, with variances that follow the data.

    Args:
        arms: product_ids, in the catalogue's order.
        Z: their features, K × p.
        roles: what the features of a context stand for.
        default: variances to start with.
        estimates: whether they are estimated from the rows now and then; else they stay.
    """

    def __init__(
        self,
        arms: Sequence[int],
        Z: Floats,
        roles: Roles,
        default: Hyperparameters,
        estimates: bool = True,
    ) -> None:
        self._arms = np.array(arms, np.int64)
        self._default = default
        self._estimates = estimates
        self._n = np.zeros(len(arms), np.int64)
        self._clicks = np.zeros(len(arms), np.int64)
        self._joint = JointModel(Z, roles, default)
        self._taken: dict[int, tuple[Floats, Floats]] = {}
        """b and xx of the arms whose rows are not in the joint model yet, by index."""
        self._kin = Kin.of(Z, default.sigma2)
        self._estimated_at = 0
        """Outcomes at the latest estimate."""
        self.model = self.solve()

    @property
    def hyper(self) -> Hyperparameters:
        """The variances of the latest solve."""
        return self._joint.hyper

    @property
    def parameters(self) -> dict[str, float]:
        """What a decision's record says of the solution."""
        values: dict[str, float] = msgspec.structs.asdict(self.hyper)
        return values

    def take(self, at: Integers, n: Integers, clicks: Integers, b: Floats, xx: Floats) -> None:
        """Take over the rows of the arms with these indices; zeros for one that has none."""
        self._n[at], self._clicks[at] = n, clicks
        self._taken.update(zip(at.tolist(), zip(b, xx, strict=True), strict=True))

    def forget(self, at: Integers) -> None:
        """These arms have no outcomes any more."""
        none, d = np.zeros(len(at), np.int64), self._joint.d
        self.take(at, none, none, np.zeros((len(at), d)), np.zeros((len(at), packed_length(d))))

    def solve(self) -> Model:
        """The model of all rows taken so far, in arrays of its own."""
        self._hand_over()
        outcomes = int(self._n.sum())
        stands = self._estimated_at <= outcomes < self._estimated_at * ESTIMATE_GROWTH
        if self._estimates and not stands:
            found = estimate(self._joint, *counted(self._joint), self._default)
            if found != self._joint.hyper:
                self._joint.set_values(*found.values())
            self._estimated_at = outcomes
        solution = self._joint.solve().solution
        untrained = np.zeros(0, np.int64)  # none has the prior of a model of its own
        kin = self._kin._replace(sigma2=self.hyper.sigma2)
        counts = self._n.copy(), self._clicks.copy()
        self.model = Model(self._arms, *counts, solution, untrained, kin)
        return self.model

    def _hand_over(self) -> None:
        """All rows in one go: partition by partition would take several times as long."""
        if self._taken:
            at = np.array(list(self._taken), np.int64)
            b, xx = zip(*self._taken.values(), strict=True)
            self._joint.set_rows(at, np.array(b), np.array(xx))
            self._taken.clear()
