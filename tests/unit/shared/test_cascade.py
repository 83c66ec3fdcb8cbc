import pytest

from shared.cascade import cascade, top1


@pytest.mark.parametrize(
    ("clicked_rank", "expected"),
    [
        (1, [(1, 1)]),
        (2, [(1, 0), (2, 1)]),
        (3, [(1, 0), (2, 0), (3, 1)]),
        (5, [(1, 0), (2, 0), (3, 0), (4, 0), (5, 1)]),
    ],
)
def test_a_click_says_no_to_those_above_and_nothing_of_those_below(
    clicked_rank: int, expected: list[tuple[int, int]]
) -> None:
    assert list(cascade(clicked_rank, 5, depth=5)) == expected


@pytest.mark.parametrize(
    ("depth", "slate_length", "ranks"), [(5, 5, 5), (3, 5, 3), (1, 5, 1), (9, 5, 5), (5, 0, 0)]
)
def test_without_a_click_every_examined_rank_gets_a_zero(
    depth: int, slate_length: int, ranks: int
) -> None:
    expected = [(rank, 0) for rank in range(1, ranks + 1)]
    assert list(cascade(None, slate_length, depth)) == expected


def test_a_click_below_the_usual_depth_proves_that_the_shopper_looked_that_far() -> None:
    assert list(cascade(4, 5, depth=2)) == [(1, 0), (2, 0), (3, 0), (4, 1)]


def test_top1_learns_from_the_click_alone_or_from_the_first_rank_alone() -> None:
    assert list(top1(4, 5)) == [(4, 1)]
    assert list(top1(None, 5)) == [(1, 0)]
    assert list(top1(None, 0)) == []


@pytest.mark.parametrize("rank", [0, -1, 6])
def test_a_click_beyond_the_slate_is_refused(rank: int) -> None:
    with pytest.raises(ValueError, match=f"rank {rank} is not on a slate of 5"):
        cascade(rank, 5, depth=5)
    with pytest.raises(ValueError, match=f"rank {rank} is not on a slate of 5"):
        top1(rank, 5)
