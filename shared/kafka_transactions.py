"""Kafka's transactions through librdkafka: the adapter of `TransactionalProducer`."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from confluent_kafka import KafkaError, TopicPartition

from shared.kafka_connection import ends_within
from shared.kafka_producer import FAILURES, Heard, KafkaSender, let_go, reason_of
from shared.ports import BrokerUnavailable, EventConsumer, Fenced

_log = logging.getLogger(__name__)

TRANSACTION_TIMEOUT_MS: Final = 5_000
"""After this the broker drops a transaction whose producer is gone. Until then readers of its
partitions wait at its start, so it is short; a restart under the same name drops it at once."""

TRANSACTIONAL: Final[dict[str, Any]] = {
    "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
    "delivery.timeout.ms": TRANSACTION_TIMEOUT_MS,  # may not be longer
}
SETTLE_S: Final = 0.01
"""The broker answers a commit before it has written its mark into every partition. A transaction
that begins before that is refused, and librdkafka tries again 20 ms later."""

_TIMEOUT_S: Final = 10.0
_FENCED: Final = (
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.FENCED_INSTANCE_ID,
)


class KafkaTransactionalProducer(KafkaSender):
    """`shared.ports.TransactionalProducer`. A record that fails, fails the commit.

    A client that has met an error it can't recover from is replaced by a new one of the same
    name, which ends the old one's transaction.

    Args:
        name: of the broker, for people.
        make: makes a client, with these settings besides the usual ones.
        offsets_timeout_s: how long storing offsets may take; after that the broker has dropped the
            transaction anyway.
        clock: monotonic seconds.
        sleep: how to wait in `settle`.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[dict[str, Any]], Any],
        offsets_timeout_s: float = TRANSACTION_TIMEOUT_MS / 1e3,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._name = name
        self._make = make
        self._offsets_timeout_s = offsets_timeout_s
        self._clock, self._sleep = clock, sleep
        self._settled_at = float("-inf")
        self._client: Any = None
        self._heard = Heard()
        self._open = False

    def settle(self) -> None:
        """See `TransactionalProducer.settle`."""
        left_s = self._settled_at - self._clock()
        if left_s > 0.0:
            self._sleep(left_s)

    def begin(self) -> None:
        """See `TransactionalProducer.begin`."""
        if self._client is None:
            self._heard = Heard()
            self._client = self._make({"error_cb": self._note, "logger": self._heard})
            self._retried(lambda left_s: self._client.init_transactions(left_s))
        self._retried(lambda _: self._client.begin_transaction())
        self._open = True

    def commit(self, consumer: EventConsumer, offsets: Mapping[int, int]) -> None:
        """See `TransactionalProducer.commit`."""
        wanted = [TopicPartition(consumer.topic, p, offset) for p, offset in offsets.items()]
        membership = consumer.membership
        if membership is None:
            raise Fenced(f"{self._name}: the group does not know this server any more")
        # Serves the delivery reports, which committing would not.
        self._retried(lambda left_s: self._client.flush(left_s))
        self._retried(lambda left_s: self._send_offsets(wanted, membership, left_s))
        self._retried(lambda left_s: self._client.commit_transaction(left_s))
        self._open = False
        self._settled_at = self._clock() + SETTLE_S

    def abort(self) -> None:
        """See `TransactionalProducer.abort`."""
        if self._client is None or not self._open:
            return
        self._open = False
        try:
            self._client.abort_transaction(_TIMEOUT_S)
        except FAILURES as error:
            _log.debug("%s: %s", self._name, error)
            self._drop()

    def close(self) -> None:
        """See `TransactionalProducer.close`."""
        self.abort()
        self._drop()

    def _send_offsets(self, offsets: list[TopicPartition], membership: Any, left_s: float) -> None:
        # librdkafka does not keep to this call's timeout: while the group's coordinator is not
        # connected it waits, if need be for ever (its issue 5456). So it is left waiting, with a
        # client that nobody uses any more.
        client, limit_s = self._client, min(left_s, self._offsets_timeout_s)

        def call() -> None:
            client.send_offsets_to_transaction(offsets, membership, limit_s)

        if not ends_within(call, limit_s, "offsets"):
            self._client, self._open = None, False
            raise BrokerUnavailable(
                f"{self._name}: the visits' offsets were not stored within {limit_s:g} s"
            )

    def _note(self, error: KafkaError) -> None:
        _log.debug("%s: %s", self._name, error)

    def _drop(self) -> None:
        client, self._client, self._open = self._client, None, False
        if client is not None:
            let_go(client, self._heard)

    def _retried(self, call: Callable[[float], object]) -> None:
        """Call until it answers, or time is up: then nobody knows, and the client is replaced."""
        deadline_s = self._clock() + _TIMEOUT_S
        while True:
            try:
                call(max(deadline_s - self._clock(), 0.1))
                return
            except FAILURES as error:
                reason = reason_of(error, self._heard)
                if reason.retriable() and self._clock() < deadline_s:
                    continue
                raise self._failed(reason) from error

    def _failed(self, error: KafkaError) -> BrokerUnavailable:
        """What to raise; a client that can't go on is let go of."""
        if error.code() == KafkaError._FATAL and self._heard.fatal:
            error = self._heard.fatal  # later calls only say that there was one
        if not error.txn_requires_abort():
            self._drop()
        kind = Fenced if error.code() in _FENCED else BrokerUnavailable
        return kind(f"{self._name}: {error.str()}")
