"""The best of many scores, row by row, and fair where they tie. Pure."""

import functools

import numpy as np
from numpy.typing import NDArray

from shared.arm_statistics import Floats, Integers

Words = NDArray[np.uint64]


def top_k(scores: Floats, seeds: Words, arms: Integers, k: int) -> Integers:
    """Indices of the k highest scores of each row (N × k), ties broken by `hashed`."""
    N, K = scores.shape
    k = min(k, K)
    # With the best of the rest as well, every tie that matters stands between two neighbours.
    kept = min(k + 1, K)
    at = _highest(scores, kept)
    values = scores.take(at)
    order = values.argsort(axis=1)[:, ::-1] + row_starts(N, kept)
    best: Integers = at.take(order)[:, :k] - row_starts(N, K)
    values = values.take(order)
    tied = values[:, 1:] == values[:, :-1]
    if np.count_nonzero(tied):
        for row in np.flatnonzero(tied.any(axis=1)):
            eligible = np.flatnonzero(scores[row] >= scores[row, best[row, -1]])
            ties = hashed(seeds[row : row + 1], arms[eligible])[0]
            best[row] = eligible[np.lexsort((ties, -scores[row, eligible]))[:k]]
    return best


def _highest(scores: Floats, count: int) -> Integers:
    """Flat indices of each row's highest scores, N × count, in no order; of equals any."""
    N, K = scores.shape
    rest = K - count
    # Values are divided several times as fast as their indices.
    least = np.partition(scores, rest, axis=1)[:, rest, None]
    at = np.flatnonzero(scores >= least)
    if len(at) != N * count:  # the least stands in a row more than once
        at = scores.argpartition(rest, axis=1)[:, rest:] + row_starts(N, K)
    return at.reshape(N, count)


@functools.lru_cache(maxsize=1024)
def row_starts(rows: int, columns: int) -> Integers:
    """Flat index of each row's first element, N × 1: `take` is quicker than pairs of indices."""
    return np.arange(rows)[:, None] * columns


def hashed(seeds: Words, arms: Integers) -> Words:
    """A well-mixed word for each (decision, product): the finaliser of SplitMix64.

    Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number Generators".
    `arms` is K, or N × K' with a row of its own for each seed.
    """
    word: Words = seeds[:, None] + arms.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
