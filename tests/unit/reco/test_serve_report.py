from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import msgspec
import pytest

from reco import logs
from reco.http_lines import HttpLines, Totals
from reco.serve_report import Reporter
from server.freshness import FreshnessProbe
from server.model_view import ModelView
from server.stream import Counts, StreamServer
from shared.catalogue import DataSet
from shared.testing import FakeClock
from tests.unit.server.api_bench import Bench

Out = pytest.CaptureFixture[str]


class Idle:
    """A stream without visits, and a view that is fresh."""

    counts = Counts()
    error = ""


class Api(NamedTuple):
    lines: HttpLines
    totals: Totals


@pytest.fixture
def bench(data: DataSet) -> Iterator[Bench]:
    bench = Bench(data)
    yield bench
    bench.close()


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    logs.configure("text")


def reporter(bench: Bench, lines_per_s: int, as_json: bool = False) -> Reporter:
    """It has come round once, as it does before anybody is answered."""
    report = Reporter(
        cast(StreamServer, Idle()),
        cast(ModelView, Idle()),
        FreshnessProbe(3, FakeClock()),
        lines_per_s,
        as_json,
        Api(bench.lines, Totals(decided=20, clicked=7)),
    )
    report.http_lines()
    return report


def one_of_each(bench: Bench, report: Reporter) -> int:
    """A decision that is clicked (again and again), and one that is not; returns the product."""
    product: int = bench.rank(decision_id="d1", user_id=7).json()["slate"][1]["product_id"]
    bench.click("d1", product)
    bench.click("d1", product)
    bench.rank(decision_id="d2")
    bench.window.now_ms += 30_000
    bench.sweep()
    report.http_lines()
    return product


def records(text: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in text.splitlines()]


def test_decisions_over_http_and_what_came_of_them_are_lines(bench: Bench, capsys: Out) -> None:
    product = one_of_each(bench, reporter(bench, 20))
    first, clicked, second, left = capsys.readouterr().out.splitlines()
    assert first.startswith("User 0007 (23 yo) @ Mon 07:29 -> Recs: [")
    assert first.endswith("] (decision d1)")
    assert second.startswith("Somebody (23 yo) @ Mon 07:29 -> Recs: [")
    assert clicked == f"Decision d1 -> Clicked: {product} (✅)"
    assert left == "Decision d2 -> Clicked: None (❌)"


def test_in_json_these_lines_are_records_with_their_decision_id(bench: Bench, capsys: Out) -> None:
    logs.configure("json")
    product = one_of_each(bench, reporter(bench, 20))
    said = records(capsys.readouterr().err)
    assert [each["decision_id"] for each in said] == ["d1", "d1", "d2", "d2"]
    assert [each.get("clicked", "-") for each in said] == ["-", product, "-", None]


def test_programs_get_these_lines_as_json_on_standard_output(bench: Bench, capsys: Out) -> None:
    one_of_each(bench, reporter(bench, 20, as_json=True))
    assert [each["decision_id"] for each in records(capsys.readouterr().out)] == [
        *("d1", "d1", "d2", "d2")
    ]


def test_http_has_no_more_lines_than_the_ration_of_the_second(bench: Bench, capsys: Out) -> None:
    report = reporter(bench, 3)
    for _ in range(2):
        bench.rank()
    report.http_lines()
    for _ in range(5):
        bench.rank()
    report.http_lines()
    report.http_lines()
    assert len(capsys.readouterr().out.splitlines()) == 3
    report.tick(last=True)
    report.http_lines()
    bench.rank()
    report.http_lines()
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_where_no_lines_are_wanted_nothing_is_kept_for_them(bench: Bench, capsys: Out) -> None:
    one_of_each(bench, reporter(bench, 0))
    assert bench.lines.take(100) == []
    assert capsys.readouterr().out == ""


def test_the_sentence_of_the_second_counts_what_came_over_http(bench: Bench, capsys: Out) -> None:
    reporter(bench, 0).tick(last=True)
    assert "over HTTP 20 decided, 7 clicked" in capsys.readouterr().err


def test_over_http_user_0_is_nobody(bench: Bench, capsys: Out) -> None:
    report = reporter(bench, 20)
    bench.rank(decision_id="d1", user_id=0)
    report.http_lines()
    assert capsys.readouterr().out.startswith("Somebody (23 yo)")
