import pytest

from tests.benchmarks.http import Load, load_of, results_of

PATHS = ("empty", "livez", "rank", "click", "empty with pauses", "rank with pauses")
WRK = """Running 4s test @ http://127.0.0.1:8000/v1/rank
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     5.31ms    4.00ms  57.42ms   91.60%
  Latency Distribution
     50%    3.87ms
     99%  900.00us
  17182 requests in 4.00s, 13.84MB read
{more}Requests/sec:   4295.50
Transfer/sec:      3.46MB
"""


def test_what_wrk_says_is_read_with_its_units() -> None:
    assert load_of(WRK.format(more="")) == Load(4295.5, 0.9, 0)


def test_answers_that_are_not_2xx_and_broken_connections_are_counted() -> None:
    more = (
        "  Socket errors: connect 1, read 2, write 0, timeout 4\n  Non-2xx or 3xx responses: 30\n"
    )
    assert load_of(WRK.format(more=more)).failed == 37


def test_each_turn_is_compared_with_the_empty_handler_of_the_same_turn() -> None:
    empty = [Load(10_000.0, 1.0, 0), Load(2_000.0, 9.0, 0), Load(10_000.0, 1.0, 0)]
    rank = [Load(7_000.0, 2.0, 0), Load(1_400.0, 30.0, 0), Load(8_000.0, 3.0, 0)]
    paced = [Load(490.0, 2.5, 0)] * 3
    turns = {"empty": empty, "livez": empty, "rank": rank, "click": rank}
    turns |= {"empty with pauses": empty, "rank with pauses": paced}
    first, *results = results_of(turns)
    assert first.name == "POST /v1/rank, per request"
    assert first.ratio == pytest.approx(0.7)
    p99s = [result.ours for result in results if "p99" in result.name]
    assert p99s == pytest.approx([3_000.0, 2_500.0])
    assert all(result.met is not False for result in (first, *results))


@pytest.mark.parametrize("path", ["rank", "click", "rank with pauses"])
def test_a_path_with_failed_answers_does_not_pass(path: str) -> None:
    good = [Load(10_000.0, 1.0, 0)] * 3
    turns = dict.fromkeys(PATHS, good)
    turns[path] = [*good[:2], Load(10_000.0, 1.0, 2)]
    missed = [result for result in results_of(turns) if result.met is False]
    assert [(result.ours, result.unit) for result in missed] == [(2.0, "answers")]
