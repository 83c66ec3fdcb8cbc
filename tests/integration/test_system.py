"""The loop on a real broker and store: driven from the host, and through kills and restarts."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from infra.embedded import Addresses
from shared.events import DEAD_LETTERS, DECISIONS, OUTCOMES, VISITS
from shared.kafka import KafkaCluster
from shared.kafka_admin import KafkaAdmin
from shared.settings import PARTITIONS, SERVER_GROUP, TRAINER_GROUP
from tests.e2e.system import System
from tests.integration.command import Reco
from tests.integration.containers import START_S, KafkaServer, RedisServer, make_anew

pytestmark = pytest.mark.timeout(900)  # containers start within the first test's time

RATE = 100.0


def decided_once(system: System, visits: int) -> None:
    """Sound, and no visit was decided twice: what a transaction a batch is for."""
    system.await_records(VISITS, visits)
    system.assert_sound(visits)
    decided = Counter(decision.visit_id for decision in system.decisions())
    assert set(decided.values()) == {1}
    outcomes = Counter(outcome.outcome_id for outcome in system.outcomes())
    assert set(outcomes.values()) == {1}


def test_a_running_system_is_looked_at_and_saved_from_the_host(
    system: System, reco: Reco, tmp_path: Path
) -> None:
    system.start_all()
    system.produce(80, RATE)
    decided_once(system, 80)
    count = len(system.outcomes())
    model = ("--model", system.model)
    created = reco("topics", "create")
    assert (created.code, created.out.count("is there with")) == (0, len(PARTITIONS))
    listed = {
        row["topic"]: row for row in msgspec.json.decode(reco("topics", "list", "--json").out)
    }
    assert listed.keys() >= {VISITS, DECISIONS, OUTCOMES, DEAD_LETTERS}
    assert listed[VISITS]["records"] == 80
    watched = reco("topics", "watch", OUTCOMES, "--from-beginning", "--max", count)
    assert (watched.code, len(watched.out.splitlines())) == (0, count)
    rows = msgspec.json.decode(reco("inspect", "partitions", "--json", *model).out)
    assert {row["lag"] for row in rows} == {0}
    shown = system.outcomes()[0].product_id
    arm = msgspec.json.decode(reco("inspect", "arm", shown, "--json", *model).out)
    assert arm["n"] == sum(outcome.product_id == shown for outcome in system.outcomes())
    checked = reco("replay", "--check", *model)
    assert checked.code == 0, checked
    assert f"0 differing bits over {count:,} outcomes" in checked.out
    assert reco("snapshot", "save", "--out", tmp_path / "saved", *model).code == 0
    [file] = (tmp_path / "saved").iterdir()
    loaded = reco("snapshot", "load", file, "--model", f"{system.model}-copy")
    assert loaded.code == 0, loaded
    assert reco("replay", "--check", "--model", f"{system.model}-copy").code == 0


def test_servers_and_trainers_that_are_killed_lose_and_double_nothing(system: System) -> None:
    system.start_all()
    system.produce(300, RATE)
    for decided in (60, 120, 180, 240):
        system.await_records(DECISIONS, decided)
        for name in ("server", "trainer"):
            system.children[name].kill()
            system.again(name)
    decided_once(system, 300)


@pytest.mark.parametrize("command", ["train", "serve"])
def test_of_two_processes_with_one_kept_place_the_later_has_it_and_the_earlier_ends(
    system: System, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("KAFKA_GROUP_INSTANCE_ID", "one")
    if command == "serve":
        system.start("trainer", "train")
    group = f"{SERVER_GROUP if command == 'serve' else TRAINER_GROUP}-{system.model}"
    admin = KafkaAdmin(system.cluster)
    earlier = system.start("earlier", command)
    system.until(lambda: len(admin.members(group) or []) == 1, "the earlier in the group")
    later = system.start("later", command)
    system.until(lambda: not earlier.alive, "the earlier gone")
    assert "KAFKA_GROUP_INSTANCE_ID of its own" in earlier.last_words()
    assert later.alive


@pytest.fixture
def mortal(docker: None) -> Iterator[tuple[KafkaServer, RedisServer]]:
    """A broker and a store of this test's own, to be killed."""
    broker, store = KafkaServer(), RedisServer()
    try:
        yield broker.start(timeout=START_S), store.start()
    finally:
        broker.stop()
        store.stop()


def test_broker_and_store_are_killed_and_the_system_goes_on_without_a_hand(
    mortal: tuple[KafkaServer, RedisServer],
    data_folder: Path,
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.e2e.system.DEADLINE_S", 400.0)  # sessions have to time out
    broker, store = mortal
    make_anew(KafkaCluster(broker.address), list(PARTITIONS))
    system = System(Addresses(broker.address, store.url), name, data_folder, tmp_path)
    try:
        system.start_all()
        system.produce(400, RATE)
        system.await_records(DECISIONS, 60)
        broker.kill()
        broker.start_again()
        system.await_records(DECISIONS, 180)
        store.kill()
        store.start_again()
        system.await_records(DECISIONS, 300)
        decided_once(system, 400)
    finally:
        system.close()
