"""The best of many scores, row by row, and fair where they tie. Pure."""

import functools

import numpy as np
from numpy.typing import NDArray

from shared.arm_statistics import Floats, Integers

Words = NDArray[np.uint64]


def top_k(scores: Floats, seeds: Words, arms: Integers, k: int) -> Integers:
    """Indices of the k highest scores of each row (N × k), ties broken by `hashed`."""
    K = scores.shape[1]
    k = min(k, K)
    # With the best of the rest as well, every tie that matters stands between two neighbours.
    least = max(K - k - 1, 0)
    chosen = scores.argpartition(least, axis=1)[:, least:]
    values = scores.take(chosen + row_starts(*scores.shape))
    order = values.argsort(axis=1)[:, ::-1] + row_starts(*chosen.shape)
    best: Integers = chosen.take(order)[:, :k]
    values = values.take(order)
    tied = values[:, 1:] == values[:, :-1]
    if np.count_nonzero(tied):
        for row in np.flatnonzero(tied.any(axis=1)):
            eligible = np.flatnonzero(scores[row] >= scores[row, best[row, -1]])
            ties = hashed(seeds[row : row + 1], arms[eligible])[0]
            best[row] = eligible[np.lexsort((ties, -scores[row, eligible]))[:k]]
    return best


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
