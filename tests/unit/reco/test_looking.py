"""The commands that show what broker and store hold."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import redis
from msgspec import structs

from infra.embedded import Addresses, EmbeddedBroker, embedded
from reco.commands.topics import json_line
from reco.commands.topics import line as as_line
from server.scorer import Policy
from shared.arm_statistics import ArmStatistics
from shared.catalogue import DataSet, load_data
from shared.dead_letter import dead_letter
from shared.events import (
    DEAD_LETTERS,
    DECISIONS,
    OUTCOMES,
    PRODUCTS,
    VISITS,
    encode,
)
from shared.kafka import KafkaCluster
from shared.kafka_admin import Committed, KafkaAdmin
from shared.linucb import precision
from shared.partitioner import partition_of
from shared.ports import Position, Record, Source
from shared.redis_store import RedisStore
from shared.settings import PARTITIONS, POLICY
from tests.contract.store_suite import position
from tests.own_shop import write_folder
from tests.scenario import record
from tests.unit.reco.command_line import MODEL, Reco, Result, outcome
from tests.unit.reco.logged import Logged


@pytest.mark.usefixtures("here")
def test_topics_that_are_there_are_left_alone(reco: Reco) -> None:
    result = reco("topics", "create")
    assert result.code == 0
    assert result.out.count("is there with") == 5


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "line", ["topics create", "train", "serve", "replay", "inspect partitions"]
)
def test_a_topic_with_another_partition_count_is_refused(reco: Reco, line: str) -> None:
    broker = EmbeddedBroker({**PARTITIONS, OUTCOMES: 4})
    try:
        result = reco(*line.split(), "--kafka", broker.address)
    finally:
        broker.close()
    assert result.code == 1
    assert f"the topic {OUTCOMES}" in result.err
    assert "4 partitions instead of 12" in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("line", ["experiment", "evaluate --log decisions"])
def test_a_topic_that_is_not_there_is_named_with_what_makes_it(reco: Reco, line: str) -> None:
    broker = EmbeddedBroker({OUTCOMES: 12})
    try:
        result = reco(*line.split(), "--kafka", broker.address)
    finally:
        broker.close()
    assert result.code == 1
    assert "has no topic 'decisions': make it with `reco topics create`" in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.usefixtures("here")
def test_topics_are_listed(reco: Reco) -> None:
    listed = {row["topic"]: row for row in reco("topics", "list", "--json").json()}
    assert listed[OUTCOMES] == {"topic": OUTCOMES, "partitions": 12, "records": 31, "trimmed": 0}
    assert listed.keys() == {VISITS, DECISIONS, OUTCOMES, DEAD_LETTERS, PRODUCTS}
    shown = reco("topics", "list").out
    assert OUTCOMES in shown
    # What is counted on the screen is called as on that of `reco status`.
    assert "offsets" in shown
    assert "records" not in shown


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("topic", "count"), [(OUTCOMES, 31), (DEAD_LETTERS, 1)])
def test_watching_prints_one_clean_line_a_record_poison_included(
    reco: Reco, topic: str, count: int
) -> None:
    result = reco("topics", "watch", topic, "--from-beginning", "--max", count)
    assert (result.code, len(result.out.splitlines())) == (0, count)
    assert "\x1b" not in result.out
    assert "poison" in result.out


@pytest.mark.usefixtures("here")
def test_watching_as_json_prints_one_object_a_line(reco: Reco) -> None:
    result = reco("topics", "watch", OUTCOMES, "--from-beginning", "--max", 31, "--json")
    rows = [msgspec.json.decode(line) for line in result.out.splitlines()]
    assert {row["topic"] for row in rows} == {OUTCOMES}
    assert sum(isinstance(row["value"], dict) for row in rows) == 30


@pytest.mark.parametrize("depth", [*range(900, 1_000, 7), 100_000])
def test_a_record_however_deep_is_one_line(depth: int) -> None:
    deep = record(0, b"[" * depth + b"]" * depth)
    assert "\n" not in as_line(deep)
    shown = msgspec.json.decode(json_line(deep), type=dict[str, msgspec.Raw])
    assert bytes(shown["value"]).strip(b'"').startswith(b"[[[")


@pytest.mark.usefixtures("here")
def test_watching_ends_after_a_silence_where_asked_to(reco: Reco) -> None:
    assert reco("topics", "watch", VISITS, "--timeout-s", "0.1") == Result(0, "", "")


@pytest.mark.usefixtures("here")
def test_an_arm_is_shown_as_its_row_says(reco: Reco, data: DataSet) -> None:
    shown = reco("inspect", "arm", 42, "--json").json()
    mine = [outcome(data, number, 42) for number in range(0, 30, 3)]
    statistics = ArmStatistics(data.encoder.d)
    X = np.array([each.x for each in mine])
    rewards = np.array([each.reward for each in mine])
    statistics.add(np.full(len(mine), 42), X, rewards, np.arange(len(mine)))
    A = np.eye(data.encoder.d) + X.T @ X
    assert (shown["name"], shown["n"], shown["clicks"]) == ("The Aussie Pizza", 10, 5)
    assert shown["rate"] == 0.5
    np.testing.assert_allclose(list(shown["theta"].values()), np.linalg.solve(A, X.T @ rewards))
    np.testing.assert_allclose(precision(statistics.xx, data.encoder.d, 1.0)[0], A)
    assert shown["condition_number"] == pytest.approx(np.linalg.cond(A))
    assert "is_morning" in reco("inspect", "arm", 42).out


@pytest.mark.usefixtures("here")
def test_an_arm_that_was_never_shown_is_shown_as_such(reco: Reco) -> None:
    result = reco("inspect", "arm", 7)
    assert result.code == 0
    assert "examined 0 times" in result.out


@pytest.mark.usefixtures("here")
def test_an_arm_is_shown_by_the_features_of_its_own_encoder(reco: Reco, tmp_path: Path) -> None:
    own = write_folder(tmp_path / "own")
    shown = reco("inspect", "arm", 103, "--data", own, "--json").json()
    assert list(shown["theta"]) == [*load_data(own).encoder.features]
    assert "traffic_source_Newsletter" in shown["theta"]


@pytest.fixture
def added(here: None, reco: Reco, tmp_path: Path) -> Iterator[int]:
    """A product that no data folder has."""
    (tmp_path / "new.csv").write_text(
        "product_id,name,category,price,is_coffee\n777777,Cold Brew,Drinks,6.5,1\n"
    )
    if reco("products", "add", tmp_path / "new.csv").code:
        raise AssertionError("not added")
    yield 777777
    reco("products", "retire", 777777)


def test_a_product_that_was_added_is_shown_with_its_rows(
    added: int, reco: Reco, data: DataSet, addresses: Addresses
) -> None:
    shown = reco("inspect", "arm", added, "--json").json()
    assert (shown["product_id"], shown["name"], shown["n"]) == (added, "Cold Brew", 0)
    statistics = ArmStatistics(data.encoder.d)
    statistics.add(np.full(4, added), np.ones((4, data.encoder.d)), np.ones(4), np.arange(4))
    home = partition_of(b"%d" % added, 12)
    name = "with-added"
    store = RedisStore(addresses.redis, name)
    source = Source("cluster", OUTCOMES, 12)
    position = Position(4, source, 1, "test", data.config)
    assert store.write(home, None, position, statistics.pack([added])) is None
    store.close()
    try:
        assert reco("inspect", "arm", added, "--model", name, "--json").json()["n"] == 4
        report = reco("inspect", "model", "--model", name, "--json").json()
        assert (report["outcomes"], report["arms"], report["trained"]) == (4, 201, 1)
    finally:
        forget(addresses, name, home)


def test_a_decision_is_shown_with_what_came_of_it_and_computed_again(
    reco: Reco, data: DataSet, monkeypatch: pytest.MonkeyPatch, data_folder: Path
) -> None:
    logged = Logged(data, Policy("linucb", 0.2, epsilon=0.3), visits=60)
    last = logged.decisions[-1]
    other = structs.replace(last, decision_id="d-other", encoder_id="\x1b[31mother")
    changed = structs.replace(last, decision_id="d-changed", slate=last.slate[::-1])
    with embedded() as own:
        monkeypatch.setenv("RECO_KAFKA", own.kafka)
        monkeypatch.setenv("RECO_DATA", str(data_folder))
        producer = KafkaCluster(own.kafka, patience_s=10.0).producer()
        for log in logged.records.values():
            for each in log:
                producer.send(OUTCOMES, each.key or b"", each.value or b"")
        for decision in (*logged.decisions, other, changed):
            producer.send(DECISIONS, decision.visit_id.encode(), encode(decision))
        producer.flush(10.0)
        producer.close()
        shown = reco("inspect", "decision", last.decision_id)
        report = reco("inspect", "decision", last.decision_id, "--json").json()
        strange, wrong, unknown = (
            reco("inspect", "decision", name) for name in ("d-other", "d-changed", "d-unknown")
        )
    assert (shown.code, shown.err) == (0, "")
    assert "✓ Computed again from the logs, the slate is the same." in shown.out
    assert report["recomputed"]["slate"] == [item.product_id for item in last.slate]
    rewards = {o.rank: o.reward for o in logged.outcomes if o.decision_id == last.decision_id}
    assert [item["reward"] for item in report["slate"]] == [rewards.get(r) for r in range(1, 6)]
    assert (strange.code, "use the folder it was made with" in strange.out) == (0, True)
    assert "\x1b" not in strange.out
    assert "✗ Computed again from the logs" in wrong.out
    assert "Nothing of it is in the topic outcomes" in wrong.out
    assert (unknown.code, len(unknown.err.splitlines())) == (2, 1)
    assert "holds no decision 'd-unknown'" in unknown.err


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("line", ["arm 192", "model"])
def test_to_look_at_what_the_data_folder_knows_no_broker_is_needed(reco: Reco, line: str) -> None:
    assert reco("inspect", *line.split(), "--kafka", "127.0.0.1:1").code == 0


@pytest.mark.usefixtures("here")
def test_partitions_are_shown_with_offset_and_lag(reco: Reco) -> None:
    rows = reco("inspect", "partitions", "--json").json()
    assert sum(row["offset"] for row in rows) == 31
    assert {row["lag"] for row in rows} == {0}
    home = partition_of(b"42", 12)
    assert reco("inspect", "partition", home, "--json").json() == rows[home]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("what", ["arm 42", "partitions", "partition 3", "model"])
def test_a_model_of_which_nothing_is_stored_is_no_success(
    reco: Reco, addresses: Addresses, what: str
) -> None:
    line = ("inspect", *what.split(), "--model", "nosuch")
    said = (
        f"reco: the store at {addresses.redis.removeprefix('redis://').removesuffix('/0')} holds "
        f"no state of a model 'nosuch', but of {MODEL}: check --model; a new model has one from "
        "its first outcomes on\n"
    )
    result, shown = reco(*line), reco(*line, "--json")
    assert (result.code, result.err) == (1, said)
    assert (shown.code, shown.err) == (1, said)
    assert shown.json()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("what", ["partition 4", "arm 42"])
def test_a_partition_without_outcomes_of_a_model_that_has_some_is_shown(
    reco: Reco, addresses: Addresses, what: str
) -> None:
    store = RedisStore(addresses.redis, "young")
    assert partition_of(b"42", 12) != 3
    store.write(3, None, position(0), {})
    try:
        assert reco("inspect", *what.split(), "--model", "young").code == 0
        assert store.models() == [MODEL, "young"]
    finally:
        forget(addresses, "young", 3)
        store.close()


def forget(addresses: Addresses, model: str, partition: int) -> None:
    """Leave no state of a test's own model, which would be named to others."""
    with redis.Redis.from_url(addresses.redis) as client:
        assert client.delete(f"reco:{{{model}:p{partition}}}:state") == 1


@pytest.mark.usefixtures("here")
def test_the_replay_agrees_and_says_what_it_counted(reco: Reco, tmp_path: Path) -> None:
    report = reco("replay", "--check", "--json").json()
    assert report["outcomes"] == 31
    assert (report["arms"], report["applied"], report["duplicates"]) == (2, 30, 0)
    assert (report["dead_letters"], report["differing_bits"]) == (1, 0)
    file = tmp_path / "report.json"
    result = reco("replay", "--check", "--json", file)
    assert result.code == 0
    assert "0 differing bits over 31 outcomes" in result.out
    assert msgspec.json.decode(file.read_bytes()) == report


@pytest.mark.usefixtures("here")
def test_one_bit_that_differs_is_found(reco: Reco, addresses: Addresses) -> None:
    key, field = f"reco:{{{MODEL}:p{partition_of(b'42', 12)}}}:state", "a:42"
    with redis.Redis.from_url(addresses.redis) as client:
        row = client.hget(key, field)
        assert isinstance(row, bytes)
        client.hset(key, field, row[:-1] + bytes([row[-1] ^ 1]))
        try:
            result = reco("replay", "--check", "--json")
        finally:
            client.hset(key, field, row)
    assert result.code == 1
    assert result.json()["differing_bits"] == 1
    assert any("checksum" in violation for violation in result.json()["violations"])


@pytest.mark.usefixtures("here")
def test_a_lost_state_is_a_violation(reco: Reco) -> None:
    result = reco("replay", "--check", "--model", "another")
    assert result.code == 1
    assert "no state in the store" in result.out


@pytest.mark.usefixtures("here")
def test_a_snapshot_brings_a_lost_state_back(
    reco: Reco, addresses: Addresses, tmp_path: Path
) -> None:
    assert reco("snapshot", "save", "--out", tmp_path).code == 0
    [file] = tmp_path.glob("*.snapshot")
    with redis.Redis.from_url(addresses.redis) as client:
        for partition in range(12):
            client.delete(f"reco:{{{MODEL}:p{partition}}}:state")
    assert reco("replay", "--check").code == 1
    assert "2 arms of 12 partitions" in reco("snapshot", "load", file).out
    assert reco("replay", "--check").code == 0


@pytest.mark.usefixtures("here")
def test_an_older_snapshot_is_loaded_only_by_force(
    reco: Reco, addresses: Addresses, tmp_path: Path
) -> None:
    empty, full = tmp_path / "empty.snapshot", tmp_path / "full.snapshot"
    assert reco("snapshot", "save", "--out", full).code == 0
    assert reco("replay", "--out", empty).code == 0
    store = RedisStore(addresses.redis, MODEL)
    [position] = store.positions([partition_of(b"42", 12)])
    assert position is not None
    with redis.Redis.from_url(addresses.redis) as client:
        key = f"reco:{{{MODEL}:p{partition_of(b'42', 12)}}}:state"
        client.hset(key, "_next", str(position.next_offset + 1))
    refused = reco("snapshot", "load", full)
    assert refused.code == 2
    assert "--force" in refused.err
    assert reco("snapshot", "load", full, "--force").code == 0
    assert reco("replay", "--check").code == 0
    store.close()


@pytest.mark.usefixtures("here")
def test_simulating_says_what_each_window_captured(reco: Reco, tmp_path: Path) -> None:
    result = reco("simulate", "--policy", "linucb", "--alpha", 0.3, "--visits", 250, "--seeds", 1)
    assert result.code == 0
    assert "200-250" in result.out
    file = tmp_path / "s.json"
    options = ["--visits", 250, "--seeds", 1, "--json", file, "--plot", tmp_path / "s.png"]
    assert reco("simulate", "--warm", *options).code == 0
    report = msgspec.json.decode(file.read_bytes())
    assert (report["policy"], report["seeds"]) == (POLICY, 1)
    assert [(w["from"], w["to"]) for w in report["windows"]] == [(0, 200), (200, 250)]
    for window in report["windows"]:
        spread = window["click_rate_best"] - window["click_rate_random"]
        captured = (window["click_rate"] - window["click_rate_random"]) / spread
        assert window["uplift_share"] == pytest.approx(captured)
        assert window["uplift_share"] > 0.8
    assert (tmp_path / "s.png").stat().st_size > 10_000


@pytest.mark.usefixtures("here")
def test_dead_letters_are_listed_cleanly_with_their_reason(reco: Reco) -> None:
    result = reco("dead-letters", "list")
    assert result.code == 0
    assert "\x1b" not in result.out
    [letter] = reco("dead-letters", "list", "--reason", "it is", "--json").json()
    assert letter["source"] == "outcomes/0@7"
    assert letter["reason"] == "undecodable: it is\x1b[31m poison"
    assert letter["value"] == "{poison\\x1b[31m"
    assert reco("dead-letters", "list", "--reason", "encoder").out == "no dead letters\n"


def test_dead_letters_are_sent_back_once_and_remembered_by_the_broker(
    reco: Reco, monkeypatch: pytest.MonkeyPatch
) -> None:
    with embedded() as own:
        monkeypatch.setenv("RECO_KAFKA", own.kafka)
        cluster = KafkaCluster(own.kafka, patience_s=10.0)
        producer = cluster.producer()
        for number, reason in enumerate(["unknown product 7", "wrong encoder", "unknown product"]):
            producer.send_all([dead_letter(record(number, b"%d" % number), reason)])
        producer.flush(10.0)
        producer.close()
        would = reco("dead-letters", "replay", "--dry-run").out
        assert would == "would send 3 letters back (3 to outcomes)\n"
        chosen = ("dead-letters", "replay", "--reason", "product")
        assert reco(*chosen, "--json").json()["replayed"] == 2
        assert "2 were sent back before" in reco(*chosen).out
        assert reco("dead-letters", "replay").out.startswith("sent 1 letter back")
        listed = reco("dead-letters", "list", "--json").json()
        assert [letter["replayed"] for letter in listed] == [True] * 3
        held = {row["topic"]: row["records"] for row in reco("topics", "list", "--json").json()}
        assert held[OUTCOMES] == 3


def test_a_letter_of_a_topic_that_is_gone_and_one_that_does_not_say_are_told_apart(
    reco: Reco,
) -> None:
    with embedded() as own:
        cluster = KafkaCluster(own.kafka, patience_s=10.0)
        producer = cluster.producer()
        producer.send(DEAD_LETTERS, None, b"?")
        producer.send_all([dead_letter(Record("gone", 0, 1, None, b"a"), "its topic was deleted")])
        producer.flush(10.0)
        producer.close()
        said = reco("dead-letters", "replay", "--kafka", own.kafka).out
        assert said == (
            "sent 0 letters back; 1 do not say from which topic they came; 1 came from a topic "
            "that nothing can be sent back to: it is not there, or is that of the dead letters\n"
        )
        noted = {0: Committed(0, "somebody's own")}
        KafkaAdmin(cluster).commit("reco-dead-letters-linucb", DEAD_LETTERS, noted)
        refused = reco("dead-letters", "list", "--kafka", own.kafka)
        assert (refused.code, refused.out) == (1, "")
        assert "delete that group" in refused.err


@pytest.mark.usefixtures("here")
def test_the_status_is_one_screen_and_says_what_is_missing(reco: Reco) -> None:
    result = reco("status", "--interval-s", "0.1")
    assert result.code == 1
    assert "NOT HEALTHY" in result.out
    assert "no server says that it is there" in result.out
    shown = reco("status", "--interval-s", "0.1", "--json").json()
    assert shown["healthy"] is False
    outcomes = [row for row in shown["partitions"] if row["topic"] == OUTCOMES]
    assert sum(row["offset"] for row in outcomes) == 31
    assert {row["owner"] for row in outcomes} == {"unknown"}
    assert shown["dead_letters"]["records"] == 2


@pytest.mark.usefixtures("here")
def test_the_status_reads_no_data_folder_and_no_log_unless_the_experiment_is_asked_for(
    reco: Reco, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RECO_DATA", str(tmp_path))  # some other software's
    plain = reco("status", "--interval-s", "0.1")
    assert (plain.code, plain.err) == (1, "")
    asked = reco("status", "--interval-s", "0.1", "--experiment")
    assert "NOT HEALTHY" in asked.out
    without, none = asked.err.splitlines()
    assert without.startswith(f"the experiment is shown without uplift: can't read {tmp_path}/")
    assert none == "no server says that it runs an experiment"


@pytest.mark.usefixtures("here")
def test_inspect_model_says_what_the_rows_speak_for(reco: Reco) -> None:
    report = reco("inspect", "model", "--json").json()
    assert (report["outcomes"], report["clicks"], report["trained"]) == (30, 15, 2)
    assert report["remembered"] == 30.0
    assert report["estimated"] is False  # 30 outcomes are too few
    names = ("tau2", "omega2", "sigma2", "rho", "nu")
    assert {name: report[name] for name in names} == report["default"]
    assert report["log_likelihood"] < 0.0
    assert 0 < len(report["strongest"]) <= 10
    sizes = [abs(weight["weight"]) for weight in report["strongest"]]
    assert sizes == sorted(sizes, reverse=True)
    shown = reco("inspect", "model").out
    assert "30 outcomes, 15 clicks; 2 of 200 arms have some" in shown
    assert "too few outcomes" in shown


@pytest.mark.parametrize(
    "text",
    [
        *("0.1,0.2", "a,b,c", "0.1,0.2,0", "-1,0.1,0.1", "0.1,0.1,0.1,-1", "1,1,1,1,0"),
        *("1,1,1,1,1,1", "", "0.002,0.015,1e-16", "1,1,1,1e300"),
    ],
)
def test_variances_that_are_none_are_refused_in_one_sentence(reco: Reco, text: str) -> None:
    result = reco("simulate", "--policy", "shared-linucb", "--variances", text)
    assert result.code == 2
    assert "0.002,0.015,0.12" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("text", ["", "0,50", "50,50", "100,50", "-1", "50,", "a", "9" * 5_000])
def test_windows_that_do_not_ascend_are_refused_in_one_sentence(reco: Reco, text: str) -> None:
    result = reco("simulate", "--windows", text)
    assert result.code == 2
    assert "give visit numbers that ascend, as in 50,100,200" in result.err


def test_simulate_looks_at_the_windows_that_are_asked_for(reco: Reco, data_folder: Path) -> None:
    asked = ["--policy", "random", "--visits", 40, "--seeds", 1, "--windows", "5,20,60"]
    report = reco("simulate", "--data", data_folder, *asked, "--json").json()
    ends = [(window["from"], window["to"]) for window in report["windows"]]
    assert ends == [(0, 5), (5, 20), (20, 40)]


def test_simulate_runs_a_world_by_a_policy(reco: Reco, data_folder: Path) -> None:
    arguments = ["--policy", "shared-linucb", "--world", "extra", "--visits", 40, "--seeds", 1]
    report = reco("simulate", "--data", data_folder, *arguments, "--json").json()
    assert (report["policy"], report["world"]) == ("shared-linucb", "extra")
    assert [window["to"] for window in report["windows"]] == [40]
