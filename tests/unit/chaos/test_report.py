import re
from pathlib import Path

import pytest

from reco.rebuild import Report
from tests.chaos.faults import FAULTS
from tests.chaos.naive_trainers import Damage
from tests.chaos.report import Quantiles, Result, Run, page_of
from tests.chaos.stage import Recovery
from tests.chaos.tally import Count


def run_of(result: Result, delivery: str = "exactly-once") -> Run:
    return Run(
        broker="Apache Kafka 4.1",
        store="Redis 8.0.2",
        delivery=delivery,
        rate=100.0,
        share=0.1,
        machine="2 cores",
        command="python -m tests.chaos",
        on="2026-11-25",
        results=[result],
    )


def result_of(count: Count, report: Report, failure: str = "") -> Result:
    result = Result(name="kill", title="SIGKILL", times=3, failure=failure)
    result.recovered([Recovery(1.0, 2.0), Recovery(3.0, 4.0)])
    result.counted(count, report)
    return result


def test_nothing_lost_and_nothing_double_passes() -> None:
    assert run_of(result_of(Count(10, 0, 0, 0), Report())).passed


@pytest.mark.parametrize(
    "result",
    [
        result_of(Count(10, 1, 0, 0), Report()),
        result_of(Count(10, 0, 1, 0), Report()),
        result_of(Count(10, 0, 0, 1), Report()),
        result_of(Count(10, 0, 0, 0), Report(differing_bits=1)),
        result_of(Count(10, 0, 0, 0), Report(violations=["an arm is not where it belongs"])),
        result_of(Count(10, 0, 0, 0), Report(), failure="it does not come back"),
    ],
)
def test_whatever_is_wrong_fails(result: Result) -> None:
    assert not run_of(result).passed


def test_at_least_once_may_decide_twice_but_never_miss() -> None:
    assert run_of(result_of(Count(10, 0, 2, 6), Report()), "at-least-once").passed
    assert not run_of(result_of(Count(10, 1, 0, 0), Report()), "at-least-once").passed


def test_recovery_is_told_by_its_quantiles() -> None:
    assert Quantiles.of([1.0, 2.0, 3.0]) == Quantiles(2.0, 2.98, 3.0)
    assert Quantiles.of([]) is None


def test_the_page_has_the_command_the_broker_and_a_row_for_each_fault() -> None:
    result = result_of(Count(10, 0, 0, 0), Report(outcomes=31))
    result.naive = Damage(outcomes=31, lost=4, double=5)
    page = page_of(run_of(result))
    assert "python -m tests.chaos" in page
    assert "Apache Kafka 4.1" in page
    assert "| SIGKILL | 3 | 2.0 / 3.0 | 3.0 / 4.0 | 0 | 0 | 0 | 4 | 5 |" in page


def test_the_page_that_is_kept_says_what_the_command_would_write_but_for_its_figures() -> None:
    kept = (Path(__file__).parents[3] / "docs" / "faults.md").read_text(encoding="utf-8")
    written = page_of(run_of(result_of(Count(10, 0, 0, 0), Report())))
    [times] = re.findall(r"^Time to recover.*?\n\n", written, re.MULTILINE | re.DOTALL)
    assert times in kept
    titles = re.findall(r"^\| (.+?) \| \d", kept, re.MULTILINE)
    assert titles
    assert {*titles} <= {fault.title for fault in FAULTS}


def test_each_fault_can_be_told_by_its_title_alone() -> None:
    titles = [fault.title for fault in FAULTS]
    assert len({*titles}) == len(titles)
    assert not [title for title in titles if "the same" in title]
