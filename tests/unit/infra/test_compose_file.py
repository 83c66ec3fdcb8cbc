"""What docker-compose.yml says by itself; `tests/integration/test_compose.py` runs it."""

import itertools
import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import tests.images
from reco.__main__ import cli
from tests.dashboard import alerts

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ["trainer", "server", "producer"]


EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")


def environment(service: str) -> dict[str, str]:
    """What a service is told where nobody has set anything."""
    told = SERVICES[service]["environment"].items()
    return {name: re.sub(r"\$\{\w+(?::-(.*)|:\+.*)\}", r"\1", value or "") for name, value in told}


def command_of(service: str) -> click.Command:
    command = cli.get_command(click.Context(cli), SERVICES[service]["command"][0])
    assert command is not None
    return command


def parsed(service: str, monkeypatch: pytest.MonkeyPatch, **variables: str) -> dict[str, Any]:
    """The options of its command with these variables."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    name, *arguments = SERVICES[service]["command"]
    root = click.Context(cli, info_name="reco", auto_envvar_prefix="RECO")
    return command_of(service).make_context(name, arguments, root).params


def test_who_has_done_all_of_its_work_is_not_started_again() -> None:
    ends = {"users", "topics", "reco"}
    restarts = {name: service["restart"] for name, service in SERVICES.items()}
    assert {name for name, restart in restarts.items() if restart == "no"} == ends
    assert restarts["producer"] == "on-failure"  # it ends by itself where it has a count
    others = restarts.keys() - ends - {"producer"}
    assert {restarts[name] for name in others} == {"unless-stopped"}


@pytest.mark.parametrize("service", OURS)
def test_a_variable_that_is_empty_is_as_none(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in environment(service):
        monkeypatch.delenv(name, raising=False)
    without = parsed(service, monkeypatch)
    empty = {name: "" for name, value in environment(service).items() if not value}
    assert parsed(service, monkeypatch, **empty) == without


@pytest.mark.parametrize("service", OURS)
def test_what_a_service_is_told_is_an_option_of_its_command(service: str) -> None:
    prefix, known = f"RECO_{SERVICES[service]['command'][0]}", set[str]()
    for param in command_of(service).params:
        named = param.envvar or ()
        known |= {named} if isinstance(named, str) else {*named}
        known.add(f"{prefix}_{param.name}".upper())
    assert environment(service).keys() <= known


def test_what_may_be_set_stands_in_the_example_and_nothing_else() -> None:
    used = set(re.findall(r"\$\{(\w+)", TEXT))
    used |= {
        name
        for service in SERVICES.values()
        for name, value in service.get("environment", {}).items()
        if value is None
    }
    assert set(re.findall(r"^#(\w+)=", EXAMPLE, re.MULTILINE)) == used


def test_a_value_in_the_example_is_what_holds_without_it_unless_it_says_for_example(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = {
        line[1:].partition("=")[0]: line.partition("=")[2]
        for above, line in itertools.pairwise(EXAMPLE.splitlines())
        if re.match(r"#\w+=.", line) and not above.endswith("for example")
    }
    by_compose = dict(re.findall(r"\$\{(\w+):-(.+?)\}", TEXT))
    assert {**shown, **by_compose} == {**by_compose, **shown}
    for service in OURS:
        own = {name: shown[name] for name in environment(service).keys() & shown.keys()}
        for name in own:
            monkeypatch.delenv(name, raising=False)
        own = {name: value for name, value in own.items() if name not in by_compose}
        without = parsed(service, monkeypatch)
        assert parsed(service, monkeypatch, **own) == without


def test_each_service_has_as_many_replicas_as_its_variable_says() -> None:
    replicas = {name: SERVICES[name]["deploy"]["replicas"] for name in OURS}
    assert replicas == {name: f"${{RECO_{name.upper()}S:-1}}" for name in OURS}


def test_who_works_on_a_model_is_told_the_same_of_it() -> None:
    told = {name: SERVICES[name]["environment"] for name in ("trainer", "server", "reco")}
    for variable in ("RECO_MODEL", "RECO_DATA", "RECO_GAMMA"):
        assert len({environment[variable] for environment in told.values()}) == 1
    assert told["trainer"]["RECO_TRAIN_DEDUPE_WINDOW"] is None
    assert told["reco"]["RECO_REPLAY_DEDUPE_WINDOW"] == "${RECO_TRAIN_DEDUPE_WINDOW:-}"


def test_a_replica_counts_as_unhealthy_when_the_alert_fires_and_not_before() -> None:
    [waits] = [rule["for"] for rule in alerts() if rule["alert"] == "NotReady"]
    for check in (SERVICES[name]["healthcheck"] for name in OURS):
        assert waits == f"{check['retries'] * int(check['interval'].removesuffix('s')) // 60}m"


def test_data_are_a_folder_of_this_machine_if_one_is_named_and_else_those_of_the_image() -> None:
    own = {
        "type": "bind",
        "source": "${RECO_DATA:-/dev/null}",
        "target": "/own/data",
        "read_only": True,
    }
    for name in (*OURS, "reco"):
        assert own in SERVICES[name]["volumes"]
        assert SERVICES[name]["environment"]["RECO_DATA"] == "/${RECO_DATA:+own/}data"
    assert SERVICES["reco"]["environment"]["HOST_DATA"] == "${RECO_DATA:-}"


def test_what_a_server_may_be_told_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "RECO_SERVE_STREAM": "false",
        "RECO_CORS_ORIGIN": "https://shop.example http://127.0.0.1:3000",
        "RECO_SERVE_EXPERIMENT": "linucb:50,lints:50",
        "RECO_SERVE_EXPERIMENT_NAME": "second",
        "RECO_SERVE_EPSILON": "0.05",
        "RECO_SERVE_PROPENSITIES": "1",
    }
    assert told.keys() <= environment("server").keys()
    found = parsed("server", monkeypatch, **told)
    assert not found["stream"]
    assert found["cors_origins"] == ("https://shop.example", "http://127.0.0.1:3000")
    assert (found["experiment"], found["experiment_name"]) == ("linucb:50,lints:50", "second")
    assert (found["epsilon"], found["propensities"]) == (0.05, True)


def test_keys_are_a_file_of_this_machine_and_none_unless_it_is_named() -> None:
    assert COMPOSE["secrets"] == {"api-keys": {"file": "${RECO_API_KEYS:-./infra/no-api-keys}"}}
    assert (ROOT / "infra" / "no-api-keys").read_text().startswith("#")
    holders = {name for name, service in SERVICES.items() if "secrets" in service}
    assert holders == {"server"}
    inside = SERVICES["server"]["environment"]["RECO_API_KEYS"]
    assert inside == "${RECO_API_KEYS:+/run/secrets/api-keys}"


def test_tests_start_the_images_that_people_do() -> None:
    here = Path(tests.images.__file__).read_text()
    for service, name in (("redpanda", "REDPANDA_IMAGE"), ("redis", "REDIS_IMAGE")):
        default = SERVICES[service]["image"].removeprefix(f"${{{name}:-").removesuffix("}")
        assert f'"{name}", "{default}"' in here
