from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from server.scorer import Model, Policy
from server.several_views import SeveralViews
from server.view import View
from shared.linucb import untrained


class One:
    def __init__(self, positions: list[int]) -> None:
        arms, zeros = np.arange(3), np.zeros(3, np.int64)
        self.view = View(Model(arms, zeros, zeros, untrained(3, 2, 1.0), arms), positions, False)
        self.held = 0

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


def test_a_single_view_serves_every_policy() -> None:
    with One([7]).locked() as view:
        assert view.of(Policy("shared-linucb")) is view
