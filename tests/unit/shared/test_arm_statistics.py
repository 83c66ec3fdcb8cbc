"""The sums are bit-identical however the stream is cut, and rows survive storage or are refused."""

import itertools
import math
import zlib
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.arm_statistics import (
    ArmStatistics,
    CorruptRow,
    Floats,
    Integers,
    packed_length,
    row_dtype,
    upper_triangle,
)
from shared.linucb import precision, solve

D = 15


class Events(NamedTuple):
    arms: Integers
    X: Floats
    rewards: Floats
    offsets: Integers

    def part(self, start: int, end: int) -> "Events":
        at = slice(start, end)
        return Events(self.arms[at], self.X[at], self.rewards[at], self.offsets[at])


def history(seed: int, count: int, arms: int, d: int = D) -> Events:
    rng = np.random.default_rng(seed)
    offsets = np.cumsum(rng.integers(1, 4, count))  # gaps, as dead letters leave them
    rewards = (rng.random(count) < 0.14).astype(np.float64)
    return Events(rng.integers(1, arms + 1, count), rng.random((count, d)), rewards, offsets)


def folded(events: Events, cuts: list[int], gamma: float = 1.0) -> ArmStatistics:
    statistics = ArmStatistics(events.X.shape[1], gamma)
    for start, end in itertools.pairwise([0, *cuts, len(events.arms)]):
        statistics.add(*events.part(start, end))
    return statistics


def rows_of(statistics: ArmStatistics) -> dict[int, bytes]:
    return statistics.pack(sorted(statistics.arms))


def by_hand(
    events: Events, gamma: float
) -> dict[int, tuple[list[float], list[float], int, int, int]]:
    """The same sums in plain Python floats, one outcome after the other."""
    rows, columns = (index.tolist() for index in upper_triangle(events.X.shape[1]))
    state: dict[int, tuple[list[float], list[float], int, int, int]] = {}
    for arm, x, reward, offset in zip(*(part.tolist() for part in events), strict=True):
        b, xx, n, clicks, last = state.get(arm, ([0.0] * len(x), [0.0] * len(rows), 0, 0, offset))
        factor = math.pow(gamma, offset - last)
        b = [factor * old + reward * value for old, value in zip(b, x, strict=True)]
        xx = [factor * old + x[i] * x[j] for old, i, j in zip(xx, rows, columns, strict=True)]
        state[arm] = (b, xx, n + 1, clicks + (reward > 0), offset)
    return state


@pytest.mark.parametrize("gamma", [1.0, 0.999, 0.5])
@pytest.mark.parametrize("arms", [1, 3, 200])
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_however_the_stream_is_cut_the_rows_are_bit_identical(
    data: st.DataObject, arms: int, gamma: float
) -> None:
    count = data.draw(st.integers(0, 700))
    events = history(data.draw(st.integers(0, 99)), count, arms, d=4)
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=20)))
    assert rows_of(folded(events, cuts, gamma)) == rows_of(folded(events, [], gamma))


@pytest.mark.parametrize("gamma", [1.0, 0.99])
@pytest.mark.parametrize("arms", [2, 50])
def test_the_sums_are_those_of_one_addition_after_the_other(arms: int, gamma: float) -> None:
    events = history(7, 600, arms)
    statistics = folded(events, [100, 101, 400], gamma)
    expected = by_hand(events, gamma)
    assert set(statistics.arms) == set(expected)
    for arm, (b, xx, n, clicks, last) in expected.items():
        row = statistics.index[arm]
        assert statistics.b[row].tolist() == b
        assert statistics.xx[row].tolist() == xx
        assert (statistics.n[row], statistics.clicks[row]) == (n, clicks)
        assert statistics.last_offset[row] == last


def test_storing_and_loading_between_batches_changes_no_bit() -> None:
    events = history(3, 500, 20)
    straight = folded(events, [], gamma=0.999)
    interrupted = ArmStatistics(D, gamma=0.999)
    for start in range(0, 500, 70):
        resumed = ArmStatistics(D, gamma=0.999)
        resumed.load(rows_of(interrupted))
        resumed.add(*events.part(start, start + 70))
        interrupted = resumed
    assert rows_of(interrupted) == rows_of(straight)


def test_the_bits_depend_on_the_order_so_the_comparison_can_fail() -> None:
    events = history(5, 600, 1)
    backwards = events._replace(X=events.X[::-1].copy())
    assert rows_of(folded(events, [])) != rows_of(folded(backwards, []))


def test_a_row_has_1116_bytes_at_15_features_and_is_little_endian() -> None:
    statistics = folded(history(1, 10, 1), [])
    [row] = statistics.pack([1]).values()
    assert len(row) == row_dtype(D).itemsize == 1116
    assert row[:4] == b"ARMS"
    assert int.from_bytes(row[8:16], "little") == 10
    blank = row[:32] + bytes(4) + row[36:]
    assert int.from_bytes(row[32:36], "little") == zlib.crc32(blank)
    assert np.frombuffer(row[36:], "<f8").tolist() == [
        *statistics.b[0].tolist(),
        *statistics.xx[0].tolist(),
    ]


@given(
    seed=st.integers(0, 999),
    count=st.integers(1, 60),
    arms=st.integers(1, 30),
    d=st.integers(1, 20),
)
@settings(max_examples=40, deadline=None)
def test_what_is_packed_is_what_is_loaded(seed: int, count: int, arms: int, d: int) -> None:
    statistics = folded(history(seed, count, arms, d), [])
    rows = statistics.pack(reversed(statistics.arms))
    copy = ArmStatistics(d)
    copy.load(rows)
    assert list(rows) == copy.arms
    assert copy.pack(statistics.arms) == statistics.pack(statistics.arms)


def test_loading_replaces_an_arm_that_is_there_and_leaves_the_others() -> None:
    old, new = folded(history(1, 50, 3), []), folded(history(2, 50, 3), [])
    before = rows_of(old)
    old.load(new.pack([2]))
    assert rows_of(old) == {**before, **new.pack([2])}


@given(arm=st.sampled_from([1, 2, 3]), at=st.integers(0, 1115), bit=st.integers(0, 7))
@settings(max_examples=200, deadline=None)
def test_a_single_flipped_bit_refuses_the_whole_load(arm: int, at: int, bit: int) -> None:
    rows = rows_of(folded(history(1, 50, 3), []))
    damaged = bytearray(rows[arm])
    damaged[at] ^= 1 << bit
    statistics = folded(history(2, 50, 3), [])
    before = rows_of(statistics)
    with pytest.raises(CorruptRow, match=f"row of arm {arm}"):
        statistics.load({**rows, arm: bytes(damaged)})
    assert rows_of(statistics) == before


@pytest.mark.parametrize("size", [0, 1115, 1117])
def test_a_row_of_another_length_is_refused(size: int) -> None:
    rows = rows_of(folded(history(1, 50, 2), []))
    statistics = ArmStatistics(D)
    with pytest.raises(CorruptRow, match=f"row of arm 2: {size} bytes; d = 15 takes 1116"):
        statistics.load({**rows, 2: (rows[2] * 2)[:size]})
    assert len(statistics) == 0


def test_nothing_added_and_nothing_loaded_is_nothing() -> None:
    statistics = ArmStatistics(2)
    statistics.add(np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0), np.zeros(0, np.int64))
    statistics.load({})
    assert (len(statistics), statistics.arms, statistics.pack([])) == (0, [], {})
    assert (statistics.b.shape, statistics.xx.shape) == ((0, 2), (0, 3))


@pytest.mark.parametrize(("d", "gamma"), [(0, 1.0), (3, 0.0), (3, 1.1), (3, math.nan)])
def test_senseless_parameters_are_refused(d: int, gamma: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        ArmStatistics(d, gamma)


def test_outcomes_count_less_the_longer_ago_they_are() -> None:
    statistics = ArmStatistics(1, gamma=0.5)
    statistics.add(np.array([9]), np.array([[2.0]]), np.array([1.0]), np.array([100]))
    b, xx = statistics.decayed(103)
    assert (b.tolist(), xx.tolist()) == ([[0.25]], [[0.5]])
    statistics.add(np.array([9]), np.array([[1.0]]), np.array([1.0]), np.array([102]))
    assert (statistics.b.tolist(), statistics.xx.tolist()) == ([[1.5]], [[2.0]])
    assert statistics.n.tolist() == [2]


def test_without_forgetting_the_position_does_not_matter() -> None:
    statistics = folded(history(1, 50, 3), [])
    b, xx = statistics.decayed(10**12)
    assert np.array_equal(b, statistics.b)
    assert np.array_equal(xx, statistics.xx)


def test_clicks_are_counted_apart_from_rewards_and_arms_may_be_any_number() -> None:
    statistics = ArmStatistics(1)
    arms = np.array([-5, 10**15, -5, -5])
    statistics.add(arms, np.ones((4, 1)), np.array([0.25, 0.0, 1.0, 0.0]), np.arange(4))
    assert statistics.arms == [-5, 10**15]
    assert statistics.n.tolist() == [3, 1]
    assert statistics.clicks.tolist() == [2, 0]
    assert statistics.b.tolist() == [[1.25], [0.0]]
    assert statistics.last_offset.tolist() == [3, 1]


contexts = st.lists(
    st.lists(st.floats(-1000, 1000, allow_subnormal=False), min_size=3, max_size=3),
    min_size=1,
    max_size=40,
)


@given(contexts)
@settings(max_examples=100, deadline=None)
def test_ridge_plus_sum_is_symmetric_positive_definite(rows: list[list[float]]) -> None:
    X = np.array(rows)
    statistics = ArmStatistics(3)
    count = len(X)
    statistics.add(np.ones(count, np.int64), X, np.zeros(count), np.arange(count))
    [A] = precision(statistics.xx, 3, 1.0)
    assert np.array_equal(A, A.T)
    # Rounding is relative to the largest element; λ = 1 stands far above it up to |x| = 1,000.
    assert np.linalg.eigvalsh(A).min() > 0.5
    np.linalg.cholesky(A)


def test_after_a_million_outcomes_an_arm_the_sums_are_exact_to_12_digits() -> None:
    rng = np.random.default_rng(11)
    d, repeats = 3, 1_000
    X = np.tile(rng.random((1_000, d)), (repeats, 1))
    rewards = np.tile((rng.random(1_000) < 0.14).astype(np.float64), repeats)
    count = len(X)
    statistics = ArmStatistics(d)
    statistics.add(np.ones(count, np.int64), X, rewards, np.arange(count))
    rows, columns = upper_triangle(d)
    exact = [
        float(sum(Fraction(x[i]) * Fraction(x[j]) for x in X[:1_000].tolist()) * repeats)
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
    ]
    np.testing.assert_allclose(statistics.xx[0], exact, rtol=1e-12)
    assert statistics.n.tolist() == [count]
    assert len(exact) == packed_length(d)
    # Well conditioned still, and θ is that of least squares.
    [A] = precision(statistics.xx, d, 1.0)
    assert np.linalg.cond(A) < 1e3
    theta = solve(statistics.b, statistics.xx, 1.0).theta[0]
    expected = np.linalg.solve((X.T @ X + np.eye(d)), X.T @ rewards)
    np.testing.assert_allclose(theta, expected, rtol=1e-10)
