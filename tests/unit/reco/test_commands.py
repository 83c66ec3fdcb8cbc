"""The command line: what people type wrong, and what the tools for looking say."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
import numpy as np
import pytest
import redis

from infra.embedded import Addresses, EmbeddedBroker, embedded
from reco.__main__ import COMMANDS, cli, run
from shared.arm_statistics import ArmStatistics
from shared.catalogue import DataSet
from shared.events import (
    DEAD_LETTERS,
    DECISIONS,
    OUTCOMES,
    PRODUCTS,
    VISITS,
    Outcome,
    encode,
    key_of,
)
from shared.kafka import KafkaCluster
from shared.linucb import precision
from shared.partitioner import partition_of
from shared.ports import dead_letter_headers
from shared.redis_store import RedisStore
from shared.settings import PARTITIONS, POLICY
from tests.scenario import NOON, record
from trainer.apply import Rules
from trainer.loop import Trainer

MODEL = "commands"


class Result(NamedTuple):
    """What a command line came to."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return msgspec.json.decode(self.out)


Reco = Callable[..., Result]


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
        store = RedisStore(addresses.redis, MODEL)
        producer = cluster.producer()
        for number in range(30):
            arm = 192 if number % 3 else 42
            producer.send(OUTCOMES, key_of(arm), encode(outcome(data, number, arm)))
        producer.send(OUTCOMES, b"192", b"{poison\x1b[31m")
        headers = dead_letter_headers(record(7, b"{poison"), "undecodable: it is poison")
        producer.send(DEAD_LETTERS, b"1", b"{poison\x1b[31m", headers=headers)
        producer.flush(10.0)
        consumer = cluster.consumer(OUTCOMES, reset="error")
        trainer = Trainer(
            consumer,
            producer,
            store,
            lambda: cluster.source(OUTCOMES),
            rules(data),
            writer="test",
            clock=lambda: 0.0,
        )
        trainer.assigned(range(12))
        while sum(trainer.positions.values()) < 31:
            trainer.run_once(0.1)
        consumer.close()
        producer.close()
        store.close()
        yield addresses


def rules(data: DataSet) -> Rules:
    return Rules.of(data.config, data.arms, 12)


def outcome(data: DataSet, number: int, arm: int) -> Outcome:
    return Outcome(
        outcome_id=f"d-{number}:1",
        decision_id=f"d-{number}",
        product_id=arm,
        rank=1,
        reward=float(number % 2),
        x=np.random.default_rng(number).random(data.encoder.d).tolist(),
        encoder_id=data.encoder.id,
        decided_at=NOON,
        resolved_at=NOON,
    )


@pytest.fixture
def here(addresses: Addresses, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses in the environment, as people have them."""
    monkeypatch.setenv("RECO_KAFKA", addresses.kafka)
    monkeypatch.setenv("RECO_REDIS", addresses.redis)
    monkeypatch.setenv("RECO_MODEL", MODEL)
    monkeypatch.setenv("RECO_DATA", str(data_folder))
    monkeypatch.setenv("RECO_PATIENCE_S", "5")


def all_commands() -> Iterator[tuple[str, click.Command]]:
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            for child, inner in command.commands.items():
                yield f"{name} {child}", inner


@pytest.mark.parametrize("name", [name for name, _ in all_commands()])
def test_every_command_has_help_with_an_example(reco: Reco, name: str) -> None:
    result = reco(*name.split(), "--help")
    assert result.code == 0
    assert "Example" in result.out


@pytest.mark.parametrize("name", ["", "topics", "inspect", "snapshot"])
def test_a_group_alone_shows_its_help(reco: Reco, name: str) -> None:
    result = reco(*name.split())
    assert (result.code, result.err) == (0, "")
    assert "Commands:" in result.out


WRONG = [
    ("nonsense", "No such command"),
    ("demo --visits 0", "--visits"),
    ("demo --visits many", "--visits"),
    ("demo --json /nowhere/at/all.json --visits 1 --data {file}", "{file}"),
    ("prepare --seed -1", "--seed"),
    ("prepare --out {file}", "choose another"),
    ("produce --rate -1", "--rate"),
    ("produce --count 0", "--count"),
    ("produce --history {missing}", "can't read"),
    ("produce --history {file}", "no column"),
    ("produce --data {empty}", "reco prepare"),
    ("serve --policy best", "linucb"),
    ("serve --alpha -1", "--alpha"),
    ("serve --k 51", "--k"),
    ("serve --data {empty}", "reco prepare"),
    ("serve --redis nonsense", "redis://"),
    ("inspect arm 1 --redis redis://user:hush", "the port is no number"),
    ("inspect arm 1 --redis rediss://:hush@h?ssl_ca_certs=/no/ca.pem", "no file /no/ca.pem"),
    ("topics list --kafka redis://user:hush@127.0.0.1:1", "HOST:PORT"),
    ("topics list --kafka {redis}", "is a Redis server, not a Kafka broker"),
    ("inspect arm 1 --redis redis://user:hush@{kafka}", "is a Kafka broker, not a Redis server"),
    ("train --redis redis://user:hush@{redis}", "the user 'user' or its password"),
    ("serve --model a:b", "colons"),
    ("serve --metrics 9464", "HOST:PORT"),
    ("train --metrics localhost:http", "HOST:PORT"),
    ("train --log-format xml", "json"),
    ("produce --redis nonsense", "redis://"),
    ("dead-letters list --max 0", "--max"),
    ("train --static 3/2", "0/2"),
    ("train --static half", "0/2"),
    ("train --data {file}", "reco prepare"),
    ("train --redis http://127.0.0.1", "redis://"),
    ("replay --snapshot {missing}", "reco snapshot save"),
    ("replay --snapshot {file}", "not a LiveReco snapshot"),
    ("snapshot load {missing}", "reco snapshot save"),
    ("snapshot load {file}", "not a LiveReco snapshot"),
    ("snapshot save --out {file}/x", "choose another"),
    ("inspect arm 999", "1 to 200"),
    ("inspect arm coffee", "coffee"),
    ("inspect partition 12", "0 to 11"),
    ("inspect partition -- -1", "x>=0"),
    ("topics watch nowhere", "visits"),
    ("topics watch visits --max 0", "--max"),
    ("simulate --policy best", "linucb"),
    ("simulate --alpha nine", "--alpha"),
    ("simulate --visits 0", "--visits"),
    ("simulate --seeds 0", "--seeds"),
    ("simulate --visits 1 --seeds 1 --json {file}/x", "can't write"),
    ("evaluate --history {missing}", "{missing}"),
]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("line", "said"), WRONG, ids=[line for line, _ in WRONG])
def test_wrong_input_is_one_sentence_and_exit_code_2(
    reco: Reco, addresses: Addresses, tmp_path: Path, line: str, said: str
) -> None:
    file, empty, missing = tmp_path / "file", tmp_path / "empty", tmp_path / "missing"
    file.write_text("a,b\n1,2\n")
    empty.mkdir()
    names = {
        "file": file,
        "empty": empty,
        "missing": missing,
        "kafka": addresses.kafka,
        "redis": addresses.redis.removeprefix("redis://").removesuffix("/0"),
    }
    result = reco(*(part.format(**names) for part in line.split()))
    assert result.code == 2
    assert said.format(**names) in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert result.err.startswith("reco")
    assert "hush" not in result.err


@pytest.mark.parametrize(
    "line",
    ["topics list", "topics create", "train", "serve", "produce", "replay", "topics watch x"],
)
def test_without_a_broker_the_address_and_the_patience_are_said(
    reco: Reco, data_folder: Path, line: str
) -> None:
    data = [] if line.startswith("topics") else ["--data", data_folder]
    result = reco(*line.split(), "--kafka", "127.0.0.1:1", "--patience-s", "0.2", *data)
    assert result.code == 1
    assert "127.0.0.1:1 (tried for 0.2 s" in result.err


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("line", ["train", "serve", "replay", "inspect arm 1", "snapshot save"])
def test_without_a_store_the_address_and_the_patience_are_said(reco: Reco, line: str) -> None:
    result = reco(*line.split(), "--redis", "redis://127.0.0.1:1", "--patience-s", "0.2")
    assert result.code == 1
    assert "127.0.0.1:1" in result.err
    assert "(tried for 0.2 s)" in result.err


@pytest.mark.usefixtures("here")
def test_a_setting_that_librdkafka_does_not_know_is_named(
    reco: Reco, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_FOO_BAR", "1")
    result = reco("topics", "list")
    assert result.code == 2
    assert "foo.bar" in result.err


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
def test_topics_are_listed(reco: Reco) -> None:
    listed = {row["topic"]: row for row in reco("topics", "list", "--json").json()}
    assert listed[OUTCOMES] == {"topic": OUTCOMES, "partitions": 12, "records": 31, "trimmed": 0}
    assert listed.keys() == {VISITS, DECISIONS, OUTCOMES, DEAD_LETTERS, PRODUCTS}
    assert OUTCOMES in reco("topics", "list").out


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
def test_partitions_are_shown_with_offset_and_lag(reco: Reco) -> None:
    rows = reco("inspect", "partitions", "--json").json()
    assert sum(row["offset"] for row in rows) == 31
    assert {row["lag"] for row in rows} == {0}
    home = partition_of(b"42", 12)
    assert reco("inspect", "partition", home, "--json").json() == rows[home]


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
    [letter] = reco("dead-letters", "list", "--reason", "it is poison", "--json").json()
    assert (letter["source"], letter["reason"]) == ("outcomes/0@7", "undecodable: it is poison")
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
            headers = dead_letter_headers(record(number, b"{}"), reason)
            producer.send(DEAD_LETTERS, b"192", b"%d" % number, headers=headers)
        producer.flush(10.0)
        producer.close()
        would = reco("dead-letters", "replay", "--dry-run").out
        assert would == "would send 3 letters back (3 to outcomes)\n"
        chosen = ("dead-letters", "replay", "--reason", "product")
        assert reco(*chosen, "--json").json()["replayed"] == 2
        assert "2 were sent back before" in reco(*chosen).out
        assert reco("dead-letters", "replay").out.startswith("sent 1 letters back")
        listed = reco("dead-letters", "list", "--json").json()
        assert [letter["replayed"] for letter in listed] == [True] * 3
        held = {row["topic"]: row["records"] for row in reco("topics", "list", "--json").json()}
        assert held[OUTCOMES] == 3


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
def test_inspect_model_says_what_the_rows_speak_for(reco: Reco) -> None:
    report = reco("inspect", "model", "--json").json()
    assert (report["outcomes"], report["clicks"], report["trained"]) == (30, 15, 2)
    assert report["estimated"] is False  # 30 outcomes are too few
    assert {name: report[name] for name in ("tau2", "omega2", "sigma2")} == report["default"]
    assert report["log_likelihood"] < 0.0
    assert 0 < len(report["strongest"]) <= 10
    sizes = [abs(weight["weight"]) for weight in report["strongest"]]
    assert sizes == sorted(sizes, reverse=True)
    shown = reco("inspect", "model").out
    assert "30 outcomes, 15 clicks; 2 of 200 arms have some" in shown
    assert "too few outcomes" in shown


@pytest.mark.parametrize("text", ["0.1,0.2", "a,b,c", "0.1,0.2,0", "-1,0.1,0.1", ""])
def test_variances_that_are_none_are_refused_in_one_sentence(reco: Reco, text: str) -> None:
    result = reco("simulate", "--policy", "shared-linucb", "--variances", text)
    assert result.code == 2
    assert "0.01,0.05,0.15" in result.err
    assert "Traceback" not in result.err


def test_simulate_runs_a_world_by_a_policy(reco: Reco, data_folder: Path) -> None:
    arguments = ["--policy", "shared-linucb", "--world", "extra", "--visits", 40, "--seeds", 1]
    report = reco("simulate", "--data", data_folder, *arguments, "--json").json()
    assert (report["policy"], report["world"]) == ("shared-linucb", "extra")
    assert [window["to"] for window in report["windows"]] == [40]
