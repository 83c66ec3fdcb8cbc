"""The adapter of `EventProducer` through librdkafka."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from confluent_kafka import KafkaError, KafkaException, Message

from shared.kafka_connection import text_of
from shared.ports import BrokerUnavailable, Delivered

_log = logging.getLogger(__name__)


Reported: TypeAlias = Callable[[KafkaError | None, Message], None]


def hand_over(
    client: Any,
    topic: str,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]],
    callback: Reported | None,
) -> None:
    """Give librdkafka one record; waits while its queue is full.

    Raises:
        KafkaException: the client does not take it.
    """
    # Most records have neither headers nor callback, and both take time.
    extra = {"headers": list(headers)} if headers else {}
    while True:
        try:
            client.produce(topic, value, key, on_delivery=callback, **extra)
            return
        except BufferError:
            client.poll(0.1)


class KafkaProducer:
    """`shared.ports.EventProducer`."""

    def __init__(self, name: str, make: Callable[[dict[str, Any]], Any]) -> None:
        self._name = name
        self._failure = ""
        self._producer = make({"error_cb": lambda error: _log.debug("%s: %s", name, error)})

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        headers: Sequence[tuple[str, bytes]] = (),
        on_delivered: Delivered | None = None,
    ) -> None:
        """See `EventProducer.send`."""

        def report(error: KafkaError | None, message: Message) -> None:
            self._note_failure(error, message)
            if error is None and on_delivered:
                on_delivered(message.partition() or 0, message.offset() or 0)

        callback = report if on_delivered else self._note_failure
        try:
            hand_over(self._producer, topic, key, value, headers, callback)
        except KafkaException as error:
            raise BrokerUnavailable(f"{self._name}: {text_of(error)}") from error

    def _note_failure(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failure = error.str()

    def flush(self, timeout_s: float) -> None:
        """See `EventProducer.flush`."""
        unacknowledged = self._producer.flush(timeout_s)
        failure, self._failure = self._failure, ""
        if failure:
            raise BrokerUnavailable(f"{self._name} refused a record: {failure}")
        if unacknowledged:
            raise BrokerUnavailable(
                f"{self._name} did not acknowledge {unacknowledged} records within {timeout_s:g} s"
            )

    def close(self) -> None:
        """See `EventProducer.close`."""
        self._producer.purge()
        self._producer.flush(0)
