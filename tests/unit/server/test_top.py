from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import server.top
from server.scorer import seeds_of
from server.top import top_k


@given(
    values=st.lists(st.integers(0, 4), min_size=1, max_size=30),
    k=st.integers(1, 40),
    decision=st.text(max_size=5),
)
@settings(max_examples=200, deadline=None)
def test_the_top_k_are_the_highest_and_depend_on_the_set_of_arms_only(
    values: list[int], k: int, decision: str
) -> None:
    words = seeds_of([decision])
    arms = np.arange(10, 10 + len(values))
    scores = np.array([values], np.float64)
    [top] = top_k(scores, words, arms, k)
    assert len(set(top.tolist())) == len(top) == min(k, len(values))
    assert scores[0, top].tolist() == sorted(map(float, values), reverse=True)[:k]
    # Where an arm stands in the catalogue must not favour it.
    [mirrored] = top_k(scores[:, ::-1].copy(), words, arms[::-1].copy(), k)
    assert arms[top].tolist() == arms[::-1][mirrored].tolist()


def test_a_tie_across_the_edge_of_the_slate_is_broken_fairly_below_the_winner() -> None:
    scores = np.tile([0.5, 0.5, 0.9, 0.5, 0.1], (3_000, 1))
    top = top_k(scores, seeds_of([f"decision-{i}" for i in range(3_000)]), np.arange(5), 2)
    assert (top[:, 0] == 2).all()
    second = Counter(top[:, 1].tolist())
    assert set(second) == {0, 1, 3}
    assert stats.chisquare(list(second.values())).pvalue > 1e-3


@given(
    rows=st.integers(1, 9).flatmap(
        lambda width: st.lists(
            st.lists(st.integers(0, 5), min_size=width, max_size=width), min_size=1, max_size=6
        )
    ),
    k=st.integers(1, 12),
)
@settings(max_examples=200, deadline=None)
def test_few_and_many_are_found_alike(rows: list[list[int]], k: int) -> None:
    scores = np.array(rows, np.float64)
    words, arms = seeds_of([f"d-{row}" for row in range(len(rows))]), np.arange(scores.shape[1])
    found = []
    for few in (0, 100):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server.top, "FEW", few)
            found.append(top_k(scores, words, arms, k).tolist())
    assert found[0] == found[1]
