import math
from statistics import mean, median, stdev

import pytest

from producer.habits import Habits, thinking_s

VISITS = [f"run-{number:07d}" for number in range(4_000)]


def test_thinking_times_are_log_normal_with_the_stated_median_and_spread() -> None:
    times = [thinking_s(Habits(median_s=2.0, sigma=0.7), 1, visit) for visit in VISITS]
    logs = [math.log(each) for each in times]
    assert median(times) == pytest.approx(2.0, rel=0.05)
    assert mean(logs) == pytest.approx(math.log(2.0), abs=0.05)
    assert stdev(logs) == pytest.approx(0.7, rel=0.05)


def test_the_stated_share_comes_late() -> None:
    habits = Habits(median_s=0.001, late_share=0.1, late_s=60.0)
    late = [thinking_s(habits, 1, visit) == 60.0 for visit in VISITS]
    assert mean(late) == pytest.approx(0.1, abs=0.02)


def test_the_same_visit_thinks_as_long_each_time_and_another_seed_differs() -> None:
    assert thinking_s(Habits(), 1, "v") == thinking_s(Habits(), 1, "v")
    assert thinking_s(Habits(), 1, "v") != thinking_s(Habits(), 2, "v")
    assert thinking_s(Habits(), 1, "v") != thinking_s(Habits(), 1, "w")
