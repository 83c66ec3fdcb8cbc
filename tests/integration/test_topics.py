"""Topics that are not what they should be: another partition count, made again, trimmed."""

from pathlib import Path

import pytest
import redis
from confluent_kafka import TopicPartition
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource

from shared.events import OUTCOMES, PRODUCTS, VISITS, encode, key_of
from shared.kafka import KafkaCluster
from tests.contract.broker_suite import read
from tests.e2e.system import System
from tests.integration.command import Reco
from tests.integration.containers import make_anew

pytestmark = pytest.mark.timeout(900)  # containers start within the first test's time

RATE = 100.0


def waiting(system: System, trainer: str = "trainer") -> str:
    """What a trainer says it waits for."""
    child = system.children[trainer]
    said = ""
    while not child.lines.empty():
        said = "; ".join(sorted(set(child.lines.get()["waiting"].values())))
    return said


def outcomes_only(system: System, count: int) -> None:
    """Let the system produce a few hundred outcomes, learned and at rest."""
    system.start_all()
    system.produce(count, RATE)
    system.await_records(VISITS, count)
    system.assert_sound(count)
    for name in ("server", "trainer"):
        system.children[name].stop()


@pytest.mark.parametrize("line", ["topics create", "train", "serve", "replay"])
def test_another_partition_count_is_refused_in_one_sentence(
    reco: Reco, cluster: KafkaCluster, topics: None, line: str
) -> None:
    make_anew(cluster, [OUTCOMES], {OUTCOMES: 4})
    result = reco(*line.split())
    assert result.code == 1
    assert f"the topic {OUTCOMES}" in result.err
    assert "4 partitions instead of 12" in result.err
    assert len(result.err.splitlines()) == 1


def test_products_that_would_be_deleted_after_a_while_are_refused_in_one_sentence(
    reco: Reco, cluster: KafkaCluster, topics: None
) -> None:
    assert reco("topics", "create").code == 0
    setting = ConfigEntry("cleanup.policy", "delete", incremental_operation=AlterConfigOpType.SET)
    products = ConfigResource(ConfigResource.Type.TOPIC, PRODUCTS, incremental_configs=[setting])
    admin = cluster.admin
    admin.incremental_alter_configs([products])[products].result()
    result = reco("topics", "create")
    assert result.code == 1
    assert "the topic products has cleanup.policy=delete" in result.err
    assert len(result.err.splitlines()) == 1


def test_asking_for_a_topic_does_not_make_it(reco: Reco, cluster: KafkaCluster, name: str) -> None:
    result = reco("topics", "watch", name)
    assert result.code == 2
    assert name not in cluster.topics()


def test_a_topic_made_again_has_another_id(cluster: KafkaCluster, name: str) -> None:
    counts = {name: 2}
    make_anew(cluster, [name], counts)
    first = cluster.source(name)
    make_anew(cluster, [name], counts)
    second = cluster.source(name)
    assert first.topic_id
    assert not first.is_same_log(second)


def test_a_consumer_goes_on_at_its_offset_in_a_topic_made_again_without_a_word(
    cluster: KafkaCluster, name: str
) -> None:
    """Why the trainer asks for the id: infra/adr/0009."""
    make_anew(cluster, [name], {name: 1})
    fill(cluster, name, 10)
    consumer = cluster.consumer(name, reset="error")
    consumer.assign({0: 0})
    seen = read(consumer, 10)
    consumer.assign({})
    make_anew(cluster, [name], {name: 1})
    fill(cluster, name, 30)
    consumer.assign({0: 10})
    seen += read(consumer, 20)
    # Ten of the old topic, and of the new one only what follows.
    assert [record.offset for record in seen] == list(range(30))
    assert [record.value for record in seen[9:11]] == [b"9", b"10"]
    consumer.close()


def fill(cluster: KafkaCluster, topic: str, count: int) -> None:
    """Records, acknowledged, by a producer that meets the topic for the first time."""
    producer = cluster.producer()
    for number in range(count):
        producer.send(topic, b"a", b"%d" % number)
    producer.flush(10.0)
    producer.close()


@pytest.mark.parametrize("running", [True, False])
def test_outcomes_made_again_and_grown_beyond_the_state_are_refused(
    system: System, reco: Reco, running: bool
) -> None:
    system.start_all()
    system.produce(60, RATE)
    system.await_records(VISITS, 60)
    system.assert_sound(60)
    old = system.outcomes()
    system.children["server"].stop()
    if not running:
        system.children["trainer"].stop()
    make_anew(system.cluster, [OUTCOMES])
    producer = system.cluster.producer()
    for outcome in old * 3:
        producer.send(OUTCOMES, key_of(outcome.product_id), encode(outcome))
    producer.flush(10.0)
    producer.close()
    if not running:
        system.again("trainer")
    system.until(lambda: "the state belongs to" in waiting(system), "refused")
    replayed = reco("replay", "--check", "--model", system.model)
    assert replayed.code == 1
    assert "another log" in replayed.out


def test_a_trimmed_log_is_continued_with_the_state_and_refused_without(
    system: System, reco: Reco, tmp_path: Path
) -> None:
    outcomes_only(system, 150)
    snapshots = tmp_path / "snapshots"
    saved = reco("snapshot", "save", "--out", snapshots, "--model", system.model)
    assert saved.code == 0
    positions = [p.next_offset if p else 0 for p in system.store.positions(range(12))]
    trim(system.cluster, positions)
    system.again("trainer")  # with its state
    system.start("more", "serve")
    system.produce(50, RATE, name="later")
    system.await_records(VISITS, 200)
    system.settle()
    [file] = snapshots.iterdir()
    checked = reco("replay", "--check", "--model", system.model, "--snapshot", file)
    assert checked.code == 0, checked
    assert "0 differing bits" in checked.out
    assert reco("replay", "--check", "--model", system.model).code == 1
    system.children["trainer"].stop()
    # Another model has no state: nothing can be made of a log that has lost its beginning …
    system.start("stranger", "train", model="nothing-yet")
    system.until(lambda: "the log starts only at" in waiting(system, "stranger"), "refused")
    system.children["stranger"].stop()
    # … while the lost state of this one is made of the snapshot and the rest of the log.
    lose_state(system)
    system.start("heir", "train", snapshots=str(snapshots))
    system.settle()
    checked = reco("replay", "--check", "--model", system.model, "--snapshot", file)
    assert checked.code == 0, checked


def trim(cluster: KafkaCluster, starts: list[int]) -> None:
    """What retention does, at once: delete everything before these offsets."""
    wanted = [TopicPartition(OUTCOMES, p, start) for p, start in enumerate(starts) if start]
    for deleted in cluster.admin.delete_records(wanted).values():
        deleted.result()


def lose_state(system: System) -> None:
    """The store comes back without this model."""
    with redis.Redis.from_url(system.addresses.redis) as client:
        client.delete(*(f"reco:{{{system.model}:p{p}}}:state" for p in range(12)))
