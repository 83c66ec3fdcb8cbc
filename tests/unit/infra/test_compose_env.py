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
