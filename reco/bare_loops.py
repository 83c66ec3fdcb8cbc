"""What a service can't be quicker than: loops on the same topics that learn and rank nothing.

The bare server consumes, decodes and produces as many records of the same size as a server would;
the bare trainer consumes and decodes. Both use the client library directly.
"""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition

import server.stream
import trainer.loop
from shared.events import decode_outcome, decode_visit
from shared.kafka import PRODUCER
from shared.kafka_transactions import SETTLE_S

_CONSUMER: Final[dict[str, Any]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "auto.offset.reset": "error",
    "log_level": 0,
}
_POLL_S: Final = 0.2
_TIMEOUT_S: Final = 30.0
_SILENT_S: Final = 20.0
_BATCHES: Final = 100
_VALUE: Final = bytes(500)


class Spent(NamedTuple):
    """What a loop took."""

    records: int
    seconds: float
    cpu_s: float


class Stretch(NamedTuple):
    """A part of a topic: from these offsets on until those."""

    topic: str
    start: Mapping[int, int]
    end: Mapping[int, int]


class Template(NamedTuple):
    """What a server sends for one visit, as bytes."""

    decision: tuple[bytes, bytes]
    """Key and value."""
    outcomes: Sequence[tuple[bytes, bytes]]


def templates(
    decisions: Sequence[tuple[bytes, bytes]], outcomes: Sequence[tuple[bytes, bytes]]
) -> list[Template]:
    """One for each decision, with as many outcomes as there are for a decision on average."""
    firsts = sum(decode_outcome(value).rank == 1 for _, value in outcomes)
    each = len(outcomes) / max(firsts, 1)
    endless = itertools.cycle(outcomes)
    return [
        Template(decision, list(itertools.islice(endless, int((i + 1) * each) - int(i * each))))
        for i, decision in enumerate(decisions)
    ]


def bare_trainer(settings: Mapping[str, Any], stretch: Stretch) -> Spent:
    """Consume and decode the outcomes of a stretch."""
    consumer: Any = Consumer({**_CONSUMER, "group.id": "bare-trainer", **settings})
    consumer.list_topics(timeout=_TIMEOUT_S)
    clock = _Clock()
    records = 0
    for messages in _batches(consumer, stretch, trainer.loop.POLL_RECORDS):
        for message in messages:
            decode_outcome(message.value())
        records += len(messages)
    spent = clock.spent(records)
    consumer.close()
    return spent


def bare_server(
    settings: Mapping[str, Any],
    stretch: Stretch,
    templates: Sequence[Template],
    targets: tuple[str, str],
    *,
    transactions: bool,
) -> Spent:
    """Consume and decode the visits of a stretch, and produce a server's records for each.

    Args:
        settings: of librdkafka, with the address.
        stretch: of the visits.
        templates: what to send, in turns.
        targets: topics in the place of decisions and outcomes.
        transactions: one a batch, or else a flush.
    """
    consumer: Any = Consumer({**_CONSUMER, "group.id": "bare-server", **settings})
    consumer.list_topics(timeout=_TIMEOUT_S)
    producer = _producer(settings, transactions=transactions)
    clock = _Clock()
    sends = itertools.cycle(templates)
    records = 0
    for messages in _batches(consumer, stretch, server.stream.POLL_RECORDS):
        if transactions:
            producer.begin_transaction()
        for message in messages:
            decode_visit(message.value())
            _produce(producer, next(sends), targets)
        next_offsets = {message.partition(): message.offset() + 1 for message in messages}
        wanted = [TopicPartition(stretch.topic, p, at) for p, at in next_offsets.items()]
        producer.flush(_TIMEOUT_S)
        if transactions and wanted:
            membership = consumer.consumer_group_metadata()
            producer.send_offsets_to_transaction(wanted, membership, _TIMEOUT_S)
        if transactions:
            producer.commit_transaction(_TIMEOUT_S)
        elif wanted:
            consumer.commit(offsets=wanted, asynchronous=True)
        records += len(messages)
    spent = clock.spent(records)
    consumer.close()
    return spent


def bare_batches(
    settings: Mapping[str, Any], targets: tuple[str, str], *, transactions: bool
) -> float:
    """Seconds that the least of a server's batches takes, from the first record on; the median.

    A record for each partition of these topics, as nearly every batch has; acknowledged, and with
    `transactions` committed. librdkafka sends a request for each partition.
    """
    producer = _producer(settings, transactions=transactions)
    partitions = [
        (topic, partition)
        for topic in targets
        for partition in producer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic].partitions
    ]
    seconds = []
    for _ in range(_BATCHES):
        if transactions:  # as a server waits for the one before
            time.sleep(SETTLE_S)
        started_s = time.perf_counter()
        if transactions:
            producer.begin_transaction()
        for topic, partition in partitions:
            producer.produce(topic, _VALUE, partition=partition)
        producer.flush(_TIMEOUT_S)
        if transactions:
            producer.commit_transaction(_TIMEOUT_S)
        seconds.append(time.perf_counter() - started_s)
    return median(seconds)


def _producer(settings: Mapping[str, Any], *, transactions: bool) -> Any:
    own = {"transactional.id": "bare-server"} if transactions else {}
    producer: Any = Producer({**PRODUCER, "log_level": 0, **own, **settings})
    if transactions:
        producer.init_transactions(_TIMEOUT_S)
    else:
        producer.list_topics(timeout=_TIMEOUT_S)
    return producer


class _Clock:
    """Both kinds of time since it was made."""

    def __init__(self) -> None:
        self._seconds, self._cpu_s = time.perf_counter(), time.process_time()

    def spent(self, records: int) -> Spent:
        return Spent(
            records, time.perf_counter() - self._seconds, time.process_time() - self._cpu_s
        )


def _produce(producer: Any, template: Template, targets: tuple[str, str]) -> None:
    decisions, outcomes = targets
    key, value = template.decision
    producer.produce(decisions, value, key)
    for key, value in template.outcomes:
        producer.produce(outcomes, value, key)


def _batches(consumer: Any, stretch: Stretch, size: int) -> Iterator[list[Any]]:
    consumer.assign([TopicPartition(stretch.topic, p, at) for p, at in stretch.start.items()])
    left = {p for p, end in stretch.end.items() if end > stretch.start[p]}
    heard_s = time.monotonic()
    while left:
        first = consumer.poll(_POLL_S)
        if first is None:
            if time.monotonic() - heard_s > _SILENT_S:
                raise TimeoutError(f"{stretch.topic} brings no more records")
            continue
        heard_s = time.monotonic()
        messages = []
        for message in (first, *consumer.consume(size - 1, 0)):
            if message.error() is None:
                messages.append(message)
            elif message.offset() >= stretch.end[message.partition()]:
                left.discard(message.partition())
        yield messages
