"""How a batch leaves the server: decisions, outcomes and the visits' offsets.

`ExactlyOnce` stores all of it in one transaction. `AtLeastOnce`, for brokers without
transactions, stores the offsets after the rest, so that a crash in between repeats the batch.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from shared.ports import (
    BrokerUnavailable,
    EventConsumer,
    EventProducer,
    Sender,
    TransactionalProducer,
)

EXACTLY_ONCE: Final = "exactly-once"
AT_LEAST_ONCE: Final = "at-least-once"

FLUSH_TIMEOUT_S: Final = 10.0


class Delivery(Sender, Protocol):
    """One batch at a time: `begin`, any number of `send`, then `complete` or `abandon`."""

    @property
    def guarantee(self) -> str:
        """`exactly-once` or `at-least-once`."""

    def settle(self) -> None:
        """Wait some milliseconds, if a batch that began at once would take longer."""

    def begin(self) -> None:
        """A batch starts.

        Raises:
            BrokerUnavailable: not now.
        """

    def complete(self, consumer: EventConsumer, offsets: Mapping[int, int]) -> None:
        """Return once the records are acknowledged; the next offsets of their source are stored.

        Raises:
            BrokerUnavailable: the batch may be stored or not, or (at least once) in part.
        """

    def abandon(self, next_offsets: Mapping[int, int | None]) -> dict[int, int | None]:
        """Give up a batch that failed; returns where its source is to be read again.

        Args:
            next_offsets: of each partition before the batch; None: where the group committed.
        """

    def leave(self, consumer: EventConsumer, offsets: Mapping[int, int]) -> None:
        """The last batch is complete: see that the offsets are stored.

        Raises:
            BrokerUnavailable: they may not be.
        """

    def close(self) -> None:
        """Let go of the broker."""


class AtLeastOnce:
    """`Delivery` with a plain producer."""

    guarantee: Final = AT_LEAST_ONCE

    def __init__(
        self, producer: EventProducer, step: Callable[[str], None] = lambda name: None
    ) -> None:
        self._producer = producer
        self._step = step
        self.send, self.send_all = producer.send, producer.send_all

    def settle(self) -> None:
        """See `Delivery.settle`: a flush leaves nothing behind."""

    def begin(self) -> None:
        """See `Delivery.begin`."""

    def complete(self, consumer: EventConsumer, offsets: Mapping[int, int]) -> None:
        """See `Delivery.complete`."""
        self._producer.flush(FLUSH_TIMEOUT_S)
        self._step("acknowledged")
        consumer.commit(offsets)

    def abandon(self, next_offsets: Mapping[int, int | None]) -> dict[int, int | None]:
        """See `Delivery.abandon`: what is committed may be behind what was acknowledged."""
        return dict(next_offsets)

    def leave(self, consumer: EventConsumer, offsets: Mapping[int, int]) -> None:
        """See `Delivery.leave`: until now nobody waited for the answer."""
        if offsets:
            consumer.commit(offsets, wait=True)

    def close(self) -> None:
        """See `Delivery.close`."""
        self._producer.close()


class ExactlyOnce:
    """`Delivery` with transactions.

    Args:
        producer: of the transactions.
        closed: called at the end, when another may take over the producer's name.
    """

    guarantee: Final = EXACTLY_ONCE

    def __init__(
        self, producer: TransactionalProducer, closed: Callable[[], None] = lambda: None
    ) -> None:
        self._producer = producer
        self._closed = closed
        self.send, self.send_all = producer.send, producer.send_all
        self.settle, self.begin = producer.settle, producer.begin

    def complete(self, consumer: EventConsumer, offsets: Mapping[int, int]) -> None:
        """See `Delivery.complete`."""
        self._producer.commit(consumer, offsets)

    def abandon(self, next_offsets: Mapping[int, int | None]) -> dict[int, int | None]:
        """See `Delivery.abandon`: only the group knows if a commit without an answer was made."""
        self._producer.abort()
        return dict.fromkeys(next_offsets)

    def leave(self, consumer: EventConsumer, offsets: Mapping[int, int]) -> None:
        """See `Delivery.leave`: each batch has stored its own."""

    def close(self) -> None:
        """See `Delivery.close`."""
        self._producer.close()
        self._closed()


def undelivered(error: BrokerUnavailable, delivery: Delivery) -> str:
    """What a batch that failed means, for people."""
    if delivery.guarantee == EXACTLY_ONCE:
        return f"{error}; the batch is dropped and decided again, nothing of it was shown"
    return f"{error}; visits of the last batch will be decided again"
