"""The model as it stood when a decision was made: the outcomes' log, folded up to its view."""

from collections.abc import Mapping, Sequence

import numpy as np

from server.joint_solver import JointSolver
from server.scorer import Model
from shared.linucb import solve, untrained
from shared.ports import Record, State
from trainer.apply import PartitionFold, Rules


class PastModels:
    """Brings a model forward through the log, as trainer and server did.

    Args:
        arms: what is ranked.
        rules: those of the trainer.
        records: of every partition of the outcomes' log, in offset order.
        lambda_: ridge λ.
        bases: states to start from, where the log does not start at 0.
        joint: solves these arms together, for a policy whose arms learn from each other.
    """

    def __init__(
        self,
        arms: Sequence[int],
        rules: Rules,
        records: Mapping[int, Sequence[Record]],
        lambda_: float,
        bases: Mapping[int, State],
        joint: JointSolver | None = None,
    ) -> None:
        self._lambda = lambda_
        self._joint = joint
        self._records = {partition: list(found) for partition, found in records.items()}
        self._row = {arm: row for row, arm in enumerate(arms)}
        self._folds: dict[int, PartitionFold] = {}
        count, d = len(arms), rules.config.d
        zeros = np.zeros(count, np.int64)
        self.model = Model(
            np.array(arms, np.int64),
            zeros,
            zeros.copy(),
            untrained(count, d, lambda_),
            np.arange(count),
        )
        """As far as `advance` has brought it."""
        for partition in {*records, *bases}:
            base = bases.get(partition)
            start, rows = (base.position.next_offset, base.rows) if base else (0, None)
            fold = PartitionFold(partition, rules, start, rows)
            fold.read_offset = start
            self._folds[partition] = fold
            self._take(fold, fold.statistics.arms)
        self._solve_together()

    def advance(self, view: Sequence[int]) -> None:
        """Take in all outcomes before this view (next offset by partition) that are not in yet."""
        for partition, end in enumerate(view):
            fold = self._folds.get(partition)
            if fold is None or fold.read_offset >= end:
                continue
            due = [r for r in self._records[partition] if fold.read_offset <= r.offset < end]
            changed = fold.fold(due).changed
            fold.pass_to(end)
            self._take(fold, changed)
        self._solve_together()

    def _solve_together(self) -> None:
        if self._joint:
            self.model = self._joint.solve()

    def _take(self, fold: PartitionFold, arms: Sequence[int]) -> None:
        known = [arm for arm in arms if arm in self._row]
        if not known:
            return
        at = [fold.statistics.index[arm] for arm in known]
        target = [self._row[arm] for arm in known]
        b, xx = fold.statistics.decayed(fold.next_offset)
        n, clicks = fold.statistics.n[at], fold.statistics.clicks[at]
        if self._joint:
            self._joint.take(np.array(target), n, clicks, b[at], xx[at])
            return
        fresh = solve(b[at], xx[at], self._lambda)
        model = self.model
        model.n[target], model.clicks[target] = n, clicks
        model.solution.theta[target] = fresh.theta
        model.solution.covariance[target] = fresh.covariance
        self.model = model._replace(untrained=np.flatnonzero(model.n == 0))
