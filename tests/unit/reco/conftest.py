"""A command line, and a broker and store with something to look at."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.embedded import Addresses, embedded
from reco.__main__ import run
from shared.catalogue import DataSet
from shared.dead_letter import dead_letter
from shared.events import (
    OUTCOMES,
    encode,
    key_of,
)
from shared.kafka import KafkaCluster
from shared.redis_store import RedisStore
from tests.scenario import record
from tests.unit.reco.command_line import MODEL, Reco, Result, outcome, rules
from tests.waiting import until
from trainer.loop import Trainer


@pytest.fixture
def reco(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Reco]:
    """Run `reco …` in this process."""
    handlers = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}

    def call(*arguments: object) -> Result:
        code = run([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    yield call
    for name, handler in handlers.items():
        signal.signal(name, handler)


@pytest.fixture(scope="module")
def addresses(data: DataSet) -> Iterator[Addresses]:
    """A broker with outcomes of two arms and a dead letter, and a store that has learned them."""
    with embedded() as addresses:
        cluster = KafkaCluster(addresses.kafka, patience_s=10.0)
        store = RedisStore(addresses.redis, MODEL, timeout_s=10.0)
        producer = cluster.producer()
        for number in range(30):
            arm = 192 if number % 3 else 42
            producer.send(OUTCOMES, key_of(arm), encode(outcome(data, number, arm)))
        producer.send(OUTCOMES, b"192", b"{poison\x1b[31m")
        poison = record(7, b"{poison\x1b[31m")
        producer.send_all([dead_letter(poison, "undecodable: it is\x1b[31m poison")])
        producer.flush(10.0)
        consumer = cluster.consumer(OUTCOMES, reset="error")
        trainer = Trainer(
            consumer,
            producer,
            store,
            lambda: cluster.source(OUTCOMES),
            rules(data),
            writer="test",
            clock=time.monotonic,
        )
        trainer.assigned(range(12))

        def learned() -> bool:
            trainer.run_once(0.1)
            return sum(trainer.positions.values()) >= 31

        until(learned, "learned all outcomes")
        consumer.close()
        producer.close()
        store.close()
        yield addresses


@pytest.fixture
def here(addresses: Addresses, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses in the environment, as people have them."""
    monkeypatch.setenv("RECO_KAFKA", addresses.kafka)
    monkeypatch.setenv("RECO_REDIS", addresses.redis)
    monkeypatch.setenv("RECO_MODEL", MODEL)
    monkeypatch.setenv("RECO_DATA", str(data_folder))
    monkeypatch.setenv("RECO_PATIENCE_S", "5")
