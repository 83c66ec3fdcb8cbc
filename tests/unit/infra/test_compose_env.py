"""What `eval "$(infra/compose-env)"` comes to, beside a `docker` of the test's own."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ADDRESSES = {
    "RECO_KAFKA": "127.0.0.1:19092",
    "RECO_REDIS": "redis://admin:s%20ecret@127.0.0.1:16379/0",
    "RECO_MODEL": "linucb-2",
}


def evaluated(folder: Path, docker: str, **before: str) -> "subprocess.CompletedProcess[str]":
    """Run it where `docker` is this script, and print which RECO_ variables there are then."""
    command = folder / "docker"
    command.write_text(f"#!/bin/sh\n{docker}\n")
    command.chmod(0o755)
    own = {name: value for name, value in os.environ.items() if not name.startswith("RECO_")}
    shown = (
        "import json, os; "
        "print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('RECO_')}))"
    )
    python = shlex.join([sys.executable, "-c", shown])
    return subprocess.run(
        ["sh", "-c", f'eval "$(infra/compose-env)" && {python}'],
        cwd=ROOT,
        env={**own, "HOME": "/home/me", **before, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )


def exported(folder: Path, before: dict[str, str] | None = None, **inside: str) -> dict[str, str]:
    """What it sets where the container of `reco` has these variables."""
    secret = folder / "password"
    secret.write_text("s ecret")
    told = {"RECO_MODEL": "linucb-2", "RECO_REDIS_PASSWORD_FILE": str(secret), **inside}
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in told.items())
    docker = f"""case "$*" in
        *"port redpanda"*) echo 127.0.0.1:19092 ;;
        *"port redis"*) echo 127.0.0.1:16379 ;;
        *) while [ "$1" != -c ]; do shift; done; env {variables} {sys.executable} "$@" ;;
    esac"""
    done = evaluated(folder, docker, **(before or {}))
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_where_there_is_no_composed_system_an_eval_fails(tmp_path: Path) -> None:
    done = evaluated(tmp_path, "echo 'service \"redpanda\" is not running' >&2\nexit 1")
    assert done.returncode != 0
    assert "is not running" in done.stderr
    assert done.stdout == ""


def test_addresses_and_model_of_the_composed_system_are_those_of_this_shell(
    tmp_path: Path,
) -> None:
    assert exported(tmp_path) == ADDRESSES


def test_data_and_what_makes_a_replay_of_the_model_equal_are_those_of_this_shell(
    tmp_path: Path,
) -> None:
    odd = "/srv/the shop's \\n $HOME/data"
    found = exported(tmp_path, HOST_DATA=odd, RECO_GAMMA="0.999", RECO_REPLAY_DEDUPE_WINDOW="5000")
    assert found == {
        **ADDRESSES,
        "RECO_DATA": odd,
        "RECO_GAMMA": "0.999",
        "RECO_REPLAY_DEDUPE_WINDOW": "5000",
    }


@pytest.mark.parametrize(
    ("told", "means"),
    [
        ("shop/data", f"{ROOT}/shop/data"),
        ("./shop", f"{ROOT}/shop"),
        ("~/shop", "/home/me/shop"),
    ],
)
def test_a_folder_of_data_is_the_one_that_compose_takes_it_for(
    tmp_path: Path, told: str, means: str
) -> None:
    assert exported(tmp_path, HOST_DATA=told)["RECO_DATA"] == means


def test_what_the_composed_system_has_not_set_is_not_left_from_before(tmp_path: Path) -> None:
    before = {"RECO_DATA": "/other", "RECO_GAMMA": "0.9", "RECO_REPLAY_DEDUPE_WINDOW": "7"}
    empty = {"HOST_DATA": "", "RECO_GAMMA": "", "RECO_REPLAY_DEDUPE_WINDOW": ""}
    assert exported(tmp_path, before, **empty) == ADDRESSES
