"""The producer as it is observed: which of its counts is which metric."""

from typing import Literal

from producer.service import VisitProducer
from reco.observed import State
from shared.events import VISITS
from shared.metrics import ProducerMetrics


class ObservedProducer:
    """`reco.observed.Service`"""

    kind: Literal["producer"] = "producer"

    def __init__(self, metrics: ProducerMetrics, producer: VisitProducer) -> None:
        self.metrics = metrics
        self._counts = producer.counts
        metrics.sent.read(lambda: self._counts.sent)
        metrics.confirmed.read(lambda: self._counts.confirmed)

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
