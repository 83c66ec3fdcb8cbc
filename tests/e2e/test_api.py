"""The API as others meet it: the documented client, a hostile one, one that comes slowly."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import positive_data_acceptance

from server.live_feed import Message
from server.operations import DOCUMENTS, EVENTS, LIVE, OPERATIONS
from tests.e2e.api_process import Served, run_block, serving
from tests.unit.server.api_bench import CONTEXT

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.fixture(scope="module")
def served(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(data_folder, tmp_path_factory.mktemp("logs"), reward_window="10s") as served:
        yield served


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_readme_shows_the_clients_that_are_run_here_in_ten_lines_each() -> None:
    readme = (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
    for block in (*code_blocks("bash"), *code_blocks("python")):
        assert block.strip() in readme
        assert len(block.strip().splitlines()) <= 10


def test_the_documented_clients_rank_and_click(served: Served) -> None:
    before = len(served.system.outcomes())
    [shell], [python] = code_blocks("bash"), code_blocks("python")
    assert '"rank":1' in run_block(["bash", "-euc"], shell, served.url)
    assert "'rank': 1" in run_block([sys.executable, "-c"], python, served.url)
    assert len(served.system.outcomes()) == before + 2


@pytest.mark.timeout(400)
def test_no_request_that_the_description_allows_or_forbids_is_a_fault_of_ours(
    served: Served,
) -> None:
    schema: Any = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    tried = [operation.ok() for operation in schema.get_all_operations()]
    described = {f"{each.method} {each.path}": each for each in (*OPERATIONS, *LIVE, *DOCUMENTS)}
    # What it reads the description from, schemathesis leaves out.
    assert {each.label for each in tried} == described.keys() - {"GET /openapi.json"}
    for operation in tried:
        if described[operation.label].media == EVENTS:
            continue  # it has no end
        statuses = conforming(operation)
        assert statuses, operation.label
        assert not {status for status in statuses if status >= 500}


def test_the_stream_of_events_begins_as_described(served: Served) -> None:
    with httpx.stream("GET", f"{served.url}/v1/live") as answer:
        assert answer.headers["content-type"].startswith(EVENTS)
        event = next(line for line in answer.iter_lines() if line)
    assert msgspec.json.decode(event.removeprefix("data: "), type=Message).setting is not None


def conforming(operation: Any) -> set[int]:
    """Ask an operation in many ways, good and bad; every answer must be as described.

    Not all that fits a schema is accepted: a product has to exist, a decision to wait.
    """
    statuses = set()
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]

    @settings(
        max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.data())
    def ask(data: st.DataObject) -> None:
        case = data.draw(st.one_of([operation.as_strategy(generation_mode=m) for m in modes]))
        answer = case.call()
        statuses.add(answer.status_code)
        assert answer.status_code < 500, answer.text
        case.validate_response(answer, excluded_checks=[positive_data_acceptance])

    ask()
    return statuses


def test_what_clicks_are_not_reported_in_time_is_resolved_without_one(served: Served) -> None:
    body = {"context": CONTEXT, "decision_id": "left-alone"}
    assert httpx.post(f"{served.url}/v1/rank", json=body, timeout=30).status_code == 200
    served.system.until(
        lambda: sum(o.decision_id == "left-alone" for o in served.system.outcomes()) == 5,
        "resolved without a click",
    )


def test_a_frozen_store_costs_no_more_than_the_budget_and_no_wrong_lesson(served: Served) -> None:
    system, body = served.system, {"context": CONTEXT, "decision_id": "frozen"}
    with system.store_server.asleep():
        answer = httpx.post(f"{served.url}/v1/rank", json=body, timeout=20)
        assert answer.status_code == 503
        assert answer.json()["type"] == "/docs#window-unavailable"

    def forgotten() -> bool:
        return httpx.get(f"{served.url}/v1/decisions/frozen").status_code == 404

    system.until(forgotten, "withdrawn")
    assert all(outcome.decision_id != "frozen" for outcome in system.outcomes())
    system.until(
        lambda: httpx.post(f"{served.url}/v1/rank", json=body).status_code == 200, "served again"
    )
