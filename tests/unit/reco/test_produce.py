import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import cast

import click
import msgspec
import pytest

from producer.service import BATCH
from producer.simulate import Shoppers
from reco.commands.produce import Reporter, _held_visit_ids, _run_id, _send_history, command
from server.api_types import DecisionId
from shared.catalogue import DataSet
from shared.events import OUTCOMES, VISITS, encode, key_of
from shared.kafka import KafkaCluster
from shared.ports import Record, Watermarks
from shared.testing import FakeBroker, FakeConsumer, FakeProducer
from tests.scenario import NESTED


class Consumer:
    """As Kafka's own: a poll that meets the end of a partition brings nothing."""

    def __init__(self, consumer: FakeConsumer) -> None:
        self._consumer = consumer
        self._polls = 0

    def watermarks(self, partition: int) -> Watermarks:
        return self._consumer.watermarks(partition)

    def assign(self, offsets: Mapping[int, int | None]) -> None:
        self._consumer.assign(offsets)

    def position(self, partition: int) -> int | None:
        return self._consumer.position(partition)

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        self._polls += 1
        return [] if self._polls % 2 else self._consumer.poll(1, 0.0)

    def close(self) -> None:
        self._consumer.close()


class Cluster:
    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    def topics(self) -> dict[str, int]:
        return dict(self._broker.partitions)

    def consumer(self, topic: str) -> Consumer:
        return Consumer(self._broker.consumer(topic, "alone"))

    def producer(self) -> FakeProducer:
        return self._broker.producer()


def test_a_visit_of_the_longest_run_id_is_a_decision_of_the_api(data: DataSet) -> None:
    run_id = "._-aZ9" * 8
    accepted = _run_id(click.Context(command), command.params[0], run_id)
    visit_id = Shoppers(data.users, 1, accepted or "").visit_id(10**15 - 1)
    assert msgspec.convert(visit_id, DecisionId) == visit_id
    assert len(visit_id) == 64


def test_a_run_is_resumed_past_the_ends_of_partitions_and_what_is_no_visit(data: DataSet) -> None:
    broker, shoppers = FakeBroker({VISITS: 2}), Shoppers(data.users, 1, "run")
    for index in range(6):
        visit = shoppers.visit(index, datetime(2026, 1, 5, tzinfo=UTC))
        broker.append(VISITS, index % 2, key_of(visit.user_id), encode(visit))
    for value in (b'{"visit_id": "\xff"}', NESTED):
        broker.append(VISITS, 0, b"1", value)
    assert held_of("run", broker) == {shoppers.visit_id(index) for index in range(6)}


def test_a_run_is_resumed_though_retention_has_emptied_a_partition_and_a_mark_ends_another(
    data: DataSet,
) -> None:
    broker, shoppers = FakeBroker({VISITS: 2}), Shoppers(data.users, 1, "run")
    for index in range(6):
        visit = shoppers.visit(index, datetime(2026, 1, 5, tzinfo=UTC))
        broker.append(VISITS, index % 2, key_of(visit.user_id), encode(visit))
    broker.trim(VISITS, 0, 3)
    broker.mark(VISITS, 1)
    assert held_of("run", broker) == {shoppers.visit_id(index) for index in (1, 3, 5)}


def test_visits_of_other_runs_are_not_remembered(data: DataSet) -> None:
    broker = FakeBroker({VISITS: 1})
    for run_id in ("run", "run-2", "ru", "run-2-7"):
        visit = Shoppers(data.users, 1, run_id).visit(0, datetime(2026, 1, 5, tzinfo=UTC))
        broker.append(VISITS, 0, key_of(visit.user_id), encode(visit))
    assert held_of("run-2", broker) == {"run-2-0000000"}


def test_a_run_on_a_topic_that_there_is_not_holds_nothing() -> None:
    assert held_of("run", FakeBroker({})) == set()


def history(folder: Path, data: DataSet, *event_ids: int) -> Path:
    rows = [",".join(["event_id", *data.encoder.features, "product_id", "response"])]
    x = ["0.5"] * data.encoder.d
    rows += [",".join([str(event_id), *x, "42", "1"]) for event_id in event_ids]
    path = folder / "history.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def sent_of(path: Path, data: DataSet, stop: Event, broker: FakeBroker) -> int:
    cluster = cast(KafkaCluster, Cluster(broker))
    _send_history(cluster, data, path, stop, Reporter(as_json=True))
    return len(broker.records(OUTCOMES, 0))


def test_a_history_is_sent_whole(data: DataSet, tmp_path: Path) -> None:
    path = history(tmp_path, data, 1, 2, 3)
    assert sent_of(path, data, Event(), FakeBroker({OUTCOMES: 1})) == 3


def test_of_a_history_with_a_bad_line_nothing_is_sent(data: DataSet, tmp_path: Path) -> None:
    path = history(tmp_path, data, *range(BATCH), 2)  # a batch is confirmed by itself
    broker = FakeBroker({OUTCOMES: 1})
    with pytest.raises(click.UsageError, match="event_id 2 was another row's"):
        sent_of(path, data, Event(), broker)
    assert broker.records(OUTCOMES, 0) == []


def test_a_history_through_a_pipe_is_sent(data: DataSet, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = history(tmp_path, data, 1, 2).read_text()
    writer = Thread(target=pipe.write_text, args=[text])
    writer.start()
    assert sent_of(pipe, data, Event(), FakeBroker({OUTCOMES: 1})) == 2
    writer.join()


def test_a_history_that_is_stopped_while_it_is_checked_is_not_sent(
    data: DataSet, tmp_path: Path
) -> None:
    stop, broker = Event(), FakeBroker({OUTCOMES: 1})
    stop.set()
    assert sent_of(history(tmp_path, data, 1, 2, 2), data, stop, broker) == 0


def held_of(run_id: str, broker: FakeBroker) -> set[str]:
    return set(_held_visit_ids(cast(KafkaCluster, Cluster(broker)), run_id))
