"""What docs/operations.md tells an operator to do, done on the composed system."""

import re
from pathlib import Path

import httpx
import pytest
import redis
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from shared.catalogue import DataSet
from shared.events import OUTCOMES, VISITS
from shared.redis_store import RedisStore
from shared.snapshots import Snapshot, load
from tests import replay
from tests.integration.compose import CONTEXT, MODEL, ROOT, Observer, Stack, docker, goes_on
from tests.waiting import until

UNAVAILABLE = (httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE)

pytestmark = [pytest.mark.xdist_group("compose"), pytest.mark.timeout(600)]


@pytest.fixture
def admin(observer: Observer) -> redis.Redis:
    return redis.Redis.from_url(observer.addresses["RECO_REDIS"])


def kafka_admin(observer: Observer) -> AdminClient:
    return AdminClient({"bootstrap.servers": observer.addresses["RECO_KAFKA"], "log_level": 0})


def assert_sound(stack: Stack, observer: Observer) -> None:
    """Everything that came so far is decided once and learned; then shoppers come again."""
    stack.run("stop", "producer")
    observer.assert_sound()
    stack.up("--no-recreate")


def copy_of(stack: Stack, name: str, folder: Path) -> Snapshot:
    """A snapshot, copied out of its volume and read."""
    path = folder / name
    path.write_bytes(stack.read_snapshot(name))
    return load(path)


def test_a_lost_state_is_learned_again_from_the_log(
    stack: Stack, observer: Observer, admin: redis.Redis
) -> None:
    until(lambda: observer.learned() > 200, "something to lose")
    before = observer.learned()
    admin.flushall()
    until(lambda: observer.learned() > before, "as far as before")
    assert_sound(stack, observer)


def test_a_store_that_starts_again_has_all_that_it_has_written(stack: Stack) -> None:
    with httpx.Client(base_url=stack.http, timeout=30.0) as shop:
        ranked = shop.post("/v1/rank", json={"context": CONTEXT}).raise_for_status().json()
        stack.run("restart", "redis")
        click = {"product_id": ranked["slate"][0]["product_id"]}
        path = f"/v1/decisions/{ranked['decision_id']}/click"

        def answered() -> bool:
            codes.append(shop.post(path, json=click).status_code)
            return codes[-1] not in UNAVAILABLE

        codes: list[int] = []
        until(answered, "the store again")
    assert codes[-1] in (httpx.codes.OK, httpx.codes.GONE)  # gone: the window had ended meanwhile
    assert "CRITICAL" not in stack.run("logs", "redis")  # so it calls what it may not load


def test_a_full_store_stops_learning_and_not_serving(
    stack: Stack, observer: Observer, admin: redis.Redis
) -> None:
    goes_on(observer)
    limit = str(admin.config_get("maxmemory")["maxmemory"])
    admin.config_set("maxmemory", "1mb")

    def waiting() -> bool:
        said = stack.run("logs", "--tail", "5", "trainer")
        return "NOT SERVED" in said and "maxmemory" in said

    until(waiting, "trainers waiting, and why")
    decided = len(observer.decided())
    until(lambda: len(observer.decided()) > decided, "decisions all the same")
    admin.config_set("maxmemory", limit)
    goes_on(observer)
    assert_sound(stack, observer)


def test_a_backup_is_taken_while_all_runs_and_put_back(
    stack: Stack, observer: Observer, admin: redis.Redis, tmp_path: Path
) -> None:
    until(lambda: observer.learned() > 200, "something to save")
    stack.reco("snapshot", "save", "--out", "/snapshots/backup.snapshot")
    kept = copy_of(stack, "backup.snapshot", tmp_path)
    generations = [p.generation for p in observer.store.positions(range(12)) if p]
    admin.flushall()
    remove = ["run", "--rm", "-T", "--entrypoint", "rm", "reco"]
    stack.run(*remove, "/snapshots/backup.snapshot")  # as if the volume had been lost
    stack.write_snapshot("backup.snapshot", (tmp_path / "backup.snapshot").read_bytes())
    stack.reco("snapshot", "load", "--force", "/snapshots/backup.snapshot")
    reached = sum(state.position.next_offset for state in kept.states.values())
    until(lambda: observer.learned() >= reached, "as far as the backup")
    assert [p.generation for p in observer.store.positions(range(12)) if p] > generations
    goes_on(observer)
    assert_sound(stack, observer)


def test_old_snapshots_are_deleted_but_for_the_last_seven(stack: Stack) -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    [delete] = re.findall(r"sh reco -c '(ls -t .*)'", page)
    in_volume = ["run", "--rm", "-T", "--entrypoint", "sh", "reco", "-c"]
    stack.run(*in_volume, "rm -f /snapshots/*Z.snapshot")
    dated = [f"linucb-202601{day:02}T000000Z.snapshot" for day in range(1, 11)]
    made = [f"touch -d 2026-01-{day:02} /snapshots/{name}" for day, name in enumerate(dated, 1)]
    stack.run(*in_volume, " && ".join([*made, "touch -d 2025-01-01 /snapshots/kept.snapshot"]))
    stack.run(*in_volume, delete)
    left = set(stack.run(*in_volume, "ls /snapshots").split())
    assert {*dated[3:], "kept.snapshot"} <= left
    assert not left & {*dated[:3]}
    stack.run(*in_volume, "rm -f /snapshots/*Z.snapshot")


def test_a_trainer_that_slept_too_long_harms_nothing(stack: Stack, observer: Observer) -> None:
    stack.up("--no-recreate", "--scale", "trainer=2")
    zombie = stack.containers("trainer")[0]["Id"]
    docker("pause", zombie)
    goes_on(observer)
    until(lambda: observer.compared().lag < 100, "the other in charge of all partitions")
    docker("unpause", zombie)
    assert_sound(stack, observer)
    stack.up("--no-recreate", "--scale", "trainer=1")


def test_records_that_can_not_be_applied_are_set_aside(stack: Stack, observer: Observer) -> None:
    produce = ["rpk", "topic", "produce", OUTCOMES, "-k", "1"]
    stack.run("exec", "-T", "redpanda", *produce, input_text="no outcome\n")

    def dead() -> bool:
        return "no outcome" in stack.reco("dead-letters", "list", "--topic", OUTCOMES)

    until(dead, "a dead letter")
    assert_sound(stack, observer)


def test_records_larger_than_a_letter_may_be_are_set_aside_and_block_nothing(
    stack: Stack, observer: Observer
) -> None:
    settings = {"compression.type": "gzip", "message.max.bytes": 20_000_000}
    address = observer.addresses["RECO_KAFKA"]
    producer = Producer({"bootstrap.servers": address, "log_level": 0, **settings})
    for topic in (VISITS, OUTCOMES):
        producer.produce(topic, b"[" * 5_000_000, b"1")  # the broker takes it: it compresses
    assert producer.flush(30) == 0

    def set_aside() -> bool:
        letters = stack.reco("dead-letters", "list", "--json")
        return letters.count('"cut_from_bytes": 5000001') == 2

    until(set_aside, "both set aside")
    goes_on(observer)
    until(lambda: observer.compared().lag < 100, "every partition going on")


def test_passwords_are_changed(stack: Stack, observer: Observer, data: DataSet) -> None:
    before = stack.from_host()["RECO_REDIS"]
    stack.run("run", "--rm", "--entrypoint", "sh", "users", "-c", "rm -f /run/reco/*/password")
    stack.up("--force-recreate")
    after = stack.from_host()["RECO_REDIS"]
    assert after != before
    with redis.Redis.from_url(before) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    again = Observer(stack, data)
    goes_on(again)
    assert_sound(stack, again)


def test_passwords_are_chosen(stack: Stack, data: DataSet) -> None:
    users = ("TRAINER", "SERVER", "PRODUCER", "ADMIN")
    chosen = {f"RECO_REDIS_{user}_PASSWORD": f"chosen by {user.lower()}" for user in users}
    with stack.told(**chosen):
        stack.up("--force-recreate")
    again = Observer(stack, data)
    assert "chosen%20by%20admin" in again.addresses["RECO_REDIS"]
    goes_on(again)


def test_api_keys_are_changed_while_old_and_new_are_known(stack: Stack, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    old, new = "the old one, long enough", "the new one, long enough"

    def status(key: str) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.get(f"{stack.http}/v1/products", headers=headers, timeout=30.0).status_code

    keys.write_text(f"{old}\n")
    with stack.told(RECO_API_KEYS=str(keys)):
        stack.up()
        assert (status(old), status(new)) == (200, 401)
        with keys.open("a") as file:
            file.write(f"{new}\n")
        stack.run("restart", "server")
        until(lambda: (status(old), status(new)) == (200, 200), "old and new one known")
        keys.write_text(f"{new}\n")
        stack.run("restart", "server")
        until(lambda: (status(old), status(new)) == (401, 200), "only the new one known")
    stack.up()


def test_where_the_log_is_trimmed_a_snapshot_stands_in(
    stack: Stack, observer: Observer, admin: redis.Redis, data: DataSet, tmp_path: Path
) -> None:
    until(lambda: observer.learned() > 200, "something to save")
    [name] = re.findall(r"/snapshots/(\S+)", stack.reco("snapshot", "save", "--out", "/snapshots"))
    bases = copy_of(stack, name, tmp_path).states
    trim = [TopicPartition(OUTCOMES, p, s.position.next_offset) for p, s in bases.items()]
    kafka = kafka_admin(observer)  # it has to outlive its futures
    for future in kafka.delete_records(trim).values():
        future.result()
    admin.flushall()
    goes_on(observer)
    stack.run("stop", "producer")
    observer.settle()
    report = replay.compared(observer.cluster, observer.store, data, bases=bases)
    assert (report.differing_bits, report.violations) == (0, [])
    assert "✓ 0 differing bits" in stack.reco(
        "replay", "--check", "--snapshot", f"/snapshots/{name}"
    )
    stack.up("--no-recreate")


def test_another_partition_count_is_refused_and_a_new_model_starts_on_new_topics(
    stack: Stack, observer: Observer
) -> None:
    """The last one: it begins anew."""
    kafka = kafka_admin(observer)
    for future in kafka.create_partitions([NewPartitions(OUTCOMES, 13)]).values():
        future.result()
    with pytest.raises(AssertionError, match="has 13 partitions instead of 12"):
        stack.run("run", "--rm", "-T", "topics")
    stack.run("stop", "producer", "server", "trainer")
    topics = ["visits", "decisions", "outcomes", "dead-letters"]
    stack.run("exec", "-T", "redpanda", "rpk", "topic", "delete", *topics)
    stack.environment["RECO_MODEL"] = f"{MODEL}-2"
    stack.up()
    store = RedisStore(observer.addresses["RECO_REDIS"], f"{MODEL}-2")
    until(lambda: any(store.positions(range(12))), "the new model learning")
    assert re.search(r"✓ 0 differing bits", stack.reco("replay", "--check"))
