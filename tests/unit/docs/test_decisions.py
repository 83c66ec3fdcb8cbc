"""infra/adr: every decision is numbered as its file, has a status, and says why and what."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = sorted((ROOT / "infra" / "adr").iterdir())
each_page = pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])


@each_page
def test_a_decision_has_its_number_a_status_and_its_parts(page: Path) -> None:
    named = re.fullmatch(r"(\d{4})-[a-z0-9-]+\.md", page.name)
    assert named
    title, blank, status, *rest = page.read_text(encoding="utf-8").splitlines()
    assert re.match(rf"# {int(named[1])}\. \w", title)
    assert (blank, status) == ("", "**Status:** accepted")
    parts = [line for line in rest if line.startswith("## ")]
    assert parts[:2] == ["## Context", "## Decision"]


@each_page
def test_the_code_that_a_decision_names_is_there(page: Path) -> None:
    text, packages = page.read_text(encoding="utf-8"), "producer|reco|server|shared|trainer"
    files = re.findall(rf"`((?:{packages}|infra|tests)/[\w/.-]+)`", text)
    assert [name for name in files if not (ROOT / name).exists()] == []
    names = re.findall(rf"`((?:{packages})\.\w+)\.(\w+)`", text)
    missing = [
        f"{module}.{name}" for module, name in names if not hasattr(import_module(module), name)
    ]
    assert missing == []
