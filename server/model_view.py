"""The model in the server's memory: the rows in the store, followed and solved as they change."""

import threading
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np

from server.partition_view import PartitionView, Update
from server.scorer import Model
from server.view import View
from shared.arm_statistics import ArmStatistics, CorruptRow, Integers
from shared.events import key_of
from shared.linucb import Solution, solve, untrained
from shared.live_catalogue import arms_id
from shared.partitioner import partition_of
from shared.ports import (
    ChangeFeed,
    ChangesLost,
    ModelConfig,
    Position,
    Rows,
    StateStore,
    StoreUnavailable,
)

if TYPE_CHECKING:  # brings scipy.linalg, for the policies whose arms learn from each other
    from server.joint_solver import JointSolver

CHECK_EVERY_S: Final = 1.0
"""How often the store's positions are asked for, to find an announcement that was lost."""

STALE_AFTER_S: Final = 2.0
"""A store that is merely frozen refuses nothing: it is missed when its answers are overdue."""

RETRY_S: Final = 0.25

SOLVING_SHARE: Final = 0.5
"""At most this share of the following thread's time goes into joint solves."""


class WrongModel(Exception):
    """The rows in the store were made for another d or encoder."""


class ModelView:
    """Follows the state of all partitions and keeps the arms solved.

    `refresh` belongs to one thread; `locked` gives any other a consistent view.

    Args:
        store: where the rows are.
        arms: the catalogue's product_ids: what is ranked.
        config: d and encoder that the rows must have.
        partitions: partition count of the outcomes topic.
        lambda_: ridge λ of the solution.
        clock: monotonic seconds.
        on_advance: told (partition, next offset) once outcomes before it can be served.
        joint: solves all arms together; without it each arm is solved for itself.
    """

    def __init__(
        self,
        store: StateStore,
        arms: Sequence[int],
        config: ModelConfig,
        partitions: int,
        lambda_: float,
        clock: Callable[[], float],
        on_advance: Callable[[int, int], None] = lambda partition, next_offset: None,
        joint: "JointSolver | None" = None,
    ) -> None:
        self.error = ""
        """Why the view is stale or not loaded yet; empty if it is neither."""
        self._store = store
        self._config = config
        self._lambda = lambda_
        self._clock = clock
        self._on_advance = on_advance
        self._lock = threading.Lock()
        self._feed: ChangeFeed | None = None
        self._partitions = [PartitionView() for _ in range(partitions)]
        self._loaded = [False] * partitions
        self._confirmed_at = float("-inf")
        self._checked_at = float("-inf")
        self._retry_at = float("-inf")
        self._positions = [0] * partitions
        self._arms_of: list[set[int]] = [set() for _ in range(partitions)]
        self._row = {arm: row for row, arm in enumerate(arms)}
        self._unranked: list[Rows] = [{} for _ in range(partitions)]
        """By partition what is read of arms that are not ranked (yet): as new as `_positions`."""
        self._left: set[int] = set()
        """Arms that are ranked no longer, whose rows need not be among these."""
        self._joint = joint
        self._unsolved: dict[int, int] = {}
        """Partition → next offset that the next joint solve will reach."""
        self._unread: set[int] = set()
        """Partitions that a new joint solver has not read yet."""
        self._unsolved_since = float("inf")
        self._solve_at = float("-inf")
        self._parameters: dict[str, float] = joint.parameters if joint else {}
        # With γ < 1 every outcome of a partition ages all its arms, so all rows are kept.
        self._kept = [ArmStatistics(config.d, config.gamma) for _ in range(partitions)]
        self._model = joint.model if joint else self._untrained(arms)
        self._arms, self._arms_id = self._model.arms, arms_id(arms)

    @property
    def ready(self) -> bool:
        """True once every partition has been read."""
        return all(self._loaded)

    @property
    def age_s(self) -> float:
        """Seconds since the store last confirmed that the view is current."""
        return self._clock() - self._confirmed_at

    @property
    def solution_age_s(self) -> float:
        """How long the oldest outcome waits that is read and not yet in the solution; 0 if none."""
        return max(0.0, self._clock() - self._unsolved_since)

    @property
    def positions(self) -> list[int]:
        """Next outcomes offset of each partition in the model."""
        return list(self._positions)

    @property
    def stale(self) -> bool:
        """The store has said that it is away, or has said nothing for too long."""
        return bool(self.error) or self.age_s > STALE_AFTER_S

    @property
    def gaps(self) -> int:
        """Announcements that did not continue the view, so that a partition was read again."""
        return sum(partition.gaps for partition in self._partitions)

    @property
    def nbytes(self) -> int:
        """Memory of the model's arrays."""
        model, solution = self._model, self._model.solution
        counts = model.arms.nbytes + model.n.nbytes + model.clicks.nbytes
        return counts + solution.theta.nbytes + solution.covariance.nbytes

    @contextmanager
    def locked(self) -> Iterator[View]:
        """See `Viewing.locked`."""
        with self._lock:
            model = self._model
            if model.arms is not self._arms:  # hashed once for each set, not for each view
                self._arms, self._arms_id = model.arms, arms_id(model.arms.tolist())
            positions = list(self._positions)
            yield View(model, positions, self.stale, self._parameters, arms_id=self._arms_id)

    def refresh(self, wait_s: float = 0.0) -> None:
        """Take in what has changed; waits up to `wait_s` for a first change.

        A store that is away leaves the view as it is, `stale`, and is asked again later.

        Raises:
            WrongModel: the store holds the model of another encoder.
            CorruptState: what the store holds can't be read as a model.
        """
        self._solve_if_due()
        if self._clock() < self._retry_at:
            return
        if self._unsolved:
            wait_s = min(wait_s, max(0.0, self._solve_at - self._clock()))
        try:
            self._follow(wait_s)
        except StoreUnavailable as error:
            self._lose(str(error))
            self._retry_at = self._clock() + RETRY_S
        else:
            self._confirmed_at = self._clock()
            self._solve_if_due()
            if self.ready:
                self.error = ""

    def rank_these(self, arms: Sequence[int], joint: "JointSolver | None" = None) -> None:
        """Rank these products from now on. Belongs to the thread of `refresh`.

        What is known of an arm that stays is kept. Of one that is new the view has read the row
        already, so its position is true of that too. That of one that is back may be read again.

        Args:
            arms: product_ids.
            joint: solves these together. The products of before are ranked until it has read and
                solved all.
        """
        if joint:
            self._joint, self._row = joint, {arm: row for row, arm in enumerate(arms)}
            self._unread = set(range(len(self._partitions)))
            for partition in self._partitions:
                partition.lost()
            return
        old, before = self._model, self._row
        self._row = {arm: row for row, arm in enumerate(arms)}
        stays = [(before[arm], row) for arm, row in self._row.items() if arm in before]
        source, target = np.array(stays, np.int64).reshape(-1, 2).T
        model = self._untrained(arms)
        kept = Solution(old.solution.theta[source], old.solution.covariance[source])
        _put(model, target, old.n[source], old.clicks[source], kept)
        new = self._row.keys() - before.keys()
        unknown = new - self._bring(new, model)
        with self._lock:
            self._model = model._replace(untrained=np.flatnonzero(model.n == 0))
        for arm in unknown & self._left:
            self._partitions[partition_of(key_of(arm), len(self._partitions))].lost()
        self._left = (self._left - new) | (before.keys() - self._row.keys())

    def _bring(self, arms: Set[int], model: Model) -> set[int]:
        """Put what is read of these into a model; returns of which there is anything."""
        brought = set[int]()
        for unranked, position in zip(self._unranked, self._positions, strict=True):
            statistics = ArmStatistics(self._config.d, self._config.gamma)
            statistics.load({arm: unranked.pop(arm) for arm in arms & unranked.keys()})
            solution = solve(*statistics.decayed(position), self._lambda)
            rows = np.array([self._row[arm] for arm in statistics.arms], np.int64)
            _put(model, rows, statistics.n, statistics.clicks, solution)
            brought.update(statistics.arms)
        return brought

    def close(self) -> None:
        """Stop listening."""
        if self._feed:
            self._feed.close()

    def _follow(self, wait_s: float) -> None:
        if self._feed is None:
            self._feed = self._store.changes(range(len(self._partitions)))
        try:
            changes = self._feed.drain(wait_s)
        except ChangesLost as error:
            self._lose(str(error))
            changes = []
        for change in changes:
            partition = self._partitions[change.partition]
            try:
                self._install(change.partition, partition.heard(change))
            except CorruptRow:  # the channel is open to others, and what is stored may be whole
                partition.gaps += 1
                partition.lost()
        if self._clock() - self._checked_at >= CHECK_EVERY_S:
            self._check()
        for number, partition in enumerate(self._partitions):
            if partition.must_read:
                self._copy(number)

    def _check(self) -> None:
        positions = self._store.positions(range(len(self._partitions)))
        for partition, position in zip(self._partitions, positions, strict=True):
            partition.checked(position)
        self._checked_at = self._clock()

    def _copy(self, number: int) -> None:
        [before] = self._store.positions([number])
        if before:
            self._check_fits(before)
        pages = list(self._store.scan(number))
        [after] = self._store.positions([number])
        self._install(number, self._partitions[number].copied(before, pages, after))

    def _check_fits(self, position: Position) -> None:
        if position.config != self._config:
            raise WrongModel(
                f"the model in the store was made with {position.config}, this server has "
                f"{self._config}: use the data folder it was made with, or another --model"
            )
        if position.source.partitions != len(self._partitions):
            raise WrongModel(
                f"the model in the store comes from a topic with {position.source.partitions} "
                f"partitions, this one has {len(self._partitions)}: use another --model"
            )

    def _install(self, number: int, update: Update | None) -> None:
        if update is None:
            return
        gone = self._arms_of[number] - update.rows.keys() if update.whole else set()
        # Solved before the lock is taken: serving waits only for the copy into the arrays.
        statistics = self._statistics(number, update)
        b, xx = statistics.decayed(update.next_offset)
        known = [(i, self._row[arm]) for arm, i in statistics.index.items() if arm in self._row]
        source, target = np.array(known, np.int64).reshape(-1, 2).T
        forgotten = np.array([self._row[arm] for arm in gone if arm in self._row], np.int64)
        self._arms_of[number] = (self._arms_of[number] - gone) | update.rows.keys()
        n, clicks = statistics.n[source], statistics.clicks[source]
        if self._joint:
            self._joint.take(target, n, clicks, b[source], xx[source])
            self._joint.forget(forgotten)
            self._unsolved[number] = update.next_offset
            if update.whole:
                self._unread.discard(number)
            self._unsolved_since = min(self._unsolved_since, self._clock())
            return
        solution = solve(b[source], xx[source], self._lambda)
        nothing = np.zeros(len(forgotten), np.int64)
        empty = untrained(len(forgotten), self._config.d, self._lambda)
        if update.whole:
            self._unranked[number].clear()
        unranked = {arm: row for arm, row in update.rows.items() if arm not in self._row}
        self._unranked[number].update(unranked)
        with self._lock:
            model = self._model
            _put(model, target, n, clicks, solution)
            _put(model, forgotten, nothing, nothing, empty)
            self._model = model._replace(untrained=np.flatnonzero(model.n == 0))
            self._positions[number] = update.next_offset
            self._loaded[number] = True
        self._on_advance(number, update.next_offset)

    def _statistics(self, number: int, update: Update) -> ArmStatistics:
        """The rows to solve: those that changed, or with forgetting all of the partition."""
        if self._config.gamma == 1.0 or update.whole:
            self._kept[number] = ArmStatistics(self._config.d, self._config.gamma)
        self._kept[number].load(update.rows)
        return self._kept[number]

    def _solve_if_due(self) -> None:
        """Put all that was read into a new joint solution, as far as the budget allows."""
        if not self._joint or not self._unsolved or self._unread or self._clock() < self._solve_at:
            return
        started_at, reached = self._clock(), self._unsolved
        model, parameters = self._joint.solve(), self._joint.parameters
        with self._lock:
            self._model, self._parameters = model, parameters
            for number, next_offset in reached.items():
                self._positions[number] = next_offset
                self._loaded[number] = True
        self._unsolved, self._unsolved_since = {}, float("inf")
        now = self._clock()
        self._solve_at = now + (now - started_at) * (1.0 / SOLVING_SHARE - 1.0)
        for number, next_offset in reached.items():
            self._on_advance(number, next_offset)

    def _untrained(self, arms: Sequence[int]) -> Model:
        zeros, count = np.zeros(len(arms), np.int64), len(arms)
        solution = untrained(count, self._config.d, self._lambda)
        return Model(np.array(arms, np.int64), zeros, zeros.copy(), solution, np.arange(count))

    def _lose(self, reason: str) -> None:
        self.error = reason or "the connection to the store was interrupted"
        for partition in self._partitions:
            partition.lost()


def _put(model: Model, rows: Integers, n: Integers, clicks: Integers, solution: Solution) -> None:
    """What these rows of the model are from now on."""
    model.n[rows], model.clicks[rows] = n, clicks
    model.solution.theta[rows] = solution.theta
    model.solution.covariance[rows] = solution.covariance
