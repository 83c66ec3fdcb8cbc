"""The command line: help, and what people type wrong."""

import io
import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from infra.embedded import Addresses
from reco.__main__ import COMMANDS, cli, main
from reco.number import Number
from shared.arm_statistics import CorruptRow
from shared.catalogue import DataError
from shared.kafka_consumer import KafkaConsumer
from shared.ports import CorruptState
from tests.unit.reco.command_line import Reco


def all_commands() -> Iterator[tuple[str, click.Command]]:
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            for child, inner in command.commands.items():
                yield f"{name} {child}", inner


def test_the_readme_lists_all_commands_in_the_order_of_the_help(reco: Reco) -> None:
    readme = Path(__file__).parents[3] / "README.md"
    listed = re.findall(r"^\| `reco ([a-z-]+)", readme.read_text(), re.MULTILINE)
    assert listed == list(COMMANDS)
    shown = reco("--help").out.partition("Commands:")[2]
    assert re.findall(r"^  ([a-z-]+)", shown, re.MULTILINE) == listed


@pytest.mark.parametrize("name", [name for name, _ in all_commands()])
def test_every_command_has_help_with_an_example(reco: Reco, name: str) -> None:
    result = reco(*name.split(), "--help")
    assert result.code == 0
    assert "Example" in result.out


def test_every_number_that_an_option_takes_has_to_be_finite() -> None:
    numbers = {
        f"{name} {option.name}": option.type
        for name, command in all_commands()
        for option in command.params
        if isinstance(option.type, click.FloatRange | click.types.FloatParamType)
    }
    assert len(numbers) > 20
    assert [where for where, kind in numbers.items() if not isinstance(kind, Number)] == []


@pytest.mark.parametrize("name", ["train", "replay"])
def test_what_trainers_and_replays_must_agree_on_is_said_in_the_help_of_both(
    reco: Reco, name: str
) -> None:
    text = " ".join(reco(name, "--help").out.split())
    assert "Trainers of a model and `reco replay --check` need the same." in text


def test_every_option_has_a_variable_that_is_called_like_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = 0
    for name, command in all_commands():
        path = f"RECO_{name.upper()}".replace(" ", "_").replace("-", "_")
        context = click.Context(command, auto_envvar_prefix=path)
        for option in command.params:
            if not isinstance(option, click.Option):
                continue
            own = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
            long = next(opt for opt in option.opts if opt.startswith("--"))
            variable = f"{path}_{long.removeprefix('--').replace('-', '_').upper()}"
            with monkeypatch.context() as patch:
                for other in own:
                    patch.delenv(other, raising=False)
                patch.setenv(variable, "what it says")
                assert option.resolve_envvar_value(context) == "what it says", variable
            seen += 1
    assert seen > 200


@pytest.mark.parametrize(
    ("line", "variable", "said"),
    [
        ("simulate", "RECO_SIMULATE_WORLD", "flat"),
        ("serve", "RECO_SERVE_VARIANCES", "0.002,0.015,0.12"),
        ("dead-letters list", "RECO_DEAD_LETTERS_LIST_MAX", "--max"),
        ("train", "RECO_TRAIN_METRICS", "'flat' is not HOST:PORT"),
        ("train", "RECO_METRICS", "'flat' is not HOST:PORT"),
    ],
)
def test_a_wrong_variable_is_refused_like_the_option(
    reco: Reco, monkeypatch: pytest.MonkeyPatch, line: str, variable: str, said: str
) -> None:
    monkeypatch.setenv(variable, "flat")
    result = reco(*line.split())
    assert result.code == 2
    assert said in result.err


def test_a_variable_that_names_a_version_ends_no_command(
    reco: Reco, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECO_VERSION", "1")  # of an image, say
    assert "Usage: reco topics" in reco("topics", "--help").out


def test_json_that_a_variable_asks_for_is_written(
    reco: Reco, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data_folder: Path
) -> None:
    monkeypatch.setenv("RECO_SIMULATE_JSON", str(tmp_path / "report.json"))
    monkeypatch.setenv("RECO_SIMULATE_ALPHA", "0.5 1")
    result = reco("simulate", "--data", data_folder, "--visits", 5, "--seeds", 1)
    assert result.code == 0
    assert '"alpha": 0.5' in (tmp_path / "report.json").read_text()


@pytest.mark.parametrize("name", ["", "topics", "inspect", "snapshot"])
def test_a_group_alone_shows_its_help(reco: Reco, name: str) -> None:
    result = reco(*name.split())
    assert (result.code, result.err) == (0, "")
    assert "Commands:" in result.out


WRONG = [
    ("nonsense", "No such command"),
    ("demo --visits 0", "--visits"),
    ("demo --visits many", "--visits"),
    ("demo --visits 1 --data {file}", "{file}"),
    ("demo --json /nowhere/at/all.json", "'--json': can't write /nowhere/at/all.json"),
    ("demo --json=", "'--json': . is a folder: name a file"),
    ("demo --plot /nowhere/at/all.png", "'--plot': can't write /nowhere/at/all.png"),
    ("demo --plot {empty}/curves.bmp", "does not end in .png, .svg, .pdf"),
    ("simulate --json {empty}", "'--json': {empty} is a folder: name a file"),
    (f"simulate --json {'a' * 300}", "File name too long"),
    (f"simulate --data {'a' * 300}", "File name too long; choose another"),
    ("status --interval-s 1e308", "'--interval-s'"),
    (f"dead-letters list --max {2**63}", "'--max'"),
    (f"topics list --kafka {'x' * 64}:1", "no Kafka address"),
    ("experiment --experiment nosuch", "no decision in the log is of an experiment 'nosuch'"),
    ("simulate --plot {empty}", "does not end in .png, .svg, .pdf"),
    ("simulate --plot {missing}/curves.png", "'--plot': can't write {missing}/curves.png"),
    ("prepare --seed -1", "--seed"),
    ("prepare --out {file}", "choose another"),
    ("produce --rate -1", "--rate"),
    ("produce --count 0", "--count"),
    ("produce --history {missing}", "can't read"),
    ("produce --history {file}", "no column"),
    ("produce --history {file} --via http://127.0.0.1:1", "leave one of them out"),
    ("produce --history {file} --count 9 --seed 1", "--count would be ignored"),
    ("produce --history {file} --rate 9 --run-id r", "--rate, --run-id would be ignored"),
    ("produce --think 2s", "--think would be ignored: add --via URL"),
    ("produce --late-share 0.1 --late-after 9s", "--late-share, --late-after would be ignored"),
    ("produce --api-key-file {file}", "--api-key-file would be ignored"),
    ("produce --via http://127.0.0.1:1 --late-after 9s", "add --late-share"),
    ("produce --run-id a/b", "'--run-id': give 1 to 48 letters"),
    ("produce --run-id=", "'--run-id': give 1 to 48 letters"),
    (f"produce --run-id {'a' * 49}", "'--run-id': give 1 to 48 letters"),
    ("produce --via http://127.0.0.1:1 --run-id ä", "'--run-id': give 1 to 48 letters"),
    ("produce --data {empty}", "reco prepare"),
    ("serve --policy best", "linucb"),
    ("serve --alpha -1", "--alpha"),
    ("serve --k 51", "--k"),
    ("serve --rank-budget-ms nan", "'nan' is no finite number"),
    ("serve --stale-limit-s inf", "'inf' is no finite number"),
    ("serve --experiment linucb/alpha=inf:50,random:50", "alpha"),
    ("serve --data {empty}", "reco prepare"),
    ("serve --redis nonsense", "redis://"),
    ("inspect arm 1 --redis redis://user:hush", "the port is no number"),
    ("inspect partitions --redis redis://:hush@[::1", "host can't be read"),
    ("serve --redis rediss://:hush@h?ssl_cert_reqs=maybe", "can't have that value"),
    ("train --redis redis://:hush@h?retry=x", "docs/connecting.md"),
    ("status --redis unix://:hush@", "the socket's path"),
    ("produce --redis redis://:hush@a..b", "host can't be read"),
    ("inspect arm 1 --redis rediss://:hush@h?ssl_ca_certs=/no/ca.pem", "no file /no/ca.pem"),
    ("topics list --kafka redis://user:hush@127.0.0.1:1", "HOST:PORT"),
    ("topics list --kafka {redis}", "is a Redis server, not a Kafka broker"),
    ("inspect arm 1 --redis redis://user:hush@{kafka}", "is a Kafka broker, not a Redis server"),
    ("train --redis redis://user:hush@{redis}", "the user 'user' or its password"),
    ("serve --model a:b", "give 1 to 100 letters"),
    ("serve --model a/b", "give 1 to 100 letters"),
    ("status --model a*", "give 1 to 100 letters"),
    ("train --model=", "give 1 to 100 letters"),
    (f"train --model {'a' * 101}", "give 1 to 100 letters"),
    ("serve --metrics 9464", "HOST:PORT"),
    ("train --metrics localhost:http", "HOST:PORT"),
    ("produce --metrics http://127.0.0.1:9464", "'http://127.0.0.1:9464' is not HOST:PORT"),
    ("serve --http http://127.0.0.1:8000", "'http://127.0.0.1:8000' is not HOST:PORT"),
    ("serve --http=", "'' is not HOST:PORT"),
    ("train --log-format xml", "json"),
    ("produce --redis nonsense", "redis://"),
    ("produce --via localhost:8000", "http://127.0.0.1:8000"),
    ("produce --via=", "'' is no address"),
    ("produce --via http://", "'http://' is no address"),
    ("produce --via ftp://127.0.0.1:8000", "'ftp://127.0.0.1:8000' is no address"),
    ("produce --via http://127.0.0.1:99999", "'http://127.0.0.1:99999' is no address"),
    ("produce --via http://127.0.0.1:0", "is no address"),
    ("produce --via http://127.0.0.1:", "is no address"),
    ("produce --via http://127.0.0.1:http", "is no address"),
    ("produce --via http://[::1", "is no address"),
    ("produce --via http://a..b:8000", "is no address"),
    ("produce --via http://xn--:8000", "is no address"),
    ("produce --via http://a\u200bb:8000", r"'http://a\u200bb:8000' is no address"),
    ("produce --via http://127.0.0.1:8000?key=hush", "'http://127.0.0.1:8000?…' is no address"),
    ("produce --via http://127.0.0.1:8000/#hush", "'http://127.0.0.1:8000/#…' is no address"),
    ("produce --via http://127.0.0.1:8000,,http://127.0.0.1:8001", "'' is no address"),
    ("produce --via http://user:hush@127.0.0.1:8000", "--api-key-file"),
    ("produce --via http://user:hush,hush@127.0.0.1:8000", "--api-key-file"),
    ("produce --via http://127.0.0.1:1 --api-key-file {nothing}", "write the key into it"),
    ("produce --via http://127.0.0.1:1 --api-key-file {missing}", "{missing}"),
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
    ("evaluate --gamma 0.9 --variances data", "--variances, --gamma would be ignored: add --log"),
    ("status --data {empty} --seed 1", "--data, --seed would be ignored: add --experiment"),
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
    nothing = tmp_path / "nothing"
    nothing.touch()
    names = {
        "nothing": nothing,
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


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("line", "consumers"),
    [
        ("serve --no-stream --http 127.0.0.1:0", 1),
        ("serve", 1),
        ("train", 1),
        ("produce --count 1", 0),
        ("produce --count 1 --via http://127.0.0.1:1", 0),
    ],
)
def test_a_port_for_metrics_that_is_taken_is_one_sentence_and_leaves_nothing_behind(
    reco: Reco, monkeypatch: pytest.MonkeyPatch, line: str, consumers: int
) -> None:
    closed: list[KafkaConsumer] = []
    really = KafkaConsumer.close

    def close(consumer: KafkaConsumer) -> None:
        closed.append(consumer)
        really(consumer)

    monkeypatch.setattr(KafkaConsumer, "close", close)
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = reco(*line.split(), "--metrics", address)
    assert result.code == 2
    assert result.err.splitlines()[-1] == (
        f"reco {line.split()[0]}: can't listen on {address}: Address already in use; give "
        "--metrics another address"
    )
    assert set(threading.enumerate()) <= before
    assert len(closed) >= consumers


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
    assert "No such configuration property: KAFKA_FOO_BAR" in result.err


def test_a_locale_without_the_signs_that_are_printed_ends_no_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    monkeypatch.setattr(sys, "argv", ["reco", "simulate", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    sys.stdout.flush()
    assert (ended.value.code, b"Exploration \\u03b1" in written.getvalue()) == (0, True)


@pytest.mark.parametrize(("error", "code"), [(CorruptState, 1), (CorruptRow, 1), (DataError, 2)])
def test_a_state_or_a_folder_that_is_none_is_said_in_a_sentence(
    reco: Reco, monkeypatch: pytest.MonkeyPatch, error: type[Exception], code: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("this can't be read")

    monkeypatch.setattr(cli, "main", fail)
    result = reco("status")
    assert (result.code, result.err.strip()) == (code, "reco: this can't be read")
