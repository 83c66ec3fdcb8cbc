"""How the estimates of the arms have moved: a bounded history of solutions. Pure."""

from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from server.scorer import Model
from server.thinned import Thinned
from shared.arm_statistics import Floats
from shared.linucb import Solution, deviations, means

POINTS: Final = 80
"""Points an arm keeps; each takes about 600 bytes at d = 15."""
TRACKED: Final = 200
"""Arms that are followed from the start: the first of the catalogue."""

_Singles = NDArray[np.float32]


class Point(msgspec.Struct, frozen=True):
    """What the model thought of one arm in one context, at one time."""

    at_s: float
    n: int
    clicks: int
    mean: float
    sd: float
    """√(xᵀ A⁻¹ x), without α."""


class _Snapshot(NamedTuple):
    at_s: float
    n: int
    clicks: int
    theta: _Singles
    covariance: _Singles


class Changed(NamedTuple):
    """The arms (rows of the model) that moved, and where to."""

    rows: list[int]
    n: list[int]
    clicks: list[int]
    theta: _Singles
    covariance: _Singles


class LearningHistory:
    """Keeps each followed arm's solution as it was, thinned as time goes on.

    Whole solutions are kept, so the history can be asked for any context afterwards. As single
    floats: the sd of an arm solved for itself is off by 0.1 % at a million outcomes of it, by 1 %
    at ten million, by 14 % at a hundred million. The present one (`present`) is exact.
    """

    def __init__(self, model: Model, at_s: float) -> None:
        self._tracked = min(len(model.arms), TRACKED)
        self._row = {arm: row for row, arm in enumerate(model.arms[: self._tracked].tolist())}
        self._forget(model)
        self._snapshots = [Thinned[_Snapshot](POINTS) for _ in range(self._tracked)]
        self.sample(model, at_s)

    def follow(self, model: Model) -> None:
        """Other products are ranked: keep the histories of those that stay."""
        before = dict(zip(self._row, self._snapshots, strict=True))
        self._tracked = min(len(model.arms), TRACKED)
        arms = model.arms[: self._tracked].tolist()
        self._row = {arm: row for row, arm in enumerate(arms)}
        self._forget(model)
        self._snapshots = [before.get(arm) or Thinned[_Snapshot](POINTS) for arm in arms]

    def __contains__(self, arm: int) -> bool:
        return arm in self._row

    def sample(self, model: Model, at_s: float) -> None:
        """Take down what has changed since the last time."""
        self.record(self.changed(model), at_s)

    def changed(self, model: Model) -> "Changed":
        """A copy of what has changed since the last time: quick, for under the lock."""
        theta, n = model.solution.theta[: self._tracked], model.n[: self._tracked]
        # Before its first click an arm's θ stays 0, though the model grows surer of it.
        rows = np.flatnonzero((theta != self._theta).any(axis=1) | (n != self._n))
        self._theta[rows], self._n[rows] = theta[rows], n[rows]
        return Changed(
            rows.tolist(),
            model.n[rows].tolist(),
            model.clicks[rows].tolist(),
            theta[rows].astype(np.float32),
            model.solution.covariance[rows].astype(np.float32),
        )

    def _forget(self, model: Model) -> None:
        """Let whatever the next sample finds be a change."""
        self._theta = np.full((self._tracked, model.solution.theta.shape[1]), np.nan)
        self._n = np.full(self._tracked, -1)

    def record(self, changed: "Changed", at_s: float) -> None:
        """Add it to the history."""
        for row, *parts in zip(*changed, strict=True):
            self._snapshots[row].append(_Snapshot(at_s, *parts))

    def curve(self, arm: int, x: Floats) -> list[Point]:
        """The arm's history in a context (1 × d).

        Raises:
            KeyError: the arm is not followed.
        """
        history = self._snapshots[self._row[arm]].values()
        solution = Solution(
            np.array([each.theta for each in history], np.float64),
            np.array([each.covariance for each in history], np.float64),
        )
        mean, sd = means(x, solution)[0].tolist(), deviations(x, solution)[0].tolist()
        return [
            Point(round(each.at_s, 3), each.n, each.clicks, m, s)
            for each, m, s in zip(history, mean, sd, strict=True)
        ]


def present(model: Model, row: int, x: Floats, at_s: float) -> Point:
    """What the model thinks of the arm of this row now."""
    one = Solution(model.solution.theta[row : row + 1], model.solution.covariance[row : row + 1])
    mean, sd = float(means(x, one)[0, 0]), float(deviations(x, one)[0, 0])
    return Point(round(at_s, 3), int(model.n[row]), int(model.clicks[row]), mean, sd)
