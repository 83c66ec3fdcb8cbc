"""What feeds the live page: a thread that reads along on the topics, whoever writes them."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, Protocol, TypeVar

from server.live_feed import LiveFeed, PartitionSeen, Replica
from server.live_state import Hidden, OutcomeSeen
from server.sample import is_among
from shared.arm_statistics import Floats
from shared.catalogue import DataSet
from shared.events import (
    DECISIONS,
    OUTCOMES,
    UNDECODABLE,
    Context,
    decode_decision,
    decode_outcome,
)
from shared.ground_truth import GroundTruth, best_click_probability, random_click_probability
from shared.ports import (
    BrokerUnavailable,
    CorruptState,
    EventConsumer,
    LogTruncated,
    Record,
    StateStore,
    StoreUnavailable,
)
from shared.presence import Board, Presence

POLL_RECORDS: Final = 500
POLL_S: Final = 0.05
SAMPLE_EVERY_S: Final = 1.0
MOST_SHOWN_PER_S: Final = 5_000
"""Records; beyond that the page shows a sample of the decisions, so that it does not take the
processor from the serving …"""
MOST_READ_PER_S: Final = 25_000
"""… and beyond that it skips to the end of the topics once a second."""
RETRY_S: Final = 1.0

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


def hidden_rates(data: DataSet, seed: int, k: int) -> Hidden:
    """What random and best slates get, by the hidden model."""
    truth = GroundTruth(data.products, data.encoder, seed)

    def rates(contexts: Sequence[Context]) -> tuple[Floats, Floats]:
        P = truth.click_probabilities(contexts)
        return random_click_probability(P, k), best_click_probability(P, k)

    return rates


class Cluster(Protocol):
    """Where the topics are (`KafkaCluster`)."""

    def topics(self) -> dict[str, int]: ...

    def consumer(self, topic: str) -> EventConsumer: ...


class Tail(threading.Thread):
    """Reads the decisions and outcomes that come from now on, in no group, and tells the feed.

    Args:
        feed: what the page reads.
        cluster: where the topics are.
        store: where the positions are.
        board: where processes say that they are there.
        stop: when to end.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        feed: LiveFeed,
        cluster: Cluster,
        store: StateStore,
        board: Board,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="live", daemon=True)
        self._feed = feed
        self._cluster = cluster
        self._store = store
        self._board = board
        self._stopping = stop
        self._clock = clock
        self._consumers: dict[str, EventConsumer] = {}
        self._ends: dict[int, int] = {}
        self._one_in = 1
        """How many decisions there are for one that is shown; a power of two."""
        self._seen = self._shown = 0
        """Records since this second began, and those of decisions that are shown …"""
        self._room = MOST_SHOWN_PER_S
        """… of which there may be so many before fewer are."""
        self._due_s = 0.0
        self._error = ""
        """Met since all went well for the last time; said once."""

    def run(self) -> None:
        """Read along until stopped; what does not answer is asked again."""
        while not self._stopping.is_set():
            try:
                self._read_or_begin_anew()
            except Exception as error:  # the page would stand still and say that it is live
                if repr(error) != self._error:
                    _log.exception("the live page misses something and goes on with what comes")
                self._error = repr(error)
                self._feed.skipped()
                self._stopping.wait(RETRY_S)
        self._close()

    def read_once(self) -> None:
        """Take in what has come, and once a second how everything stands.

        Raises:
            BrokerUnavailable, LogTruncated: not now.
        """
        if not self._consumers:
            self._open()
        self._read()
        if self._clock() >= self._due_s:
            self._each_second()

    def _read_or_begin_anew(self) -> None:
        try:
            self.read_once()
        except (BrokerUnavailable, LogTruncated):
            self._close()
            self._feed.skipped()
            self._feed.sample()
            self._stopping.wait(RETRY_S)

    def _open(self) -> None:
        self._consumers = {topic: self._cluster.consumer(topic) for topic in (OUTCOMES, DECISIONS)}
        self._to_the_end()

    def _to_the_end(self) -> None:
        topics = self._cluster.topics()
        # Outcomes first: a decision that is read then has all of its outcomes still to come.
        for topic, consumer in self._consumers.items():
            ends = {p: consumer.watermarks(p).end for p in range(topics.get(topic, 0))}
            consumer.assign(ends)
            if topic == OUTCOMES:
                self._ends = ends

    def _read(self) -> None:
        if self._seen >= MOST_READ_PER_S:
            self._stopping.wait(max(self._due_s - self._clock(), 0.0))
            self._to_the_end()
            self._feed.skipped()
        outcomes = self._consumers[OUTCOMES].poll(POLL_RECORDS, POLL_S)
        decisions = self._consumers[DECISIONS].poll(POLL_RECORDS, 0.0)
        self._seen += len(outcomes) + len(decisions)
        for record in outcomes:
            self._ends[record.partition] = record.offset + 1
        decided = [
            decision
            for _, decision in _decoded(decisions, decode_decision)
            if is_among(decision.decision_id, self._one_in)
        ]
        resolved = [
            OutcomeSeen(record.partition, record.offset, outcome)
            for record, outcome in _decoded(outcomes, decode_outcome)
            if is_among(outcome.decision_id, self._one_in)
        ]
        self._feed.take(decided, resolved)
        self._shown += len(decided) + len(resolved)
        if self._shown >= self._room:
            self._room += MOST_SHOWN_PER_S
            self._thin(2 * self._one_in)

    def _thin(self, one_in: int) -> None:
        self._one_in = one_in
        self._feed.thin(one_in)

    def _each_second(self) -> None:
        self._due_s = self._clock() + SAMPLE_EVERY_S
        if self._one_in > 1 and self._shown < MOST_SHOWN_PER_S / 4:  # twice as many leave room
            self._thin(self._one_in // 2)
        self._seen, self._shown, self._room = 0, 0, MOST_SHOWN_PER_S
        self._feed.sample()
        with suppress(StoreUnavailable, CorruptState):  # the view and the trainer report it
            present = self._board.present()
            self._feed.status(self._partitions(present), [replica_of(each) for each in present])
        self._error = ""

    def _partitions(self, present: Sequence[Presence]) -> list[PartitionSeen]:
        trainers = [each for each in present if each.kind == "trainer"]
        owners = {partition: each.name for each in trainers for partition in each.partitions}
        partitions = sorted(self._ends)
        positions = self._store.positions(partitions)
        seen = []
        for partition, position in zip(partitions, positions, strict=True):
            last_writer = position.writer.rpartition(":")[0] if position else ""
            owner = owners.get(partition, last_writer)
            next_offset = position.next_offset if position else 0
            end = max(self._ends[partition], next_offset)
            seen.append(PartitionSeen(partition, owner, next_offset, end, end - next_offset))
        return seen

    def _close(self) -> None:
        for consumer in self._consumers.values():
            consumer.close()
        self._consumers = {}


def replica_of(presence: Presence) -> Replica:
    """What a process says of itself, in a few words."""
    says = [f"{presence.rate_per_s:.0f}/s"]
    says += [text for text in (presence.policy, presence.delivery) if text]
    if presence.view_age_s is not None:
        says.append(f"view {presence.view_age_s:.1f} s old{', stale' if presence.stale else ''}")
    if presence.lag:
        says.append(f"lag {presence.lag:,}")
    says += presence.not_ready
    return Replica(presence.kind, presence.name, ", ".join(says))


def _decoded(
    records: Iterable[Record], decode: Callable[[bytes], _T]
) -> Iterator[tuple[Record, _T]]:
    for record in records:
        with suppress(*UNDECODABLE):  # the trainer reports these
            yield record, decode(record.value or b"")
