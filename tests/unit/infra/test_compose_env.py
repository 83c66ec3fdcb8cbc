"""What `eval "$(infra/compose-env)"` comes to, beside a `docker` of the test's own."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]


def evaluated(folder: Path, docker: str) -> "subprocess.CompletedProcess[str]":
    """Run it where `docker` is this script, and print what was set."""
    command = folder / "docker"
    command.write_text(f"#!/bin/sh\n{docker}\n")
    command.chmod(0o755)
    shown = "echo $RECO_KAFKA $RECO_REDIS $RECO_MODEL"
    return subprocess.run(
        ["sh", "-c", f'eval "$(infra/compose-env)" && {shown}'],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )


def test_where_there_is_no_composed_system_an_eval_fails(tmp_path: Path) -> None:
    done = evaluated(tmp_path, "echo 'service \"redpanda\" is not running' >&2\nexit 1")
    assert done.returncode != 0
    assert "is not running" in done.stderr
    assert done.stdout == ""


def test_addresses_and_model_of_the_composed_system_are_those_of_this_shell(
    tmp_path: Path,
) -> None:
    docker = """case "$*" in
        *"port redpanda"*) echo 127.0.0.1:19092 ;;
        *"port redis"*) echo 127.0.0.1:16379 ;;
        *) echo redis://admin:s%20ecret@ linucb-2 ;;
    esac"""
    assert evaluated(tmp_path, docker).stdout.split() == [
        "127.0.0.1:19092",
        "redis://admin:s%20ecret@127.0.0.1:16379/0",
        "linucb-2",
    ]
