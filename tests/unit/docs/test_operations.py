"""docs/operations.md names tests; each has to be there, and every procedure has one."""

import re
from pathlib import Path

from tests.dashboard import alerts

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 20
    missing = [f"{p}::{name}" for p, name in named if f"def {name}(" not in (ROOT / p).read_text()]
    assert missing == []


def test_every_procedure_names_a_test() -> None:
    _, *sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    assert [s.splitlines()[0] for s in sections if not re.search(r"\*Tests?:\*", s)] == []


def test_every_alert_is_explained() -> None:
    [section] = re.findall(r"^## Alerts$(.*?)^## ", PAGE, flags=re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \| (.+) \|$", section, flags=re.MULTILINE)
    assert [name for name, *_ in rows] == [rule["alert"] for rule in alerts()]


def test_what_is_linked_to_in_the_page_is_there() -> None:
    titles = re.findall(r"^#+ (.+)$", PAGE, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors
