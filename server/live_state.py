"""What the live page knows of the visits: rates, freshness and the latest ones. Pure.

It is told what passes through the topics, whoever served it, and where this server's view stands.
"""

import bisect
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from server.live_experiment import ExperimentTally
from server.sample import Sample
from server.settling import Judged, Settling
from server.thinned import Thinned
from shared.arm_statistics import Floats
from shared.events import Context, Decision, Outcome
from shared.features import Encoder

RECENT: Final = 1_000
"""Visits that the click rate is taken over."""
SHOWN: Final = 30
"""Visits that are kept to be listed."""
GRACE_S: Final = 0.5
"""A decision is judged so long after its first outcome: they lie in several partitions, so the
click may come after the others. Clicks wait as well, or they would be listed first."""
WAITING: Final = 5_000
"""Decisions, and outcomes without theirs, that are kept until they find each other."""
POINTS: Final = 240
_RATE_OVER_S: Final = 10.0
_ADVANCES: Final = 4_096
_SAMPLES: Final = 1_000

Hidden = Callable[[Sequence[Context]], tuple[Floats, Floats]]
"""Click probability of a random slate and of the best one, where a simulator knows them."""


class VisitSeen(msgspec.Struct, frozen=True):
    """One visit, as the page lists it."""

    number: int
    decision_id: str
    user_id: int
    age: int
    gender: str
    traffic_source: str
    part: str
    """Of the day."""
    weekend: bool
    slate: list[int]
    clicked: int | None
    """product_id"""


class Rates(msgspec.Struct, frozen=True):
    """Over the last visits, `RECENT` at most."""

    visits: int
    """All that were seen so far."""
    over: int
    """Of how many these are the rates (see `server.settling`)."""
    shown: float | None
    random: float | None = None
    best: float | None = None


class Freshness(msgspec.Struct, frozen=True):
    """Milliseconds from a reaction until this server's model held it."""

    p50_ms: float | None
    p99_ms: float | None
    samples: int


class OutcomeSeen(NamedTuple):
    """An outcome and where it lies."""

    partition: int
    offset: int
    outcome: Outcome


class FreshnessTail:
    """Puts outcomes beside the moments at which the view passed them, whichever is known first."""

    def __init__(self, partitions: int) -> None:
        self._advances: list[deque[tuple[int, float]]] = [
            deque(maxlen=_ADVANCES) for _ in range(partitions)
        ]
        self._pending: list[deque[tuple[int, float]]] = [
            deque(maxlen=_ADVANCES) for _ in range(partitions)
        ]
        self._samples_ms: deque[float] = deque(maxlen=_SAMPLES)

    def advanced(self, partition: int, next_offset: int, at_s: float) -> None:
        """The view now holds everything before `next_offset`."""
        advances, pending = self._advances[partition], self._pending[partition]
        if advances and next_offset < advances[-1][0]:  # the state was replaced
            advances.clear()
            pending.clear()
        advances.append((next_offset, at_s))
        for _ in range(len(pending)):
            offset, resolved_s = pending.popleft()
            if offset < next_offset:
                self._add(at_s - resolved_s)
            else:
                pending.append((offset, resolved_s))

    def outcome(self, partition: int, offset: int, resolved_s: float) -> None:
        """An outcome is known to have been resolved then."""
        advances = self._advances[partition]
        passed = bisect.bisect_right(advances, offset, key=lambda advance: advance[0])
        if passed == len(advances):
            self._pending[partition].append((offset, resolved_s))
        elif passed > 0:  # else it was passed before the first advance that is still known
            self._add(advances[passed][1] - resolved_s)

    def freshness(self) -> Freshness:
        """Over the last samples."""
        if not self._samples_ms:
            return Freshness(None, None, 0)
        p50, p99 = np.percentile(self._samples_ms, [50, 99]).tolist()
        return Freshness(round(p50, 2), round(p99, 2), len(self._samples_ms))

    def _add(self, seconds: float) -> None:
        # Two clocks may differ by more than the way takes.
        self._samples_ms.append(max(seconds, 0.0) * 1e3)


class _Waiting(msgspec.Struct):
    decision: Decision | None = None
    clicked: int | None = None
    first_outcome_s: float = math.inf
    outcomes: list[tuple[int, int, float]] = []
    """Partition, offset, resolved at."""


class LiveState:
    """Joins decisions with their outcomes, in whatever order they come, and keeps the figures.

    Args:
        encoder: decisions made with another one are left out.
        partitions: of the outcomes topic.
        hidden: what random and best slates would get, where it is known.
    """

    def __init__(self, encoder: Encoder, partitions: int, hidden: Hidden | None) -> None:
        self.visits: deque[VisitSeen] = deque(maxlen=SHOWN)
        """The latest, oldest first."""
        self.freshness = FreshnessTail(partitions)
        self.series = Thinned[Rates](POINTS)
        """The rates as they were, thinned; the last is the present one."""
        self._encoder = encoder
        self._hidden = hidden
        self.experiment = ExperimentTally(hidden is not None)
        """Policies side by side, where the decisions say so."""
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._done: OrderedDict[str, None] = OrderedDict()
        self._total = self._marked = 0
        self._sample = Sample()
        self._settling = Settling()
        self._recent: deque[tuple[bool, float, float]] = deque(maxlen=RECENT)
        self._arrivals: deque[tuple[float, int]] = deque()

    def take(
        self, decisions: Iterable[Decision], outcomes: Iterable[OutcomeSeen], now_s: float
    ) -> None:
        """Take in what the topics brought, and list the visits whose reaction is known now."""
        for decision in decisions:
            # Anyone may write on a topic: x has to be one that the encoder made.
            known = decision.encoder_id == self._encoder.id and len(decision.x) == self._encoder.d
            if not known or not all(0.0 <= number <= 1.0 for number in decision.x):
                continue
            if decision.decided_at.tzinfo is None:  # nobody knows when that was
                continue
            if waiting := self._of(decision.decision_id):
                waiting.decision = decision
        for partition, offset, outcome in outcomes:
            if outcome.resolved_at.tzinfo is None:  # no moment, and perhaps before all of them
                continue
            if waiting := self._of(outcome.decision_id):
                waiting.first_outcome_s = min(waiting.first_outcome_s, now_s)
                waiting.outcomes.append((partition, offset, outcome.resolved_at.timestamp()))
                if outcome.reward > 0.0:
                    waiting.clicked = outcome.product_id
        self._list(self._settled(now_s), now_s)

    def rates(self) -> Rates:
        """Those of now."""
        if not self._recent:
            return Rates(self._total, 0, None)
        clicked, random, best = np.array(self._recent, np.float64).mean(axis=0).tolist()
        if self._hidden is None:
            return Rates(self._total, len(self._recent), round(clicked, 4))
        return Rates(
            self._total, len(self._recent), round(clicked, 4), round(random, 4), round(best, 4)
        )

    def visits_per_s(self, now_s: float) -> float:
        """Over the last ten seconds; where a sample is seen, as it tells."""
        while self._arrivals and self._arrivals[0][0] < now_s - _RATE_OVER_S:
            self._arrivals.popleft()
        return round(sum(count for _, count in self._arrivals) / _RATE_OVER_S, 1)

    def mark(self) -> None:
        """Put the present rates into the series, if they are new."""
        now = self.rates()
        if now.over and now.visits != self._marked:
            self._marked = now.visits
            self.series.append(now)

    def forget_waiting(self) -> None:
        """Part of the log was left out: what waits would be judged by half of its outcomes.

        The rates of before are no longer those of now, and until others are known there are none.
        """
        self._waiting.clear()
        self._settling.forget()
        self._recent.clear()

    def thin(self, one_in: int, now_s: float) -> None:
        """From now on the records of one decision in so many come, a power of two."""
        self._sample.take(one_in, now_s)
        self._settling.thin(one_in)

    def _of(self, decision_id: str) -> _Waiting | None:
        if decision_id in self._done:  # decided again after a crash
            return None
        waiting = self._waiting.get(decision_id)
        if waiting is None:
            waiting = self._waiting[decision_id] = _Waiting()
            if len(self._waiting) > WAITING:
                self._waiting.popitem(last=False)
        return waiting

    def _settled(self, now_s: float) -> list[tuple[Decision, _Waiting]]:
        found = [
            (waiting.decision, waiting)
            for waiting in self._waiting.values()
            if waiting.decision is not None and now_s - waiting.first_outcome_s >= GRACE_S
        ]
        for decision, _ in found:
            del self._waiting[decision.decision_id]
            self._done[decision.decision_id] = None
            if len(self._done) > WAITING:
                self._done.popitem(last=False)
        return [
            (decision, waiting)
            for decision, waiting in found
            if self._sample.counts(decision.decision_id, decision.decided_at.timestamp())
        ]

    def _list(self, settled: Sequence[tuple[Decision, _Waiting]], now_s: float) -> None:
        if not settled:
            return
        contexts = [self._encoder.decode(decision.x) for decision, _ in settled]
        none = np.zeros(len(settled))
        random, best = self._hidden(contexts) if self._hidden else (none, none)
        for (decision, waiting), context, r, b in zip(
            settled, contexts, random.tolist(), best.tolist(), strict=True
        ):
            for partition, offset, resolved_s in waiting.outcomes:
                self.freshness.outcome(partition, offset, resolved_s)
            self._total += 1
            self.visits.append(_seen(self._total, decision, context, waiting.clicked))
            whose = decision.experiment, decision.variant, decision.visitor
            resolved_s = waiting.outcomes[0][2]
            self._settling.add(
                decision, resolved_s, Judged(waiting.clicked is not None, r, b, *whose)
            )
        for judged in self._settling.settled():
            self._recent.append(judged[:3])
            self.experiment.add(judged)
        self._arrivals.append((now_s, len(settled) * self._sample.one_in))


def _seen(number: int, decision: Decision, context: Context, clicked: int | None) -> VisitSeen:
    return VisitSeen(
        number=number,
        decision_id=decision.decision_id,
        user_id=decision.user_id,
        age=context.age,
        gender=context.gender,
        traffic_source=context.traffic_source,
        part=("night", "morning", "afternoon", "evening")[context.occurred_at.hour // 6],
        weekend=context.occurred_at.weekday() >= 5,
        slate=[item.product_id for item in decision.slate],
        clicked=clicked,
    )
