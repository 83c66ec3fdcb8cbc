"""What docker-compose.yml says by itself; `tests/integration/test_compose.py` runs it."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
    "services"
]


def test_who_has_done_all_of_its_work_is_not_started_again() -> None:
    ends = {"users", "topics", "reco"}
    restarts = {name: service["restart"] for name, service in SERVICES.items()}
    assert {name for name, restart in restarts.items() if restart == "no"} == ends
    assert restarts["producer"] == "on-failure"  # it ends by itself where it has a count
    others = restarts.keys() - ends - {"producer"}
    assert {restarts[name] for name in others} == {"unless-stopped"}
