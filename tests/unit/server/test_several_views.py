from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from server.readiness import not_ready
from server.scorer import Model, Policy
from server.several_views import SeveralViews
from server.view import View
from shared.linucb import untrained


class One:
    def __init__(self, positions: list[int]) -> None:
        arms, zeros = np.arange(3), np.zeros(3, np.int64)
        self.view = View(Model(arms, zeros, zeros, untrained(3, 2, 1.0), arms), positions, False)
        self.held = 0
        self.ready, self.stale, self.error = True, False, ""
        self.age_s, self.solution_age_s = 0.1, 0.0
        self.gaps, self.nbytes = 1, 10
        self.positions = positions

    @contextmanager
    def locked(self) -> Iterator[View]:
        self.held += 1
        yield self.view
        self.held -= 1


def test_each_policy_scores_the_solution_that_is_its_own() -> None:
    alone, together = One([1, 2]), One([3, 4])
    views = SeveralViews({"disjoint": alone, "shared-linucb": together})
    with views.locked() as view:
        assert (alone.held, together.held) == (1, 1)
        assert view.positions == [1, 2]
        for name in ("linucb", "lints", "lingreedy", "popularity", "random"):
            assert view.of(Policy(name)).positions == [1, 2]
        assert view.of(Policy("shared-linucb")).positions == [3, 4]
    assert (alone.held, together.held) == (0, 0)


def test_several_views_are_as_good_as_the_worst_of_them() -> None:
    alone, together = One([1, 5]), One([3, 4])
    views = SeveralViews({"disjoint": alone, "shared-linucb": together})
    assert not_ready(views) == []
    assert (views.gaps, views.nbytes, views.positions) == (2, 20, [1, 4])
    together.ready, together.error = False, "partition 1 is being read"
    assert not_ready(views) == ["the model is not whole yet: partition 1 is being read"]
    together.ready, together.age_s, together.stale = True, 31.0, True
    together.solution_age_s = 2.0
    assert not_ready(views) == ["the model is 31 s old, more than 30 s: partition 1 is being read"]
    assert (views.age_s, views.solution_age_s, views.stale) == (31.0, 2.0, True)
    together.age_s, together.stale, together.error = 0.1, False, ""
    assert (views.age_s, views.stale, views.error) == (0.1, False, "")


def test_a_single_view_serves_every_policy() -> None:
    with One([7]).locked() as view:
        assert view.of(Policy("shared-linucb")) is view
