"""Stream mode: visits in, decisions and outcomes out, in whatever batches a poll brings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from server.delivery import Delivery
from server.experiment import Traffic
from server.freshness import FreshnessProbe
from server.publication import records_of
from server.scorer import seeds_of
from server.sources import sources_of
from server.view import Viewing
from shared.cascade import Feedback, outcomes_of
from shared.dead_letter import dead_letter
from shared.events import UNDECODABLE, Decision, Visit, decode_visit
from shared.features import Encoder, NotFinite
from shared.membership import Membership
from shared.ports import (
    BrokerUnavailable,
    EventConsumer,
    Outgoing,
    Record,
    Source,
)
from shared.tracing import Trace, untraced

POLL_RECORDS: Final = 2_000
"""At most in one transaction, which costs the broker tens of milliseconds however much is in it."""

_BLOCK: Final = 250
"""Ranked together: more at a time leave the processor's cache."""

React = Callable[[Sequence[Visit], Sequence[Sequence[int]]], list[int | None]]
"""What the shoppers do with their slates: the clicked rank from 1 on, or None."""


class Served(NamedTuple):
    """One visit, what was shown, and what came of it."""

    visit: Visit
    decision: Decision
    clicked: int | None
    """product_id"""


@dataclass
class Counts:
    """What the loop has done since its start."""

    visits: int = 0
    clicks: int = 0
    outcomes: int = 0
    dead_letters: int = 0
    unknown_categories: int = 0
    clipped: int = 0
    skipped: int = 0
    """Visits that came again although they are decided: see `StreamServer._undecided`."""

    def add(self, batch: "Counts") -> None:
        """Take in what a batch did."""
        for name, count in vars(batch).items():
            setattr(self, name, getattr(self, name) + count)


class StreamServer:
    """Decides visits and publishes what follows. Implements `shared.ports.Rebalance`.

    What leaves, and when the visits' offsets are stored, is up to the `Delivery`. A visit that is
    decided again after a crash gets the same decision_id, so the trainer's dedupe window knows its
    outcomes again.

    Args:
        source: asks for the identity of the visits log as it is now.
    """

    def __init__(
        self,
        consumer: EventConsumer,
        delivery: Delivery,
        view: Viewing,
        traffic: Traffic,
        encoder: Encoder,
        react: React,
        feedback: Feedback,
        *,
        source: Callable[[], Source],
        k: int,
        utc_now: Callable[[], datetime],
        clock: Callable[[], float],
        freshness: FreshnessProbe,
        trace: Trace = untraced,
        step: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.counts = Counts()
        self.membership = Membership(clock)
        """Whether the group has told which partitions are ours."""
        self._consumer = consumer
        self._delivery = delivery
        self._view = view
        self._traffic = traffic
        self._encoder = encoder
        self._react = react
        self._feedback = feedback
        self._identify = source
        self._k = k
        self._utc_now = utc_now
        self._clock = clock
        self._freshness = freshness
        self._trace = trace
        self._step = step
        self._batch = Counts()
        """What the current batch does: counted once it is complete, however often it is tried."""
        self._next: dict[int, int | None] = {}
        """Next visits offset of each partition that is ours; None: where the group committed."""
        self._decided_until: dict[int, int] = {}
        """Next visits offset of each partition as this process has stored it, ours still or not."""
        self._log: Source | None = None
        """The log that these offsets are of."""

    @property
    def positions(self) -> dict[int, int | None]:
        """Next visits offset of each partition that is ours, as in `_next`; for any thread."""
        return dict(self._next)

    def assigned(self, partitions: Sequence[int]) -> None:
        """See `Rebalance.assigned`."""
        self.membership.told()
        self._next = dict.fromkeys(partitions)
        self._consumer.assign(self._next)

    def revoked(self, partitions: Sequence[int]) -> None:
        """See `Rebalance.revoked`: nothing is in hand, no poll returns what was taken away."""
        self.membership.waits()
        self._next = {p: offset for p, offset in self._next.items() if p not in partitions}

    def run_once(self, timeout_s: float) -> list[Served]:
        """Serve what a poll brings.

        Raises:
            BrokerUnavailable: nothing was committed; the same visits come again.
        """
        records = self._consumer.poll(POLL_RECORDS, timeout_s)
        if not records:
            return []
        self._step("polled")
        done = {record.partition: record.offset + 1 for record in records}
        try:
            self._batch = Counts()
            new = self._undecided(records)
            blocks = [new[start : start + _BLOCK] for start in range(0, len(new), _BLOCK)]
            if len(blocks) < 2:  # ranking a whole one takes as long
                self._delivery.settle()
            # With nothing new the offsets are still to be stored: they had been lost.
            self._delivery.begin()
            served = [each for block in blocks for each in self._serve(block)]
            self._delivery.complete(self._consumer, done)
        except BrokerUnavailable:
            self._next = self._delivery.abandon(self._next)
            self._consumer.assign(self._next)
            raise
        self._next.update(done)
        # What came again may end before that.
        until = self._decided_until
        until.update({p: max(offset, until.get(p, 0)) for p, offset in done.items()})
        self._step("completed")
        self.counts.add(self._batch)
        return served

    def leave(self) -> None:
        """After the last batch, before leaving the group.

        Raises:
            BrokerUnavailable: the last offsets may not be stored.
        """
        offsets = {p: offset for p, offset in self._next.items() if offset is not None}
        self._delivery.leave(self._consumer, offsets)

    def _undecided(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records at or after the offsets that this process has stored itself.

        Reading goes on where the group has committed. A broker that has crashed may have forgotten
        that, and name a much earlier offset or none: then visits already decided come again.
        """
        until = self._decided_until
        below = {each.partition for each in records if each.offset < until.get(each.partition, 0)}
        if below or self._log is None:  # asked as rarely as this, since it takes the broker's time
            log = self._identify()
            if self._log and not self._log.is_same_log(log):
                until.clear()
            self._log = log
        for partition in below & until.keys():
            # So a topic that was made again shows itself where there are no ids.
            if self._consumer.watermarks(partition).end < until[partition]:
                del until[partition]
        new = [each for each in records if each.offset >= until.get(each.partition, 0)]
        self._batch.skipped += len(records) - len(new)
        return new

    def _serve(self, records: Sequence[Record]) -> list[Served]:
        decoded = [(record, visit) for record in records if (visit := self._decode(record))]
        if not decoded:
            return []
        visits = [visit for _, visit in decoded]
        decisions = self._decide(visits)
        slates = [[item.product_id for item in decision.slate] for decision in decisions]
        reactions = self._react(visits, slates)
        resolved_at, resolved_s = self._utc_now(), self._clock()

        def delivered(partition: int, offset: int) -> None:
            self._freshness.delivered(partition, offset, resolved_s)

        served, outgoing = [], list[Outgoing]()
        for (record, visit), decision, rank_clicked in zip(
            decoded, decisions, reactions, strict=True
        ):
            named = {"visit_id": visit.visit_id, "decision_id": decision.decision_id}
            headers = self._trace(record.headers, record.timestamp_ms, named)
            rewards = self._feedback(rank_clicked, len(decision.slate))
            outcomes = outcomes_of(decision, rewards, resolved_at)
            outgoing += records_of(decision, outcomes, delivered, headers, headers)
            self._batch.outcomes += len(outcomes)
            clicked = decision.slate[rank_clicked - 1].product_id if rank_clicked else None
            served.append(Served(visit, decision, clicked))
        self._delivery.send_all(outgoing)
        self._batch.visits += len(served)
        self._batch.clicks += sum(each.clicked is not None for each in served)
        self._step("sent")
        return served

    def _decide(self, visits: Sequence[Visit]) -> list[Decision]:
        encoded = self._encoder.encode([visit.context for visit in visits])
        self._batch.unknown_categories += encoded.unknown_categories
        self._batch.clipped += encoded.clipped
        decision_ids = [f"d-{visit.visit_id}" for visit in visits]
        with self._view.locked() as view:
            ranked = self._traffic.rank(
                [visit.user_id for visit in visits],
                lambda policy: view.of(policy).model,
                encoded.X,
                seeds_of(decision_ids),
                self._k,
            )
            sources = sources_of(self._traffic, view)
        decided_at = self._utc_now()
        return [
            sources[variant.name].decision(
                decision_id=decision_id,
                visit_id=visit.visit_id,
                user_id=visit.user_id,
                x=x,
                encoder_id=self._encoder.id,
                slate=slate,
                decided_at=decided_at,
                via="stream",
            )
            for visit, decision_id, x, (variant, slate) in zip(
                visits, decision_ids, encoded.X.tolist(), ranked, strict=True
            )
        ]

    def _decode(self, record: Record) -> Visit | None:
        try:
            visit = decode_visit(record.value or b"")
            self._encoder.check(visit.context)
        except (*UNDECODABLE, NotFinite) as error:
            self._delivery.send_all([dead_letter(record, f"undecodable: {error}")])
            self._batch.dead_letters += 1
            return None
        return visit
