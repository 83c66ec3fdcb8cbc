"""What pyproject.toml asks for, beside what the code needs of it."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("name", "too_old", "first"),
    [
        # `class Duration(click.ParamType[float])` ends every start there.
        ("click", "8.3.3", "8.4.0"),
        # There `except ValueError` does not catch what says that a file or a state is damaged.
        ("msgspec", "0.20.0", "0.21.0"),
        # The rest is what tests of the server fail with.
        ("httptools", "0.6.0", "0.6.4"),
        ("starlette", "1.6.0", "1.7.0"),
        ("uvicorn", "0.44.0", "0.45.0"),
    ],
)
def test_a_package_that_lacks_what_the_code_uses_is_not_taken_for_new_enough(
    name: str, too_old: str, first: str
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {each.name: each.specifier for each in map(Requirement, project["dependencies"])}
    assert too_old not in asked[name]
    assert first in asked[name]
