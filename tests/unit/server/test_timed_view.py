from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from server.scorer import Model
from server.timed_view import TimedView
from server.view import View
from shared.linucb import untrained
from shared.testing import FakeClock


class FixedView:
    @contextmanager
    def locked(self) -> Iterator[View]:
        none = np.zeros(0, np.int64)
        yield View(Model(none, none, none, untrained(0, 2, 1.0), none), [7], stale=False)


def test_the_time_that_the_view_is_held_is_told_and_the_view_is_the_same() -> None:
    clock, told = FakeClock(), list[float]()
    view = TimedView(FixedView(), clock, told.append)
    with view.locked() as locked:
        assert locked.positions == [7]
        clock.now_s += 0.25
    assert told == [0.25]


def test_a_failure_is_no_measurement() -> None:
    told = list[float]()
    with (
        pytest.raises(RuntimeError),
        TimedView(FixedView(), FakeClock(), told.append).locked(),
    ):
        raise RuntimeError
    assert told == []
