"""kill -9, SIGSTOP, a store that goes away: real processes on the embedded broker and store."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import redis

from shared.events import DEAD_LETTERS, DECISIONS, OUTCOMES, VISITS, encode, key_of
from shared.partitioner import partition_of
from tests.e2e.system import EmbeddedSystem, running

RATE = 150.0


def test_a_killed_trainer_loses_and_doubles_nothing(system: EmbeddedSystem) -> None:
    system.start_all()
    system.produce(300, RATE)
    for decided in (60, 140, 220):
        system.await_records(DECISIONS, decided)
        system.children["trainer"].kill()
        system.again("trainer")
    report = system.assert_sound(300)
    assert report.applied == len({o.outcome_id for o in system.outcomes()})


def test_a_killed_server_leaves_no_visit_undecided(system: EmbeddedSystem) -> None:
    system.start_all()
    system.produce(300, RATE)
    for decided in (60, 180):
        system.await_records(DECISIONS, decided)
        system.children["server"].kill()
        system.again("server")
    system.assert_sound(300)


def test_a_killed_producer_goes_on_where_it_was(system: EmbeddedSystem) -> None:
    system.start_all()
    producer = system.produce(300, RATE)
    for sent in (60, 180):
        system.await_records(VISITS, sent)
        producer.kill()
        producer.start()
    system.until(lambda: producer.finished, "all visits sent")
    system.assert_sound(300)


def test_two_trainers_that_own_every_partition_harm_nothing(system: EmbeddedSystem) -> None:
    system.start("one", "train", static="0/1")
    system.start("other", "train", static="0/1")
    system.start("server", "serve")
    system.produce(200, RATE)
    system.await_records(VISITS, 200)
    system.assert_sound(200)


def test_trainers_of_a_group_take_over_from_one_that_is_killed_and_one_that_sleeps(
    system: EmbeddedSystem,
) -> None:
    for name in ("first", "second"):
        system.start(name, "train")
    system.start("server", "serve")
    system.produce(600, RATE)
    system.await_records(DECISIONS, 100)
    system.children["first"].kill()
    system.await_records(DECISIONS, 250)
    zombie = system.children["second"].pid
    os.kill(zombie, signal.SIGSTOP)  # the group will think it dead
    system.start("third", "train")
    system.await_records(DECISIONS, 600)
    system.until(lambda: system.compared().lag == 0, "the third trainer in charge")
    os.kill(zombie, signal.SIGCONT)
    system.produce(100, RATE, name="after")
    system.await_records(VISITS, 700)
    system.assert_sound(700)


def paused(system: EmbeddedSystem) -> AbstractContextManager[None]:
    return system.store_server.asleep()


@contextmanager
def restarted_empty(system: EmbeddedSystem) -> Iterator[None]:
    system.store_server.kill()
    yield
    system.store_server.start()


@pytest.mark.parametrize("outage", [paused, restarted_empty])
def test_serving_goes_on_and_learning_catches_up_when_the_store_is(
    system: EmbeddedSystem, outage: Callable[[EmbeddedSystem], AbstractContextManager[None]]
) -> None:
    system.start_all()
    system.produce(250, RATE)
    system.await_records(DECISIONS, 60)
    with outage(system):
        system.produce(750, RATE, name="during")
        system.until(lambda: any(d.stale for d in system.decisions()), "decided on an old view")
    system.await_records(VISITS, 1_000)
    system.assert_sound(1_000)


def test_a_store_that_comes_back_older_is_brought_forward(
    data_folder: Path, tmp_path: Path
) -> None:
    with running(data_folder, tmp_path, append_only=True) as system:
        system.start_all()
        system.produce(500, RATE)
        system.await_records(DECISIONS, 80)
        files, copy = system.store_server.folder / "appendonlydir", tmp_path / "older"
        with redis.Redis.from_url(system.store_server.url) as client:
            client.config_set("appendfsync", "always")
        with system.store_server.asleep():
            shutil.copytree(files, copy)
        system.await_records(DECISIONS, 250)
        system.store_server.kill()
        shutil.rmtree(files)
        shutil.copytree(copy, files)
        system.store_server.start()
        system.await_records(VISITS, 500)
        system.assert_sound(500)


def test_poison_duplicates_and_strangers_are_set_aside_and_counted(system: EmbeddedSystem) -> None:
    system.start_all()
    system.produce(300, RATE)
    system.await_records(OUTCOMES, 200)
    raw, known = system.raw_producer(), system.outcomes()[:40]
    home = {o.outcome_id: partition_of(key_of(o.product_id), 12) for o in known}
    for number, outcome in enumerate(known):
        here, key = home[outcome.outcome_id], key_of(outcome.product_id)
        good = encode(outcome)
        raw.produce(OUTCOMES, good, key, partition=here)  # again
        raw.produce(OUTCOMES, b"\x00\xff", key, partition=here)
        raw.produce(OUTCOMES, good, key, partition=(here + 1) % 12)
        raw.produce(OUTCOMES, good.replace(b'"reward":', b'"reward":7'), key, partition=here)
        raw.produce(
            OUTCOMES, good.replace(b'"product_id":', b'"product_id":9'), key, partition=here
        )
        raw.produce(VISITS, b"{%d" % number, b"1")
    raw.flush()
    system.until(lambda: system.records(VISITS) == 340, "300 visits and 40 that are none")
    system.settle()
    report = system.compared()
    assert (report.differing_bits, report.violations) == (0, [])
    assert report.duplicates == 40
    assert report.dead_letters == 4 * 40
    system.until(lambda: system.records(DEAD_LETTERS) >= 5 * 40, "all dead letters")
    assert len(system.decisions()) == 300


def test_a_cut_subscription_is_caught_up(system: EmbeddedSystem) -> None:
    system.start_all()
    system.produce(300, RATE)
    with redis.Redis.from_url(system.store_server.url) as client:
        for decided in (50, 100, 150):
            system.await_records(DECISIONS, decided)
            client.client_kill_filter(_type="pubsub")
    system.await_records(VISITS, 300)
    system.assert_sound(300)
    learned = sum(p.next_offset for p in system.store.positions(range(12)) if p)
    system.produce(5, RATE, name="after")
    system.await_records(DECISIONS, 305)
    latest = [d for d in system.decisions() if d.visit_id.startswith("after")]
    assert max(sum(decision.view) for decision in latest) >= learned


def test_sigterm_under_load_ends_everything_well(system: EmbeddedSystem) -> None:
    system.start_all()
    producer = system.produce(100_000, 500.0)
    system.await_records(DECISIONS, 200)
    for name in ("producer", "server", "trainer"):
        system.children[name].stop(60.0)
        assert system.children[name].finished, system.children[name].last_words()
    reports = [producer.lines.get() for _ in range(producer.lines.qsize())]
    assert reports[-1]["done"]
    assert reports[-1]["confirmed"] == system.records(VISITS)
    system.again("trainer")
    system.again("server")
    system.assert_sound(system.records(VISITS))
