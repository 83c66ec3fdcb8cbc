"""The server as it is observed: which of its counts is which metric.

Everything here is called from another thread than the service's own, and only reads.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Protocol

import msgspec

from reco.observed import State, by_partition
from reco.uplift import ExpectedClicks
from server.ranking import RankCounts
from server.readiness import STALE_LIMIT_S, not_ready
from server.several_views import Followed
from server.stream import StreamServer
from shared.events import VISITS
from shared.kafka_admin import Committed
from shared.metrics import ServerMetrics
from shared.ports import Watermarks


class Log(Protocol):
    """What is asked of the broker (`KafkaAdmin`)."""

    def watermarks(self, topic: str, partitions: Iterable[int]) -> dict[int, Watermarks]: ...

    def committed(
        self, group: str, topic: str, partitions: Iterable[int]
    ) -> dict[int, Committed]: ...


class ObservedServer:
    """`reco.observed.Service`

    Args:
        metrics: the server's.
        server: its loop.
        view: its model, or all of them where policies rank side by side.
        log: for lag.
        group: whose committed offsets count where nothing was read yet.
        model: name of the model.
        policy: what ranks.
        delivery: how visits are delivered.
        experiment: name of the one that it runs.
        expected: what the slates are worth, where shoppers are simulated.
        stale_limit_s: from which age of the view on it is not ready.
        joins: whether it reads visits at all.
        over_http: what its API has decided, where it has one.
        api_not_ready: why that should get no requests, beside what its model says.
    """

    kind: Literal["server"] = "server"

    def __init__(
        self,
        metrics: ServerMetrics,
        server: StreamServer,
        view: Followed,
        log: Log,
        *,
        group: str,
        model: str,
        policy: str,
        delivery: str,
        experiment: str | None = None,
        expected: ExpectedClicks | None = None,
        stale_limit_s: float = STALE_LIMIT_S,
        joins: bool = True,
        over_http: RankCounts | None = None,
        api_not_ready: Callable[[], Sequence[str]] = lambda: (),
    ) -> None:
        self.metrics = metrics
        self._server = server
        self._view = view
        self._log = log
        self._group = group
        self._policy = policy
        self._delivery = delivery
        self._experiment = experiment
        self._stale_limit_s = stale_limit_s
        self._joins = joins
        self._over_http = over_http or RankCounts()
        self._api_not_ready = api_not_ready
        metrics.policy_info.read(lambda: {(model, policy): 1.0})
        metrics.delivery_info.read(lambda: {(delivery,): 1.0})
        if expected:
            metrics.expected_clicks.read(lambda: expected.totals)
        self._read_counts()
        self._read_view()

    def not_ready(self) -> list[str]:
        """See `Service.not_ready`."""
        missing = self._server.membership.not_ready if self._joins else ()
        reasons = not_ready(self._view, stale_limit_s=self._stale_limit_s, missing=missing)
        return [*reasons, *self._api_not_ready()]

    def done(self) -> int:
        """See `Service.done`: decisions, however they were asked for."""
        return self._server.counts.visits + self._over_http.decisions

    def counts(self) -> dict[str, int]:
        """See `Service.counts`."""
        counts: dict[str, int] = msgspec.to_builtins(self._server.counts)
        return {**counts, "over_http": self._over_http.decisions, "gaps": self._view.gaps}

    def state(self) -> State:
        """See `Service.state`."""
        return State(
            partitions=sorted(self._server.positions),
            positions=dict(enumerate(self._view.positions)),
            view_age_s=round(self._view.age_s, 3) if self._view.ready else None,
            stale=self._view.stale,
            policy=self._policy,
            delivery=self._delivery,
            experiment=self._experiment,
            stream=self._joins,
        )

    def lag(self) -> tuple[str, dict[int, int]]:
        """See `Service.lag`: visits not decided."""
        positions = self._server.positions
        held = self._log.watermarks(VISITS, positions)
        unread = [partition for partition, offset in positions.items() if offset is None]
        committed = self._log.committed(self._group, VISITS, unread) if unread else {}

        def next_offset(partition: int, offset: int | None) -> int:
            if offset is not None:
                return offset
            known = committed.get(partition)
            return known.next_offset if known else held[partition].start

        return VISITS, {
            partition: held[partition].end - next_offset(partition, offset)
            for partition, offset in positions.items()
        }

    def _read_counts(self) -> None:
        metrics, counts = self.metrics, self._server.counts
        metrics.visits.read(self.done)
        metrics.decisions.read(lambda: {("stream",): counts.visits})
        metrics.skipped.read(lambda: counts.skipped)
        metrics.outcomes.read(lambda: counts.outcomes)
        metrics.clicks.read(lambda: counts.clicks)
        metrics.dead_letters.read(lambda: {(VISITS,): counts.dead_letters})
        metrics.unknown_categories.read(lambda: counts.unknown_categories)
        metrics.clipped.read(lambda: counts.clipped)

    def _read_view(self) -> None:
        metrics, view = self.metrics, self._view
        metrics.view_age.read(lambda: view.age_s)
        metrics.view_stale.read(lambda: float(view.stale))
        metrics.view_offset.read(lambda: by_partition(dict(enumerate(view.positions))))
        metrics.view_bytes.read(lambda: view.nbytes)
        metrics.gaps.read(lambda: view.gaps)
        metrics.solution_age.read(lambda: view.solution_age_s)
