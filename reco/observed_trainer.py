"""The trainer as it is observed: which of its counts is which metric.

Apart from the server's, since it starts without what only a server needs.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

import msgspec

from reco.observed import State, by_partition
from shared.events import OUTCOMES
from shared.metrics import TrainerMetrics
from shared.ports import Record, Rows, Watermarks
from shared.tracing import Trace, untraced
from trainer.loop import Trainer, Wrote


class Log(Protocol):
    """What is asked of the broker (`KafkaAdmin`)."""

    def watermarks(self, topic: str, partitions: Iterable[int]) -> dict[int, Watermarks]: ...


class ObservedTrainer:
    """`reco.observed.Service`"""

    kind: Literal["trainer"] = "trainer"

    def __init__(self, metrics: TrainerMetrics, trainer: Trainer, log: Log) -> None:
        self.metrics = metrics
        self._trainer = trainer
        self._log = log
        counts = trainer.counts
        metrics.applied.read(lambda: counts.applied)
        metrics.duplicates.read(lambda: counts.duplicates)
        metrics.dead_letters.read(lambda: {(OUTCOMES,): counts.dead_letters})
        metrics.writes.read(lambda: counts.writes)
        metrics.conflicts.read(lambda: counts.conflicts)
        metrics.reloads.read(lambda: counts.reloads)
        metrics.offset.read(lambda: by_partition(trainer.positions))
        metrics.waiting.read(lambda: len(trainer.owned) - len(trainer.positions))

    def not_ready(self) -> list[str]:
        """See `Service.not_ready`."""
        return self._trainer.not_ready

    def done(self) -> int:
        """See `Service.done`: outcomes applied."""
        return self._trainer.counts.applied

    def counts(self) -> dict[str, int]:
        """See `Service.counts`."""
        counts: dict[str, int] = msgspec.to_builtins(self._trainer.counts)
        return {name: count for name, count in counts.items() if name != "waiting"}

    def state(self) -> State:
        """See `Service.state`."""
        return State(partitions=self._trainer.owned, positions=self._trainer.positions)

    def lag(self) -> tuple[str, dict[int, int]]:
        """See `Service.lag`: outcomes not applied."""
        positions = self._trainer.positions
        held = self._log.watermarks(OUTCOMES, positions)
        return OUTCOMES, {p: held[p].end - offset for p, offset in positions.items()}


def wrote(metrics: TrainerMetrics, trace: Trace = untraced) -> Wrote:
    """What tells the metrics how large a write was, and the traces whose outcomes it holds."""

    def observe(records: Sequence[Record], rows: Rows) -> None:
        metrics.write_rows.observe(len(rows))
        metrics.write_bytes.observe(sum(map(len, rows.values())))
        for record in records:
            if record.headers:
                place = {"partition": record.partition, "offset": record.offset}
                trace(record.headers, record.timestamp_ms, place)

    return observe
