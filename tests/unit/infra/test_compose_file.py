"""What docker-compose.yml says by itself; `tests/integration/test_compose.py` runs it."""

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import tests.images
from reco.__main__ import cli

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ["trainer", "server", "producer"]


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
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert set(re.findall(r"^#(\w+)=", example, re.MULTILINE)) == used


def test_what_a_server_may_be_told_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "RECO_CORS_ORIGIN": "https://shop.example http://127.0.0.1:3000",
        "RECO_SERVE_EXPERIMENT": "linucb:50,lints:50",
        "RECO_SERVE_EXPERIMENT_NAME": "second",
        "RECO_SERVE_EPSILON": "0.05",
        "RECO_SERVE_PROPENSITIES": "1",
    }
    assert told.keys() <= environment("server").keys()
    found = parsed("server", monkeypatch, **told)
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
