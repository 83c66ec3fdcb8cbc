"""A decision counts if it was among those taken ever since it was made."""

import pytest

from server.sample import Sample, is_among

NAMES = [f"d-{number}" for number in range(1_000)]


def counted(sample: Sample, decided_s: float) -> int:
    """One in how many count, of those made then."""
    found = {name for name in NAMES if sample.counts(name, decided_s)}
    [one_in] = [n for n in (1, 2, 4, 8) if found == {name for name in NAMES if is_among(name, n)}]
    return one_in


def test_fewer_are_a_part_of_more() -> None:
    for one_in in (2, 4, 8):
        fewer = {name for name in NAMES if is_among(name, one_in)}
        assert fewer < {name for name in NAMES if is_among(name, one_in // 2)}
        assert len(fewer) == pytest.approx(len(NAMES) / one_in, rel=0.25)


@pytest.mark.parametrize(
    ("decided_s", "one_in"),
    [
        (0.0, 8),  # it was to be among the fewest that there were since
        (15.0, 8),
        (29.0, 8),
        (31.0, 4),
        (41.0, 2),
        (51.0, 2),
        (61.0, 1),
    ],
)
def test_the_fewest_since_it_was_made_decide(decided_s: float, one_in: int) -> None:
    sample = Sample()
    for now_s, share in [(10, 2), (20, 8), (30, 4), (40, 1), (50, 2), (60, 1)]:
        sample.take(share, float(now_s))
    assert counted(sample, decided_s) == one_in


def test_a_decision_counts_no_longer_once_fewer_are_taken() -> None:
    sample = Sample()
    sample.take(4, 10.0)
    assert counted(sample, 0.0) == 4
    assert counted(sample, 11.0) == 4
