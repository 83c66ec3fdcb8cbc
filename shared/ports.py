"""What the services need from the outside world, as protocols.

Kafka and Redis implement them (`shared.kafka`, `shared.redis_store`), and so do the fakes of
`shared.testing`; one contract suite holds all of them to the same behaviour.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import msgspec


class BrokerUnavailable(Exception):
    """The broker did not answer, or did not acknowledge, in time. Worth trying again."""


class Fenced(BrokerUnavailable):
    """Someone else has taken over, so the transaction was dropped: rejoin, and read again."""


class NotYet(BrokerUnavailable):
    """The broker has answered at once, and what it was asked for is still to come."""


class BrokerRefuses(BrokerUnavailable):
    """The broker, or whatever listens in its place, will not serve us until someone acts."""


class StoreUnavailable(Exception):
    """The store did not answer in time, or refused the command for now. Worth trying again."""


class StoreRefuses(StoreUnavailable):
    """The store, or whatever listens in its place, will not serve us until someone acts."""


class LogTruncated(Exception):
    """The offset to read next is no longer, or not yet, in the log."""


class CorruptState(Exception):
    """The state in the store is not what this software wrote. Waiting does not mend it."""


class ChangesLost(Exception):
    """The change feed was interrupted, so messages may be missing: read the state again."""


class Record(NamedTuple):
    """One record of a log."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int = 0


class Watermarks(NamedTuple):
    """A partition holds the offsets `start` ≤ offset < `end`."""

    start: int
    end: int


class Source(msgspec.Struct, frozen=True):
    """Identity of a log. State and offsets are valid only for the log that they are of."""

    cluster_id: str
    topic: str
    partitions: int
    partitioner: str = "murmur2"
    topic_id: str = ""
    """The broker's id of the topic, new each time it is made; empty where the broker has none."""

    def is_same_log(self, other: "Source") -> bool:
        """Whether both mean one log, as far as both know its id."""
        if self.topic_id and other.topic_id:
            return self == other
        return self == msgspec.structs.replace(other, topic_id=self.topic_id)

    def became(self, other: "Source") -> str:
        """In words, what makes `other` another log than this one was."""
        seen = (
            ("cluster", self.cluster_id, other.cluster_id),
            ("topic", self.topic, other.topic),
            ("partition count", self.partitions, other.partitions),
            ("partitioner", self.partitioner, other.partitioner),
        )
        words = [f"the {what} was {was} and is {now}" for what, was, now in seen if was != now]
        same_place = (self.cluster_id, self.topic) == (other.cluster_id, other.topic)
        if same_place and self.topic_id and other.topic_id not in ("", self.topic_id):
            words.append(f"the topic {self.topic} was deleted and made again")
        return " and ".join(words)


Delivered: TypeAlias = Callable[[int, int], None]
"""Called with (partition, offset) once the broker has acknowledged a record."""


Outgoing: TypeAlias = tuple[
    str, bytes | None, bytes | None, Sequence[tuple[str, bytes]], Delivered | None
]
"""A record to be sent: topic, key, value, headers, and who is told where it went."""


class Sender(Protocol):
    """What records are handed over to."""

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        headers: Sequence[tuple[str, bytes]] = (),
        on_delivered: Delivered | None = None,
    ) -> None:
        """Hand over one record; waits while the local queue is full.

        Raises:
            BrokerUnavailable: it was not taken, and what is not acknowledged yet may be dropped.
        """

    def send_all(self, records: Iterable[Outgoing]) -> None:
        """Hand over several in their order, which costs less than one at a time."""


class EventProducer(Sender, Protocol):
    """Appends records, partitioned by murmur2 of the key."""

    def flush(self, timeout_s: float) -> None:
        """Return once every record sent so far is acknowledged.

        Raises:
            BrokerUnavailable: some are not, after `timeout_s` or by the broker's refusal. Whether
                those were stored is unknown.
        """

    def close(self) -> None:
        """Let go of the connection. Unacknowledged records are dropped: flush first."""


class TransactionalProducer(Sender, Protocol):
    """Appends records and stores a group's offsets, all of it or nothing.

    Whatever raises leaves no transaction behind: records sent since `begin` are never shown to
    readers, unless the commit itself got no answer. Then nobody knows, and the group's committed
    offsets tell.
    """

    def settle(self) -> None:
        """Wait, for milliseconds, until the broker is done with the transaction before.

        It may go on after `commit` has returned, and one that begins meanwhile takes longer.
        """

    def begin(self) -> None:
        """Start a transaction; ends one that an earlier process of the same name left open.

        Raises:
            BrokerUnavailable: no answer.
        """

    def commit(self, consumer: "EventConsumer", offsets: Mapping[int, int]) -> None:
        """Show the records to readers and store the offsets of the consumer's group, in one step.

        Raises:
            Fenced: another producer of this name, or the group's next owner, has taken over.
            BrokerUnavailable: the broker refuses, or does not answer in time.
        """

    def abort(self) -> None:
        """Drop what was sent since `begin`; never raises, since there is nothing left to save."""

    def close(self) -> None:
        """Let go of the connection; an open transaction is dropped."""


class Rebalance(Protocol):
    """Told, from within `EventConsumer.poll`, which partitions are now ours."""

    def assigned(self, partitions: Sequence[int]) -> None:
        """These partitions are ours. Nothing is read from them until `EventConsumer.assign`."""

    def revoked(self, partitions: Sequence[int]) -> None:
        """These are no longer ours (given up, or lost). The consumer has stopped reading them."""


class EventConsumer(Protocol):
    """Reads one topic, as a member of a group or for itself."""

    @property
    def topic(self) -> str:
        """The topic it reads."""

    @property
    def membership(self) -> object:
        """Proof of owning the partitions since they were given to us, for
        `TransactionalProducer.commit`."""

    def subscribe(self, rebalance: Rebalance) -> None:
        """Join the group; `rebalance` is called from within `poll`."""

    def assign(self, offsets: Mapping[int, int | None]) -> None:
        """Read exactly these partitions from these offsets on, and no others.

        None stands for the group's committed offset, or where there is none the log's start.
        """

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Wait up to `timeout_s` for a first record, then take what else is there already.

        No record is lost: what raises goes on behind what was returned before, and what was met
        beside records raises at the next poll. None is of a partition that is no longer ours.

        Raises:
            BrokerUnavailable: the group or the log can't be read just now.
            LogTruncated: an assigned offset is not in the log.
        """

    def position(self, partition: int) -> int | None:
        """Where an assigned partition is read next, None while that is not known.

        It may be past the last record and its successor: marks of transactions, and records that
        were never committed, take up offsets and are not shown.
        """

    def watermarks(self, partition: int) -> Watermarks:
        """First offset still held, and the one that the next record will get.

        Raises:
            BrokerUnavailable: no answer.
        """

    def commit(self, offsets: Mapping[int, int], *, wait: bool = False) -> None:
        """Store the group's next offsets; without `wait` a failure is only logged.

        Raises:
            BrokerUnavailable: with `wait`, the commit failed.
        """

    def close(self) -> None:
        """Leave the group."""


class ModelConfig(msgspec.Struct, frozen=True):
    """What rows must agree on to be added up: the length of x and the encoder behind it."""

    d: int
    encoder_id: str
    format: int = 1
    gamma: float = 1.0
    """Forgetting factor γ of the sums (`shared.arm_statistics`)."""

    def unlike(self, other: "ModelConfig") -> str:
        """In words, what this has that `other` has not."""
        own_and_its = (
            ("contexts of {} numbers", self.d, other.d),
            ("the encoder {}", self.encoder_id, other.encoder_id),
            ("γ {}", self.gamma, other.gamma),
            ("rows of format {}", self.format, other.format),
        )
        return " and ".join(
            f"{what.format(own)}, not {its}" for what, own, its in own_and_its if own != its
        )


class Position(msgspec.Struct, frozen=True):
    """The metadata of one partition's state: how far, of which log, written by whom."""

    next_offset: int
    """Next outcomes offset to apply (`_next`)."""
    source: Source
    """`_src`"""
    generation: int
    """Bumped when the state is replaced rather than advanced (`_gen`)."""
    writer: str
    """Writer and sequence number of the last write (`_wid`)."""
    config: ModelConfig
    """`_cfg`"""


Rows: TypeAlias = dict[int, bytes]
"""Arm → its packed statistics (`shared.arm_statistics.ArmStatistics.pack`)."""


class State(msgspec.Struct, frozen=True):
    """One partition's state, whole."""

    position: Position
    rows: Rows


class Change(msgspec.Struct, frozen=True):
    """One write, as announced to readers: the rows that it changed, and from where to where."""

    partition: int
    generation: int
    from_offset: int
    to_offset: int
    rows: Rows


class Conflict(msgspec.Struct, frozen=True):
    """The write was refused, since the state is not what the writer believes."""

    current: Position | None


class ChangeFeed(Protocol):
    """The announced changes of all partitions, from the moment it was opened."""

    def drain(self, wait_s: float = 0.0) -> list[Change]:
        """Every change that has arrived, in order; waits up to `wait_s` for a first one.

        Raises:
            ChangesLost: the connection broke. The feed subscribes again by itself; what was
                announced meanwhile is gone.
        """

    def close(self) -> None: ...


class Write(NamedTuple):
    """What `StateStore.write` is asked for."""

    partition: int
    expected: Position | None
    position: Position
    rows: Rows


class StateStore(Protocol):
    """The arms' rows, one state a partition.

    Every method may raise `StoreUnavailable`, and those that read, or compare before they write,
    `CorruptState`.
    """

    def positions(self, partitions: Sequence[int]) -> list[Position | None]:
        """The metadata of these partitions; None where there is no state."""

    def scan(self, partition: int) -> Iterator[Rows]:
        """The rows in pages. Not a snapshot: a write in between may show in later pages."""

    def write(
        self,
        partition: int,
        expected: Position | None,
        position: Position,
        rows: Mapping[int, bytes],
    ) -> Conflict | None:
        """Put `rows` and `position` in one step if the state still is `expected`, and announce it.

        `expected` None: only if there is no state yet. Compared are `next_offset`, `source` and
        `generation`. At most 1,000 rows and 4 MB.
        """

    def write_all(self, writes: Sequence[Write]) -> list[Conflict | None]:
        """Each of these as by `write`, in as few round trips as there may be.

        They are independent of each other: one that conflicts holds up none, and after an
        exception any of them may have been made.
        """

    def replace(self, partition: int, state: State) -> None:
        """Put this state in the place of whatever is there, whole or not at all, and announce it.

        What is there may be corrupt. The generation stored is one more than the highest of what
        was there, as far as that can be read, and of `state`, so every writer and reader notices.
        """

    def changes(self, partitions: Sequence[int]) -> ChangeFeed:
        """Subscribe to the announcements of these partitions; effective on return."""

    def close(self) -> None: ...
