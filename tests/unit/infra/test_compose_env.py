"""What `eval "$(infra/compose-env)"` comes to where nothing is composed."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_where_there_is_no_composed_system_an_eval_fails(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho 'service \"redpanda\" is not running' >&2\nexit 1\n")
    docker.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", 'eval "$(infra/compose-env)" && echo "$RECO_KAFKA"'],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "is not running" in done.stderr
    assert done.stdout == ""


def test_the_model_of_the_composed_system_is_that_of_this_shell(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        '*"port redpanda"*) echo 127.0.0.1:19092 ;;\n'
        '*"port redis"*) echo 127.0.0.1:16379 ;;\n'
        "*) echo redis://admin:s%20ecret@ linucb-2 ;;\n"
        "esac\n"
    )
    docker.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", 'eval "$(infra/compose-env)" && echo $RECO_KAFKA $RECO_REDIS $RECO_MODEL'],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [
        "127.0.0.1:19092",
        "redis://admin:s%20ecret@127.0.0.1:16379/0",
        "linucb-2",
    ]
