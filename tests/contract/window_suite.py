"""What every reward window must do, whether in memory or in Redis."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from shared.events import Decision, SlateItem
from shared.reward_window import (
    Answer,
    Click,
    Clicked,
    Found,
    Load,
    Opening,
    Refused,
    Resolution,
    RewardWindow,
    Waiting,
    WindowRules,
)

_T = TypeVar("_T")

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
RULES = WindowRules(
    window_ms=900_000, keep_ms=3_000_000, lease_ms=500_000, most_waiting=40, most_kept=1_000
)
A_WHILE_MS = 350_000
"""Multiples of it are minutes away from every limit, so the test's own duration does not count."""


class Bench(Protocol):
    """A window to test, and the passing of time."""

    window: RewardWindow

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Wait for an answer."""

    def pass_ms(self, milliseconds: int) -> None:
        """Let time pass, without waiting."""


MakeBench = Callable[[WindowRules], Bench]


def waiting(
    number: int, request: str = "request", products: tuple[int, ...] = (8, 42, 61)
) -> Waiting:
    """Decision number `number`."""
    slate = [
        SlateItem(product_id=p, score=0.5, mean=0.25, bonus=0.25, propensity=1.0) for p in products
    ]
    decision = Decision(
        decision_id=f"d-{number}",
        visit_id=f"d-{number}",
        user_id=7,
        policy="linucb",
        parameters={"alpha": 0.2},
        x=[0.1, 0.9],
        encoder_id="encoder",
        view=[1, 2],
        slate=slate,
        decided_at=NOON,
        arms_id="5c39e1b4d2f06a87",
        candidates=[8, 42, 61, 2**53 - 1],
    )
    return Waiting(decision, request, depth=len(slate))


class WindowSuite:
    """Inherit, and provide a fixture `make`."""

    def test_a_click_resolves_a_waiting_decision_once(self, make: MakeBench) -> None:
        bench = make(RULES)
        opened = waiting(1)
        assert open_one(bench, opened) == opened
        first, again, other = (click(bench, 1, product) for product in (42, 42, 61))
        assert (first.answer, again.answer, other.answer) == (
            Answer.COUNTED,
            Answer.AGAIN,
            Answer.OTHER,
        )
        assert first.resolution is not None
        assert first.resolution.clicked_rank == 2
        assert first.resolution.waiting == opened
        assert again.resolution == other.resolution == first.resolution
        assert load(bench) == Load(0, 1, 0)

    def test_a_window_that_ends_resolves_without_a_click(self, make: MakeBench) -> None:
        bench = make(RULES)
        open_one(bench, waiting(1))
        assert take(bench) == []
        bench.pass_ms(3 * A_WHILE_MS)
        [resolution] = take(bench)
        assert (resolution.clicked_rank, resolution.acknowledged) == (None, False)
        assert resolution.waiting == waiting(1)
        late = click(bench, 1, 42)
        assert late == Clicked(Answer.LATE, resolution)

    def test_a_click_after_the_end_is_late_though_nobody_has_swept(self, make: MakeBench) -> None:
        bench = make(RULES)
        open_one(bench, waiting(1))
        bench.pass_ms(3 * A_WHILE_MS)
        late = click(bench, 1, 42)
        assert late.answer is Answer.LATE
        assert late.resolution is not None
        assert late.resolution.clicked_rank is None
        assert take(bench) == [late.resolution]

    def test_the_end_of_the_window_is_when_it_was_due_not_when_somebody_looked(
        self, make: MakeBench
    ) -> None:
        bench = make(RULES)
        open_one(bench, waiting(1))
        found = find(bench, 1)
        assert found is not None
        assert found.due_ms is not None
        assert found.resolution is None
        bench.pass_ms(3 * A_WHILE_MS)
        [resolution] = take(bench)
        passed_ms = found.due_ms - resolution.resolved_ms  # where time passes by moving the times
        assert passed_ms in (0, 3 * A_WHILE_MS)
        bench.pass_ms(A_WHILE_MS)
        assert click(bench, 1, 8).resolution == resolution

    def test_unknown_decisions_and_products_are_told_apart(self, make: MakeBench) -> None:
        bench = make(RULES)
        open_one(bench, waiting(1))
        assert click(bench, 2, 42) == Clicked(Answer.UNKNOWN)
        assert click(bench, 1, 192) == Clicked(Answer.NOT_ON_SLATE)
        assert click(bench, 1, 42).answer is Answer.COUNTED
        assert click(bench, 1, 192) == Clicked(Answer.NOT_ON_SLATE)
        assert find(bench, 2) is None

    def test_a_retried_request_gets_the_first_answer_and_another_request_none(
        self, make: MakeBench
    ) -> None:
        bench = make(RULES)
        first, retry = waiting(1), waiting(1, products=(192, 189))
        open_one(bench, first, "a")
        assert open_one(bench, retry, "b") == first
        assert open_one(bench, waiting(1, "another"), "c") is Refused.REUSED
        click(bench, 1, 8)
        assert open_one(bench, retry, "d") == first
        assert click(bench, 1, 8).answer is Answer.AGAIN

    def test_only_what_begins_to_wait_is_returned_itself(self, make: MakeBench) -> None:
        bench, first, second = make(RULES), waiting(1), waiting(1)
        for attempt, opened, begins in (("a", first, True), ("b", second, False)):
            [answer] = bench.run(bench.window.open([Opening(opened, attempt)]))
            assert answer == opened
            assert (answer is opened) == begins

    def test_many_openings_and_clicks_are_answered_in_their_order(self, make: MakeBench) -> None:
        bench = make(RULES)
        all_of_them = [waiting(number, products=(number, 999)) for number in range(20)]
        openings = [Opening(each, "a") for each in all_of_them]
        assert bench.run(bench.window.open(openings)) == all_of_them
        clicks = [Click(f"d-{number}", number) for number in range(21)]
        answers = bench.run(bench.window.click(clicks))
        assert [each.answer for each in answers] == [Answer.COUNTED] * 20 + [Answer.UNKNOWN]
        assert [r.resolution.waiting for r in answers if r.resolution] == all_of_them

    def test_a_resolution_is_leased_until_it_is_acknowledged(self, make: MakeBench) -> None:
        bench = make(RULES)
        open_one(bench, waiting(1))
        resolution = click(bench, 1, 42).resolution
        assert take(bench) == []  # it belongs to whoever resolved it
        bench.pass_ms(2 * A_WHILE_MS)
        assert take(bench) == [resolution]  # who then died
        assert take(bench) == []
        bench.run(bench.window.acknowledge(["d-1"]))
        bench.pass_ms(2 * A_WHILE_MS)
        assert take(bench) == []
        assert load(bench) == Load(0, 0, 1)
        again = click(bench, 1, 42)
        assert again.resolution is not None
        assert again.resolution.acknowledged

    def test_under_a_backlog_what_has_waited_longest_is_among_the_first_taken(
        self, make: MakeBench
    ) -> None:
        bench = make(RULES._replace(most_waiting=400))
        bench.run(bench.window.open([Opening(waiting(number), "a") for number in range(8)]))
        bench.pass_ms(A_WHILE_MS)
        bench.run(bench.window.open([Opening(waiting(number), "a") for number in range(8, 80)]))
        bench.pass_ms(3 * A_WHILE_MS)
        taken = {each.waiting.decision.decision_id for _ in range(4) for each in take(bench, 4)}
        assert len(taken) == 16
        assert taken >= {f"d-{number}" for number in range(8)}

    def test_acknowledging_twice_or_the_unknown_changes_nothing(self, make: MakeBench) -> None:
        bench = make(RULES)
        open_one(bench, waiting(1))
        assert bench.run(bench.window.acknowledge(["d-1", "d-2"])) == []
        assert load(bench) == Load(1, 0, 0)
        click(bench, 1, 8)
        assert bench.run(bench.window.acknowledge(["d-1", "d-1"])) == ["d-1"]
        assert bench.run(bench.window.acknowledge(["d-1"])) == []
        assert load(bench) == Load(0, 0, 1)

    def test_what_is_done_is_forgotten_after_a_while(self, make: MakeBench) -> None:
        bench = make(RULES)
        open_one(bench, waiting(1))
        click(bench, 1, 42)
        bench.run(bench.window.acknowledge(["d-1"]))
        bench.pass_ms(9 * A_WHILE_MS)
        assert take(bench) == []
        assert load(bench) == Load(0, 0, 0)
        assert click(bench, 1, 42).answer is Answer.UNKNOWN

    def test_what_waits_is_bounded_and_what_is_kept_too(self, make: MakeBench) -> None:
        bench = make(RULES._replace(most_waiting=4, most_kept=4))
        answers = bench.run(
            bench.window.open([Opening(waiting(number), "a") for number in range(100)])
        )
        assert 0 < sum(answer is not Refused.FULL for answer in answers) <= 4
        assert {answer for answer in answers if isinstance(answer, Refused)} == {Refused.FULL}
        for start in range(0, 100, 10):
            numbers = range(100 + start, 110 + start)
            bench.run(bench.window.open([Opening(waiting(number), "a") for number in numbers]))
            clicks = [Click(f"d-{number}", 8) for number in range(200)]
            bench.run(bench.window.click(clicks))
            bench.run(bench.window.acknowledge([each.decision_id for each in clicks]))
        take(bench)
        assert 0 < load(bench).kept <= 4

    def test_what_waits_for_kafka_counts_among_what_waits(self, make: MakeBench) -> None:
        bench = make(RULES._replace(most_waiting=4))
        for number in range(40):
            open_one(bench, waiting(number))
            click(bench, number, 8)
        for number in range(40, 80):
            open_one(bench, waiting(number))
        bench.pass_ms(3 * A_WHILE_MS)
        take(bench)
        assert load(bench) == Load(0, 4, 0)
        assert open_one(bench, waiting(80)) is Refused.FULL
        bench.run(bench.window.acknowledge([f"d-{number}" for number in range(80)]))
        assert open_one(bench, waiting(80)) == waiting(80)

    def test_an_attempt_that_nobody_saw_is_withdrawn(self, make: MakeBench) -> None:
        bench = make(RULES)
        open_one(bench, waiting(1), "a")
        bench.run(bench.window.withdraw([Opening(waiting(1), "a").name]))
        assert load(bench) == Load(0, 0, 1)
        assert click(bench, 1, 42).answer is Answer.UNKNOWN
        bench.pass_ms(3 * A_WHILE_MS)
        assert take(bench) == []
        assert open_one(bench, waiting(1), "b") == waiting(1)
        assert load(bench) == Load(1, 0, 0)

    def test_an_attempt_that_arrives_after_it_was_withdrawn_is_refused(
        self, make: MakeBench
    ) -> None:
        bench = make(RULES)
        for attempt in ("a", "b"):
            bench.run(bench.window.withdraw([Opening(waiting(1), attempt).name]))
        for attempt in ("a", "b"):
            assert open_one(bench, waiting(1), attempt) is Refused.WITHDRAWN
        assert open_one(bench, waiting(1), "c") == waiting(1)
        assert open_one(bench, waiting(1), "a") is Refused.WITHDRAWN
        bench.run(bench.window.withdraw([Opening(waiting(1), "c").name]))
        for attempt in ("a", "b", "c"):
            assert open_one(bench, waiting(1), attempt) is Refused.WITHDRAWN

    def test_of_more_attempts_than_can_be_remembered_none_is_let_in(self, make: MakeBench) -> None:
        bench = make(RULES._replace(most_attempts=3))
        for attempt in "abcd":
            bench.run(bench.window.withdraw([Opening(waiting(1), attempt).name]))
        for attempt in "abcde":
            assert open_one(bench, waiting(1), attempt) is Refused.WITHDRAWN
        for attempt in "abc":
            assert open_one(bench, waiting(2), attempt) == waiting(2)
        assert open_one(bench, waiting(2), "d") is Refused.WITHDRAWN
        click(bench, 2, 8)
        assert open_one(bench, waiting(2), "d") == waiting(2)

    def test_a_decision_that_a_retry_was_answered_with_is_not_withdrawn(
        self, make: MakeBench
    ) -> None:
        bench = make(RULES)
        for attempt in ("a", "b"):
            open_one(bench, waiting(1), attempt)
        bench.run(bench.window.withdraw([Opening(waiting(1), "a").name]))
        assert click(bench, 1, 42).answer is Answer.COUNTED
        open_one(bench, waiting(2), "a")
        click(bench, 2, 42)
        bench.run(bench.window.withdraw([Opening(waiting(2), "a").name]))
        assert click(bench, 2, 42).answer is Answer.AGAIN

    def test_a_decision_that_no_attempt_was_answered_with_after_all_is_withdrawn(
        self, make: MakeBench
    ) -> None:
        bench = make(RULES)
        for attempt in "abc":
            open_one(bench, waiting(1), attempt)
        bench.run(bench.window.withdraw([Opening(waiting(1), each).name for each in "acb"]))
        assert load(bench) == Load(0, 0, 1)
        assert click(bench, 1, 42).answer is Answer.UNKNOWN

    def test_a_decision_that_is_there_twice_in_one_batch_waits_once(self, make: MakeBench) -> None:
        bench = make(RULES)
        again = waiting(1, products=(9, 42, 61))  # ranked a moment later, on another view
        whats = [waiting(1), again, waiting(1, request="another"), waiting(2)]
        found = bench.run(bench.window.open([Opening(what, "a") for what in whats]))
        assert found == [waiting(1), waiting(1), Refused.REUSED, waiting(2)]
        assert find(bench, 1) is not None
        bench.run(bench.window.withdraw([Opening(waiting(1), "a").name]))
        assert find(bench, 1) is None

    def test_the_same_attempt_sent_twice_can_still_be_withdrawn(self, make: MakeBench) -> None:
        bench = make(RULES)
        for _ in range(2):
            open_one(bench, waiting(1), "a")
        bench.run(bench.window.withdraw([Opening(waiting(1), "a").name]))
        assert find(bench, 1) is None


def open_one(bench: Bench, what: Waiting, attempt: str = "a") -> Waiting | Refused:
    """One opening."""
    [answer] = bench.run(bench.window.open([Opening(what, attempt)]))
    return answer


def click(bench: Bench, number: int, product_id: int) -> Clicked:
    """One click."""
    [answer] = bench.run(bench.window.click([Click(f"d-{number}", product_id)]))
    return answer


def take(bench: Bench, limit: int = 1_000) -> list[Resolution]:
    """What is to be published."""
    return bench.run(bench.window.take(limit))


def find(bench: Bench, number: int) -> Found | None:
    """What is known."""
    return bench.run(bench.window.find(f"d-{number}"))


def load(bench: Bench) -> Load:
    """How much there is."""
    return bench.run(bench.window.load())


class Loop:
    """An event loop to run single coroutines on."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Wait for an answer."""
        return self._runner.run(coroutine)

    def close(self) -> None:
        """End the loop."""
        self._runner.close()
