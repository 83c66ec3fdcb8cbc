"""A model is brought to each view, and to no outcome beyond it."""

import numpy as np
import pytest

from reco.past_models import PastModels, chains
from server.scorer import Policy
from shared.catalogue import DataSet
from shared.settings import LAMBDA
from tests.unit.reco.logged import PARTITIONS, Logged

VIEWS = [[3, 10], [10, 2], [4, 10], [10, 10], [11, 10], [10, 12]]
"""By their sums 13, 12, 14, 20, 21 and 22."""


def test_views_that_follow_one_another_are_one_chain() -> None:
    assert chains([]) == []
    assert chains([[0, 0], [0, 0], [0, 1], [2, 1]]) == [[0, 1, 2, 3]]


def test_views_of_which_each_is_ahead_somewhere_are_apart() -> None:
    views = sorted(VIEWS, key=sum)
    found = [[views[i] for i in chain] for chain in chains(views)]
    assert found == [[[10, 2], [10, 10], [11, 10]], [[3, 10], [4, 10], [10, 12]]]


@pytest.mark.parametrize("seed", range(5))
def test_in_a_chain_no_view_is_behind_the_one_before(seed: int) -> None:
    rng = np.random.default_rng(seed)
    walks = [rng.integers(0, 2, (50, 4)).cumsum(axis=0).tolist() for _ in range(3)]
    views = sorted((view for walk in walks for view in walk), key=sum)
    found = chains(views)
    assert sorted(i for chain in found for i in chain) == list(range(150))
    for chain in found:
        assert (np.diff([views[i] for i in chain], axis=0) >= 0).all()


def test_views_of_other_lengths_are_apart() -> None:
    assert chains([[1], [1, 1], [2]]) == [[0, 2], [1]]


def test_a_model_that_was_brought_forward_is_that_of_the_view_alone(data: DataSet) -> None:
    logged = Logged(data, Policy("random"), gamma=0.95, visits=60)
    ends = [len(logged.records.get(partition, [])) for partition in range(PARTITIONS)]
    moved = logged.models()
    for share in (0.3, 0.5, 1.0):
        view = [int(share * end) for end in ends]
        moved.advance(view)
        fresh = logged.models()
        fresh.advance(view)
        for mine, its in zip(moved.model.solution, fresh.model.solution, strict=True):
            np.testing.assert_allclose(mine, its, rtol=0, atol=1e-12)
        assert moved.model.n.sum() == sum(view)


def test_other_products_are_ranked_with_all_that_is_known_of_them(data: DataSet) -> None:
    logged = Logged(data, Policy("random"), visits=60)
    ends = [len(logged.records.get(partition, [])) for partition in range(PARTITIONS)]
    few = data.arms[::3]
    models = logged.models()
    models.advance(ends)
    models.rank_these(few)
    other = PastModels(few, logged.rules, logged.records, LAMBDA, {})
    other.advance(ends)
    assert models.model.arms.tolist() == few
    assert models.model.n.tolist() == other.model.n.tolist()
    assert models.model.untrained.tolist() == other.model.untrained.tolist()
    np.testing.assert_array_equal(models.model.solution.theta, other.model.solution.theta)
