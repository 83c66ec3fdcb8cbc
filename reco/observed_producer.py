"""The producer as it is observed: which of its counts is which metric."""

from typing import Literal, Protocol

from reco.observed import State
from reco.uplift import ExpectedClicks
from shared.events import VISITS
from shared.metrics import ProducerMetrics


class Sent(Protocol):
    """What a producer counts, to the topic or over HTTP."""

    @property
    def sent(self) -> int: ...

    @property
    def confirmed(self) -> int: ...


class ObservedProducer:
    """`reco.observed.Service`

    Args:
        metrics: the producer's.
        counts: its counts.
        expected: what the slates are worth, where its shoppers get to see them.
    """

    kind: Literal["producer"] = "producer"

    def __init__(
        self, metrics: ProducerMetrics, counts: Sent, expected: ExpectedClicks | None = None
    ) -> None:
        self.metrics = metrics
        self._counts = counts
        metrics.sent.read(lambda: self._counts.sent)
        metrics.confirmed.read(lambda: self._counts.confirmed)
        if expected:
            metrics.expected_clicks.read(lambda: expected.totals)

    def not_ready(self) -> list[str]:
        """See `Service.not_ready`: it gives work and gets none."""
        return []

    def done(self) -> int:
        """See `Service.done`: visits confirmed."""
        return self._counts.confirmed

    def counts(self) -> dict[str, int]:
        """See `Service.counts`."""
        return {"sent": self._counts.sent, "confirmed": self._counts.confirmed}

    def state(self) -> State:
        """See `Service.state`."""
        return State(partitions=[], positions={})

    def lag(self) -> tuple[str, dict[int, int]]:
        """See `Service.lag`: it reads nothing."""
        return VISITS, {}
