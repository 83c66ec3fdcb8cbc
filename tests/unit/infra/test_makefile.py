"""`make env` with a Python that it is not for."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[3]

# It says that it is another version, and ends before anything is installed.
PRETENDER = """#!/bin/sh
[ "$1" = -c ] || exit 1
exec {python} -c "import sys
sys.version_info, sys.version = ({version}, 0), '{dotted}.0 (main)'
exec(sys.argv[1])" "$2"
"""


@pytest.mark.parametrize("minor", [10, 11, 13, 14])
def test_a_python_that_the_packages_are_not_for_is_refused_in_a_sentence(
    tmp_path: Path, minor: int
) -> None:
    for needed in ("pyproject.toml", "requirements/dev.txt", "requirements/bootstrap.txt"):
        (tmp_path / needed).parent.mkdir(exist_ok=True)
        (tmp_path / needed).touch()
    python = tmp_path / "python"
    python.write_text(
        PRETENDER.format(python=sys.executable, version=f"3, {minor}", dotted=f"3.{minor}")
    )
    python.chmod(0o755)
    made = subprocess.run(
        ["make", "--file", ROOT / "Makefile", "env", f"PYTHON={python}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    fits = f"3.{minor}.0" in SpecifierSet(project["requires-python"])
    said = f"LiveReco needs Python 3.11 to 3.13, this is 3.{minor}.0: set PYTHON=… and try again."
    assert (said in made.stderr) is not fits
    assert ("Making the environment" in made.stdout) is fits
