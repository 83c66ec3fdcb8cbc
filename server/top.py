"""The best of many scores, row by row, and fair where they tie. Pure."""

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.arm_statistics import Floats, Integers

Words = NDArray[np.uint64]

FEW: Final = 8
"""So many are found faster one after the other: a quick search each."""

_EVEN: Final = 1.5 * 2.0**12
"""Next to it numbers stand 2⁻⁴⁰ apart: beyond any rounding of a score, far below what tells."""


def top_k(scores: Floats, seeds: Words, arms: Integers, k: int) -> Integers:
    """Indices of the k highest scores of each row (N × k), ties broken by `hashed`.

    Args:
        scores: N × K, at least k of each row finite and the others -inf.
        seeds: N.
        arms: K.
        k: at least 1.
    """
    N, K = scores.shape
    k = min(k, K)
    # With the best of the rest as well, every tie that matters stands between two neighbours.
    kept = min(k + 1, K)
    at = _one_by_one(scores, kept) if kept <= FEW else _sorted(scores, kept)
    values = scores.take(at)
    best: Integers = at[:, :k] - row_starts(N, K)
    tied = values[:, 1:] == values[:, :-1]
    if np.count_nonzero(tied):
        for row in np.flatnonzero(tied.any(axis=1)):
            eligible = np.flatnonzero(scores[row] >= scores[row, best[row, -1]])
            ties = hashed(seeds[row : row + 1], arms[eligible])[0]
            best[row] = eligible[np.lexsort((ties, -scores[row, eligible]))[:k]]
    return best


def even(scores: Floats) -> Floats:
    """The scores rounded to 2⁻⁴⁰, in place: arms that are alike then tie, as `top_k` needs it.

    A matrix product may round differently from one column to the next, and for one visit than for
    many, so without this their order would be that of the columns, and another when it is computed
    again.
    """
    scores += _EVEN
    scores -= _EVEN
    return scores


def _one_by_one(scores: Floats, count: int) -> Integers:
    """Flat indices of each row's highest scores, N × count, in their order; of equals any."""
    left, starts = scores.copy(), row_starts(*scores.shape)[:, 0]
    flat, at = left.reshape(-1), np.empty((count, len(scores)), np.int64)
    for best in at:
        left.argmax(axis=1, out=best)
        best += starts
        flat[best] = -np.inf
    return at.T


def _sorted(scores: Floats, count: int) -> Integers:
    """The same, in a time that does not grow with their number."""
    N, K = scores.shape
    rest = K - count
    # Values are divided several times as fast as their indices.
    least = np.partition(scores, rest, axis=1)[:, rest, None]
    flat = np.flatnonzero(scores >= least)
    if len(flat) == N * count:
        at = flat.reshape(N, count)
    else:  # the least stands in a row more than once
        at = scores.argpartition(rest, axis=1)[:, rest:] + row_starts(N, K)
    order = scores.take(at).argsort(axis=1)[:, ::-1] + row_starts(N, count)
    found: Integers = at.take(order)
    return found


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
