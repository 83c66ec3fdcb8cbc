"""Records handed over to librdkafka: the adapter of `EventProducer`."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

from confluent_kafka import KafkaError, KafkaException, Message

from shared.ports import BrokerUnavailable, Delivered, Outgoing

_log = logging.getLogger(__name__)

FAILURES: Final = (KafkaException, SystemError)
"""What a call that serves callbacks may raise, for `reason_of`."""


class Heard:
    """A client's `logger`, which keeps what was fatal to it; librdkafka would print that."""

    def __init__(self) -> None:
        self.fatal: KafkaError | None = None

    def log(self, level: int, form: str, facility: str, client: str, text: str) -> None:
        """As of `logging.Logger`."""
        if facility == "FATAL":
            self.fatal = KafkaError(KafkaError._FATAL, text.partition(": ")[2] or text, fatal=True)


Reported: TypeAlias = Callable[[KafkaError | None, Message], None]


class KafkaSender:
    """`shared.ports.Sender`: what is common to producers with and without transactions."""

    _client: Any
    _heard: Heard
    """By this client."""
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
                    self._make_room()
                except KafkaException as error:
                    raise self._failed(error.args[0]) from error

    def _following(self, on_delivered: Delivered) -> Reported:
        def report(error: KafkaError | None, message: Message) -> None:
            if error is None:
                on_delivered(message.partition() or 0, message.offset() or 0)
            elif self._unfollowed:
                self._unfollowed(error, message)

        return report

    def _make_room(self) -> None:
        try:
            self._client.poll(0.1)
        except FAILURES as error:
            raise self._failed(reason_of(error, self._heard)) from error

    def _failed(self, error: KafkaError) -> BrokerUnavailable:
        """What to raise for a client that does not take a record."""
        raise NotImplementedError


class KafkaProducer(KafkaSender):
    """`shared.ports.EventProducer`.

    A client that has met an error it can't recover from (a right that was taken from it, say) takes
    no record ever after, so it is replaced by a new one.

    Args:
        name: of the broker, for people.
        make: makes a client, with these settings besides the usual ones.
    """

    def __init__(self, name: str, make: Callable[[dict[str, Any]], Any]) -> None:
        self._name = name
        self._make = make
        self._failure = ""
        self._unfollowed = self._note_failure
        self._client = self._made()

    def flush(self, timeout_s: float) -> None:
        """See `EventProducer.flush`."""
        try:
            unacknowledged = self._client.flush(timeout_s)
        except FAILURES as error:
            raise self._failed(reason_of(error, self._heard)) from error
        failure, self._failure = self._failure, ""
        if failure:
            raise BrokerUnavailable(f"{self._name} refused a record: {failure}")
        if unacknowledged:
            raise BrokerUnavailable(
                f"{self._name} did not acknowledge {unacknowledged} records within {timeout_s:g} s"
            )

    def close(self) -> None:
        """See `EventProducer.close`."""
        let_go(self._client, self._heard)

    def _made(self) -> Any:
        name, self._heard = self._name, Heard()
        noted = {"error_cb": lambda error: _log.debug("%s: %s", name, error), "logger": self._heard}
        return self._make(noted)

    def _note_failure(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failure = error.str()

    def _failed(self, error: KafkaError) -> BrokerUnavailable:
        """What to raise; a client that can't go on is replaced."""
        if error.fatal() or error.code() == KafkaError._FATAL:
            let_go(self._client, self._heard)
            error = self._heard.fatal or error
            self._client, self._failure = self._made(), ""
        return BrokerUnavailable(f"{self._name}: {error.str()}")


def reason_of(failure: BaseException, heard: Heard) -> KafkaError:
    """What librdkafka has said; raises the failure itself if it has said nothing.

    The binding raises a fatal error out of whatever call serves it. What it still calls back before
    that, with the exception pending, may make a SystemError of it, or lose it.
    """
    behind: BaseException | None = failure
    while behind is not None:
        if isinstance(behind, KafkaException):
            reason: KafkaError = behind.args[0]
            return reason
        behind = behind.__cause__ or behind.__context__
    if heard.fatal is None:
        raise failure
    return heard.fatal


def let_go(client: Any, heard: Heard) -> None:
    """Drop what a client holds; what was fatal to it is heard, if it was not before."""
    try:
        client.purge()
        client.flush(0)
    except FAILURES as failure:
        reason_of(failure, heard)
