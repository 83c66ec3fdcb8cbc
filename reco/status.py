"""How the system is: one look at brokers, topics, partitions, processes and dead letters.

`survey` asks, `judge` says what is wrong. What can't be known (the embedded broker does not say who
owns what) is said to be unknown, and held against nobody.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from reco.experiment_report import ExperimentReport
from shared.events import OUTCOMES, VISITS
from shared.kafka_admin import Broker, Committed, Member
from shared.ports import CorruptState, Position, StoreRefuses, StoreUnavailable, Watermarks
from shared.presence import Board, Presence
from shared.settings import PARTITIONS

UNKNOWN: Final = "unknown"
NOBODY: Final = "nobody"
MAX_LAG: Final = 10_000

_READERS: Final = {VISITS: "server", OUTCOMES: "trainer"}


class TopicStatus(msgspec.Struct):
    """One topic."""

    topic: str
    partitions: int
    records: int
    rate: float
    """Records a second, since the look before."""


class PartitionStatus(msgspec.Struct):
    """One partition of a topic that a service reads."""

    topic: str
    partition: int
    owner: str
    """Name of the process, `nobody` or `unknown`."""
    offset: int | None
    """Next to deal with; None if nothing has been yet."""
    end: int
    lag: int | None
    """Records not dealt with yet; None if the store, which knows it of outcomes, did not say."""
    rate: float


class DeadLetterStatus(msgspec.Struct):
    """The topic of dead letters."""

    records: int


class Status(msgspec.Struct):
    """What `reco status --json` shows."""

    healthy: bool
    reasons: list[str]
    """Why not; empty if it is healthy."""
    brokers: list[Broker]
    topics: list[TopicStatus]
    partitions: list[PartitionStatus]
    servers: list[Presence]
    trainers: list[Presence]
    producers: list[Presence]
    dead_letters: DeadLetterStatus
    experiment: ExperimentReport | None = None
    """How the policies compare that serve side by side, where that was asked for and some do."""

    @property
    def runs(self) -> str | None:
        """Name of the experiment that a server runs."""
        return next((each.experiment for each in self.servers if each.experiment), None)


class Admin(Protocol):
    """What is asked of the broker (`KafkaAdmin`); may raise `BrokerUnavailable`."""

    def brokers(self) -> list[Broker]: ...

    def watermarks(self, topic: str, partitions: Iterable[int]) -> dict[int, Watermarks]: ...

    def committed(
        self, group: str, topic: str, partitions: Iterable[int]
    ) -> dict[int, Committed]: ...

    def members(self, group: str) -> list[Member] | None: ...


class Positions(Protocol):
    """What is asked of the store; may raise `StoreUnavailable`."""

    def positions(self, partitions: Sequence[int]) -> list[Position | None]: ...


class Survey(msgspec.Struct):
    """What one look has found."""

    at_s: float
    brokers: list[Broker]
    held: dict[str, dict[int, Watermarks]]
    """Topic → partition → offsets; only topics that exist."""
    owners: dict[str, dict[int, str] | None]
    """Topic → partition → process; None where the broker can't say."""
    next_offsets: dict[str, dict[int, int]]
    present: list[Presence]
    trouble: list[str]


def survey(
    admin: Admin,
    topics: Mapping[str, int],
    store: Positions,
    board: Board,
    groups: Mapping[str, str],
    at_s: float,
) -> Survey:
    """Look once.

    Args:
        admin: the broker.
        topics: the topics that exist and their partition counts.
        store: where the trainers' offsets lie.
        board: who is there.
        groups: topic → the group that reads it.
        at_s: monotonic seconds.

    Raises:
        BrokerUnavailable: no answer.
        StoreRefuses: waiting will not make it let us in.
    """
    ours = {topic: range(count) for topic, count in topics.items() if topic in PARTITIONS}
    trouble: list[str] = []
    next_offsets = {
        VISITS: {
            partition: committed.next_offset
            for partition, committed in admin.committed(
                groups[VISITS], VISITS, ours.get(VISITS, range(0))
            ).items()
        }
        if VISITS in ours
        else {},
        OUTCOMES: {},
    }
    present: list[Presence] = []
    try:
        present = board.present()
        found = store.positions(ours.get(OUTCOMES, range(0)))
        next_offsets[OUTCOMES] = {p: at.next_offset for p, at in enumerate(found) if at}
    except StoreRefuses:
        raise
    except (StoreUnavailable, CorruptState) as error:
        trouble.append(str(error))
    return Survey(
        at_s,
        admin.brokers(),
        {topic: admin.watermarks(topic, partitions) for topic, partitions in ours.items()},
        {topic: _owners(admin.members(group), topic) for topic, group in groups.items()},
        next_offsets,
        present,
        trouble,
    )


def judge(now: Survey, before: Survey | None = None, max_lag: int = MAX_LAG) -> Status:
    """What a look means.

    Args:
        now: the look.
        before: an earlier one, for the rates.
        max_lag: records of a topic that may wait.
    """
    partitions = [
        _partition(now, before, topic, partition, held)
        for topic in _READERS
        for partition, held in now.held.get(topic, {}).items()
    ]
    status = Status(
        healthy=True,
        reasons=[],
        brokers=now.brokers,
        topics=[
            TopicStatus(
                topic,
                len(held),
                sum(each.end - each.start for each in held.values()),
                round(sum(_rate(now, before, topic, p) for p in held), 1),
            )
            for topic, held in now.held.items()
        ],
        partitions=partitions,
        servers=[each for each in now.present if each.kind == "server"],
        trainers=[each for each in now.present if each.kind == "trainer"],
        producers=[each for each in now.present if each.kind == "producer"],
        dead_letters=DeadLetterStatus(
            sum(each.end - each.start for each in now.held.get("dead-letters", {}).values())
        ),
    )
    status.reasons = [*now.trouble, *_reasons(status, now, max_lag)]
    status.healthy = not status.reasons
    return status


def _reasons(status: Status, now: Survey, max_lag: int) -> Iterable[str]:
    for topic in PARTITIONS:
        if topic not in now.held:
            yield f"there is no topic {topic}: make it with `reco topics create`"
    for topic, kind in _READERS.items():
        rows = [row for row in status.partitions if row.topic == topic]
        unread = topic == VISITS and _over_http_alone(now)
        orphans = [str(row.partition) for row in rows if row.owner == NOBODY and not unread]
        if orphans:
            yield f"nobody owns {topic}/{', '.join(orphans)}: start a {kind}"
        lag = sum(row.lag or 0 for row in rows)
        if lag > max_lag:
            remedy = ": no server decides them (--no-stream)" if unread else _remedy(now, kind)
            yield f"{topic} is {lag:,} records behind, more than {max_lag:,}{remedy}"
        yield from _silent(rows, now, kind)
        known = now.trouble or any(row.owner not in (NOBODY, UNKNOWN) for row in rows)
        if not known and not any(each.kind == kind for each in now.present) and not orphans:
            yield f"no {kind} says that it is there"
    for each in now.present:
        for reason in each.not_ready:
            yield f"{each.kind} {each.name} is not ready: {reason}"
        if each.stale and not each.not_ready:
            yield f"server {each.name} serves a model that is {each.view_age_s or 0:.0f} s old"


def _remedy(now: Survey, kind: str) -> str:
    """For lag; nothing where one is not ready: more of those would not help."""
    waits = any(each.not_ready for each in now.present if each.kind == kind)
    return "" if waits else f": start another {kind}"


def _over_http_alone(now: Survey) -> bool:
    """Whether there are servers, and none is meant to decide the visits of the topic."""
    reads = [each.stream for each in now.present if each.kind == "server"]
    return bool(reads) and all(stream is False for stream in reads)


def _silent(rows: Iterable[PartitionStatus], now: Survey, kind: str) -> Iterable[str]:
    """Owners that the store holds no word of: one that is full takes none."""
    heard = {NOBODY, UNKNOWN, *(each.name for each in now.present if each.kind == kind)}
    owners = set() if now.trouble else {row.owner for row in rows}
    for owner in sorted(owners - heard):
        yield f"{kind} {owner} owns partitions and the store has no word of it: its log says more"


def _partition(
    now: Survey, before: Survey | None, topic: str, partition: int, held: Watermarks
) -> PartitionStatus:
    offset = now.next_offsets[topic].get(partition)
    owners = now.owners.get(topic)
    if owners is None:  # the broker does not say: who says so himself?
        claims = [
            each.name
            for each in now.present
            if each.kind == _READERS[topic] and partition in each.partitions
        ]
        owner = claims[0] if claims else UNKNOWN
    else:
        owner = owners.get(partition, NOBODY)
    told = topic == VISITS or not now.trouble  # of the outcomes the store tells
    return PartitionStatus(
        topic,
        partition,
        owner,
        offset,
        held.end,
        held.end - (held.start if offset is None else offset) if told else None,
        round(_rate(now, before, topic, partition), 1),
    )


def _rate(now: Survey, before: Survey | None, topic: str, partition: int) -> float:
    earlier = before.held.get(topic, {}).get(partition) if before else None
    if before is None or earlier is None or now.at_s <= before.at_s:
        return 0.0
    grown = max(0, now.held[topic][partition].end - earlier.end)
    return grown / (now.at_s - before.at_s)


def _owners(members: Sequence[Member] | None, topic: str) -> dict[int, str] | None:
    if members is None:
        return None
    return {
        partition: member.client_id
        for member in members
        for its_topic, partition in member.partitions
        if its_topic == topic
    }
