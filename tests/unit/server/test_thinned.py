import itertools

from hypothesis import given
from hypothesis import strategies as st

from server.thinned import Thinned


@given(most=st.integers(2, 20), count=st.integers(0, 500))
def test_a_thinned_series_is_short_even_and_whole(most: int, count: int) -> None:
    series = Thinned[int](most)
    for value in range(count):
        series.append(value)
    kept = series.values()
    assert len(kept) <= most + 1
    assert kept[:1] + kept[-1:] == ([0, count - 1] if count else [])
    steps = {b - a for a, b in itertools.pairwise(kept[:-1])}
    assert len(steps) <= 1  # even, but for the last step
    if count:
        assert len(kept) >= min(count, most // 2)
