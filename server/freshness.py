"""Freshness: from the moment a shopper reacts until this server's own view has learned from it."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

MOST_PENDING: Final = 10_000
"""Of each partition: while nobody learns, what is published would be followed for ever."""


class FreshnessProbe:
    """Follows the outcomes that this server published until its view has passed their offset.

    One clock, the server's own, stands at both ends, so nothing has to be synchronised. The path
    covers everything between: broker, trainer, store, announcement and solve.

    Args:
        partitions: partition count of the outcomes topic.
        clock: monotonic seconds.
        on_sample: told each sample, in seconds, for metrics.
    """

    def __init__(
        self,
        partitions: int,
        clock: Callable[[], float],
        on_sample: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._clock = clock
        self._on_sample = on_sample
        self._lock = threading.Lock()
        self._pending: list[deque[tuple[int, float]]] = [deque() for _ in range(partitions)]
        self._positions = [0] * partitions
        self._samples_ms: list[float] = []

    def delivered(self, partition: int, offset: int, resolved_s: float) -> None:
        """The broker has stored an outcome that was resolved at `resolved_s` of the clock."""
        with self._lock:
            if offset < self._positions[partition]:  # learned before the broker's answer was read
                self._sample(self._clock() - resolved_s)
            elif len(self._pending[partition]) < MOST_PENDING:
                self._pending[partition].append((offset, resolved_s))

    def advanced(self, partition: int, next_offset: int) -> None:
        """The view now holds everything before `next_offset`."""
        now_s = self._clock()
        with self._lock:
            self._positions[partition] = next_offset
            pending = self._pending[partition]
            while pending and pending[0][0] < next_offset:
                self._sample(now_s - pending.popleft()[1])

    def take_ms(self) -> list[float]:
        """The samples since the last call, in milliseconds."""
        with self._lock:
            samples, self._samples_ms = self._samples_ms, []
        return samples

    def _sample(self, seconds: float) -> None:
        self._samples_ms.append(seconds * 1e3)
        self._on_sample(seconds)
