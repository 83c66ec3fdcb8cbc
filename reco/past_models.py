"""The model as it stood when a decision was made: the outcomes' log, folded up to its view."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from operator import ge

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
        joint: makes what solves such arms together, for a policy whose arms learn from each other.
    """

    def __init__(
        self,
        arms: Sequence[int],
        rules: Rules,
        records: Mapping[int, Sequence[Record]],
        lambda_: float,
        bases: Mapping[int, State],
        joint: Callable[[Sequence[int]], JointSolver | None] = lambda arms: None,
    ) -> None:
        self._lambda = lambda_
        self._joint_of = joint
        self._records = records
        self._config = rules.config
        self._folds: dict[int, PartitionFold] = {}
        for partition in {*records, *bases}:
            base = bases.get(partition)
            start, rows = (base.position.next_offset, base.rows) if base else (0, None)
            fold = PartitionFold(partition, rules, start, rows)
            fold.read_offset = start
            self._folds[partition] = fold
        self._begin(arms)

    @property
    def parameters(self) -> dict[str, float]:
        """What the model is made with beside the policy's parameters, as far as it has come."""
        solved = self._joint.parameters if self._joint else {}
        return solved | ({"gamma": self._config.gamma} if self._config.gamma < 1.0 else {})

    def rank_these(self, arms: Sequence[int]) -> None:
        """Have these products in the model from now on."""
        if arms is not self._arms and list(arms) != list(self._arms):
            self._begin(arms)

    def advance(self, view: Sequence[int]) -> None:
        """Take in all outcomes before this view (next offset by partition) that are not in yet."""
        moved = False
        for partition, end in enumerate(view):
            fold = self._folds.get(partition)
            if fold is None or fold.read_offset >= end:
                continue
            changed = fold.fold(self._due(fold, end)).changed
            fold.pass_to(end)
            # With γ < 1 an outcome ages all arms of its partition.
            self._take(fold, changed if self._config.gamma == 1.0 else fold.statistics.arms)
            moved = True
        if moved:
            self._solve_together()

    def _begin(self, arms: Sequence[int]) -> None:
        self._arms, self._row = arms, {arm: row for row, arm in enumerate(arms)}
        self._joint = self._joint_of(arms)
        count = len(arms)
        zeros = np.zeros(count, np.int64)
        self.model = Model(
            np.array(arms, np.int64),
            zeros,
            zeros.copy(),
            untrained(count, self._config.d, self._lambda),
            np.arange(count),
        )
        """As far as `advance` has brought it."""
        for fold in self._folds.values():
            self._take(fold, fold.statistics.arms)
        self._solve_together()

    def _due(self, fold: PartitionFold, end: int) -> Sequence[Record]:
        records = self._records.get(fold.partition, [])
        first, behind = (
            bisect_left(records, offset, key=lambda record: record.offset)
            for offset in (fold.read_offset, end)
        )
        return records[first:behind]

    def _solve_together(self) -> None:
        if self._joint:
            self.model = self._joint.solve()

    def _take(self, fold: PartitionFold, arms: Sequence[int]) -> None:
        known = [arm for arm in arms if arm in self._row]
        if not known:
            return
        at = np.array([fold.statistics.index[arm] for arm in known])
        target = np.array([self._row[arm] for arm in known])
        b, xx = fold.statistics.decayed_to(at, fold.next_offset)
        n, clicks = fold.statistics.n[at], fold.statistics.clicks[at]
        if self._joint:
            self._joint.take(target, n, clicks, b, xx)
            return
        fresh = solve(b, xx, self._lambda)
        model = self.model
        model.n[target], model.clicks[target] = n, clicks
        model.solution.theta[target] = fresh.theta
        model.solution.covariance[target] = fresh.covariance
        self.model = model._replace(untrained=np.flatnonzero(model.n == 0))


def chains(views: Sequence[Sequence[int]]) -> list[list[int]]:
    """Divide views into chains along which a model can be brought forward.

    Replicas follow the partitions each at its own pace, so of two views either may be ahead in a
    partition where the other is behind, and no order has them all. In a chain each view is at
    least the one before, in every partition. A chain is about a replica.

    Args:
        views: next offset by partition, ordered so that none comes before one that it follows: by
            the sum will do.

    Returns:
        Of each chain, the indices of its views, ascending.
    """
    found: list[list[int]] = []
    ends: list[Sequence[int]] = []
    for i, view in enumerate(views):
        number = next((n for n, end in enumerate(ends) if _follows(view, end)), len(ends))
        if number == len(ends):
            found.append([])
            ends.append(view)
        found[number].append(i)
        ends[number] = view
    return found


def _follows(view: Sequence[int], end: Sequence[int]) -> bool:
    return len(view) == len(end) and all(map(ge, view, end))
