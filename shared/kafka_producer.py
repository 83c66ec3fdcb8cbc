"""Records handed over to librdkafka: the adapter of `EventProducer`."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from confluent_kafka import KafkaError, KafkaException, Message

from shared.ports import BrokerUnavailable, Delivered, Outgoing

_log = logging.getLogger(__name__)


Reported: TypeAlias = Callable[[KafkaError | None, Message], None]


class KafkaSender:
    """`shared.ports.Sender`: what is common to producers with and without transactions."""

    _client: Any
    _unfollowed: Reported | None = None
    """Told of the records, and failures, that nobody else is told of."""

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        headers: Sequence[tuple[str, bytes]] = (),
        on_delivered: Delivered | None = None,
    ) -> None:
        """See `Sender.send`."""
        self.send_all([(topic, key, value, headers, on_delivered)])

    def send_all(self, records: Iterable[Outgoing]) -> None:
        """See `Sender.send_all`."""
        produce, unfollowed = self._client.produce, self._unfollowed
        # One loop without calls of our own: this is done for every record there is.
        for topic, key, value, headers, on_delivered in records:
            callback = unfollowed if on_delivered is None else self._following(on_delivered)
            while True:
                try:
                    if headers:
                        produce(topic, value, key, on_delivery=callback, headers=list(headers))
                    else:  # most have none, and they take time
                        produce(topic, value, key, on_delivery=callback)
                    break
                except BufferError:
                    self._client.poll(0.1)
                except KafkaException as error:
                    raise self._failed(error.args[0]) from error

    def _following(self, on_delivered: Delivered) -> Reported:
        def report(error: KafkaError | None, message: Message) -> None:
            if error is None:
                on_delivered(message.partition() or 0, message.offset() or 0)
            elif self._unfollowed:
                self._unfollowed(error, message)

        return report

    def _failed(self, error: KafkaError) -> BrokerUnavailable:
        """What to raise for a client that does not take a record."""
        raise NotImplementedError


class KafkaProducer(KafkaSender):
    """`shared.ports.EventProducer`."""

    def __init__(self, name: str, make: Callable[[dict[str, Any]], Any]) -> None:
        self._name = name
        self._failure = ""
        self._unfollowed = self._note_failure
        self._client = make({"error_cb": lambda error: _log.debug("%s: %s", name, error)})

    def _note_failure(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failure = error.str()

    def _failed(self, error: KafkaError) -> BrokerUnavailable:
        return BrokerUnavailable(f"{self._name}: {error.str()}")

    def flush(self, timeout_s: float) -> None:
        """See `EventProducer.flush`."""
        unacknowledged = self._client.flush(timeout_s)
        failure, self._failure = self._failure, ""
        if failure:
            raise BrokerUnavailable(f"{self._name} refused a record: {failure}")
        if unacknowledged:
            raise BrokerUnavailable(
                f"{self._name} did not acknowledge {unacknowledged} records within {timeout_s:g} s"
            )

    def close(self) -> None:
        """See `EventProducer.close`."""
        self._client.purge()
        self._client.flush(0)
