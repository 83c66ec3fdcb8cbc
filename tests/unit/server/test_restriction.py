"""A part of a model is ranked as if there were no other arms."""

import numpy as np
import pytest

from server.kinship import Kin
from server.restriction import allowed, part
from server.scorer import Model, Policy, rank, seeds_of
from shared.linucb import Solution, untrained

K, D = 6, 3


def model() -> Model:
    """Arms 10 to 15; 11 and 14 have no outcomes."""
    rng = np.random.default_rng(5)
    n = np.array([3, 0, 2, 7, 0, 1])
    solution = untrained(K, D, 1.0)
    theta = np.where(n[:, None] > 0, rng.random((K, D)), 0.0)
    kin = Kin.of(rng.random((K, 2)), 0.1)
    solution = Solution(theta, solution.covariance)
    return Model(np.arange(10, 16), n, n // 2, solution, np.flatnonzero(n == 0), kin)


@pytest.mark.parametrize(
    ("candidates", "exclude", "rows"),
    [
        (None, None, None),
        (None, [], None),
        ([14, 10, 99], None, [0, 4]),
        (None, [14, 10, 99], [1, 2, 3, 5]),
    ],
)
def test_what_may_be_shown_follows_from_what_was_asked(
    candidates: list[int] | None, exclude: list[int] | None, rows: list[int] | None
) -> None:
    found = allowed(np.arange(10, 16), candidates, exclude)
    assert (None if found is None else found.tolist()) == rows


@pytest.mark.parametrize("name", ["linucb", "shared-linucb", "popularity", "random"])
def test_a_part_ranks_its_arms_in_the_order_of_the_whole(name: str) -> None:
    whole, rows = model(), np.array([1, 3, 4])
    few = part(whole, rows)
    X, seeds = np.random.default_rng(6).random((20, D)), seeds_of([f"d-{i}" for i in range(20)])
    policy = Policy(name, 0.3)
    # Without kin, so that no product above narrows the bonus of one below.
    slates = rank(policy, whole._replace(kin=None), X, seeds, K)
    found = rank(policy, few._replace(kin=None), X, seeds, K)
    for slate, mine in zip(slates, found, strict=True):
        expected = [item.product_id for item in slate if item.product_id in (11, 13, 14)]
        assert [item.product_id for item in mine] == expected
    assert few.untrained.tolist() == [0, 2]
    assert few.kin is not None
    assert part(whole, None) is whole
