"""The producer's loop: sends visits at a steady rate and counts them when they are confirmed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from producer.simulate import Shoppers
from shared.events import OUTCOMES, VISITS, Outcome, encode, key_of
from shared.ports import EventProducer
from shared.tracing import Trace, untraced

TICK_S: Final = 0.01
BATCH: Final = 1_000
FLUSH_TIMEOUT_S: Final = 30.0


class Stop(Protocol):
    """What tells the loop to end, and lets it wait meanwhile (`threading.Event`)."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float | None = None) -> bool: ...


@dataclass
class Counts:
    """Visits so far: handed to the broker's client, and acknowledged by the broker."""

    sent: int = 0
    confirmed: int = 0


class VisitProducer:
    """Sends simulated visits, each batch acknowledged before the next is due.

    Args:
        producer: where to.
        shoppers: who visits.
        rate: visits a second; 0 for as fast as the broker takes them.
        clock: monotonic seconds.
        utc_now: for `emitted_at`.
        progress: called after every confirmed batch.
        trace: how a visit starts a trace.
    """

    def __init__(
        self,
        producer: EventProducer,
        shoppers: Shoppers,
        rate: float,
        *,
        clock: Callable[[], float],
        utc_now: Callable[[], datetime],
        progress: Callable[[Counts], None] = lambda counts: None,
        trace: Trace = untraced,
    ) -> None:
        self.counts = Counts()
        self._producer = producer
        self._shoppers = shoppers
        self._rate = rate
        self._clock = clock
        self._utc_now = utc_now
        self._progress = progress
        self._trace = trace

    def run(self, indices: Iterable[int], stop: Stop) -> None:
        """Send the visits with these indices until they end or `stop` is set; what was sent is
        confirmed on return.

        Raises:
            BrokerUnavailable: visits were sent that the broker did not acknowledge.
        """
        waiting = iter(indices)
        started_s, exhausted = self._clock(), False
        while not exhausted and not stop.is_set():
            due = self._due(self._clock() - started_s)
            for _ in range(due):
                index = next(waiting, None)
                if index is None:
                    exhausted = True
                    break
                self._send(index)
            if due:
                self._producer.flush(FLUSH_TIMEOUT_S)
                self.counts.confirmed = self.counts.sent
                self._progress(self.counts)
            if self._rate and not exhausted:
                stop.wait(TICK_S)

    def _due(self, elapsed_s: float) -> int:
        if not self._rate:
            return BATCH
        # One visit at once, then by the clock: a late tick catches up, in batches.
        return min(BATCH, int(elapsed_s * self._rate) + 1 - self.counts.sent)

    def _send(self, index: int) -> None:
        visit = self._shoppers.visit(index, self._utc_now())
        emitted_ms = int(visit.emitted_at.timestamp() * 1e3)
        headers = self._trace((), emitted_ms, {"visit_id": visit.visit_id})
        self._producer.send(VISITS, key_of(visit.user_id), encode(visit), headers=headers)
        self.counts.sent += 1


def send_outcomes(
    producer: EventProducer,
    outcomes: Iterable[Outcome],
    stop: Stop,
) -> int:
    """Publish outcomes of the past to the same topic as those of today; returns how many.

    Raises:
        BrokerUnavailable: the broker did not acknowledge them.
    """
    sent = 0
    for outcome in outcomes:
        if stop.is_set():
            break
        producer.send(OUTCOMES, key_of(outcome.product_id), encode(outcome))
        sent += 1
        if sent % BATCH == 0:
            producer.flush(FLUSH_TIMEOUT_S)
    producer.flush(FLUSH_TIMEOUT_S)
    return sent
