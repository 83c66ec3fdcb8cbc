"""What a trainer has in memory of its partitions: those it goes on with, and those set aside.

An outcome may be one that can't be judged yet: its product is just being added, or is unknown and
the topic `products` can't be read. Its partition is set aside with what came of it, and tried again
from there; no other waits for it, unless it would have to ask a broker that does not answer.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from shared.ports import BrokerUnavailable, NotYet, Record
from trainer.apply import Folded, PartitionFold


class Folds:
    """The partitions in memory."""

    def __init__(self) -> None:
        self.served: dict[int, PartitionFold] = {}
        self._aside: dict[int, tuple[PartitionFold, Sequence[Record]]] = {}
        """With the records that could not be judged; those behind them are to be read again."""

    @property
    def aside(self) -> Collection[int]:
        """The partitions that were set aside, the one that has waited longest first."""
        return self._aside.keys()

    @property
    def read_offsets(self) -> dict[int, int]:
        """Where reading goes on, of each partition that is to be read."""
        return {partition: fold.read_offset for partition, fold in self.served.items()}

    def put(self, partition: int, fold: PartitionFold) -> None:
        """Serve a partition from this on."""
        self._aside.pop(partition, None)
        self.served[partition] = fold

    def forget(self, partition: int) -> None:
        """Drop what there is of a partition."""
        self._aside.pop(partition, None)
        self.served.pop(partition, None)

    def fold(
        self, parts: Mapping[int, Sequence[Record]]
    ) -> tuple[dict[int, Folded], dict[int, BrokerUnavailable]]:
        """Fold the records of each partition that is served.

        Returns:
            What they came to, and why others can't be judged yet: those are set aside, unchanged.
            Once the broker has not answered, all that are left are: with its whole time spent for
            each of them, the group would take this process for dead.
        """
        folded: dict[int, Folded] = {}
        unjudged: dict[int, BrokerUnavailable] = {}
        silent: BrokerUnavailable | None = None
        for partition, records in parts.items():
            try:
                if silent:
                    raise silent
                folded[partition] = self.served[partition].fold(records)
            except BrokerUnavailable as error:
                silent = None if isinstance(error, NotYet) else error
                unjudged[partition] = error
                self._aside[partition] = (self.served.pop(partition), records)
        return folded, unjudged

    def take_up(self, partition: int) -> dict[int, Sequence[Record]]:
        """Serve a partition that was set aside; returns what is to be folded of it first."""
        self.served[partition], records = self._aside.pop(partition)
        return {partition: records}

    def pass_marks(self, position: Callable[[int], int | None]) -> Iterable[int]:
        """Let the offsets follow the log's end where only marks of transactions are left.

        Args:
            position: how far a partition is read (`EventConsumer.position`).

        Returns:
            The partitions that moved.
        """
        passed = []
        for partition, fold in self.served.items():
            offset = position(partition)
            if offset is not None and offset > fold.next_offset:
                fold.pass_to(offset)
                passed.append(partition)
        return passed
