"""How likely a slate was: the probability of each rank's product, given the ranks above it.

Two ways to randomise are known here. A policy that mixes its own order with chance ("the best of
the rest, or any of the rest") has propensities in closed form. Thompson's has none; those are
computed by quadrature (`server.thompson`).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.arm_statistics import Floats, Integers

Flags = NDArray[np.bool_]


class Mixture(NamedTuple):
    """What stands at each rank, given the ranks above: the best of the rest, or any of the rest."""

    best: Integers
    """Index of the best arm that no rank above shows, N × k."""
    share: Floats
    """Probability that the best is taken; else any of the rest, each as likely. N × k"""


def mixed_slates(best: Integers, anyhow: Integers, explores: Flags) -> Integers:
    """Slates that take the next of `anyhow` where they explore, and the next of `best` elsewhere.

    As `anyhow` is a random order, its first arm that is not shown yet is any of the rest with equal
    probability, whatever the ranks above are.

    Args:
        best: the policy's own order, its first k, N × k.
        anyhow: a random order's first k, N × k.
        explores: where chance decides, N × k.
    """
    slates = best.copy()
    for place in range(best.shape[1]):
        order = np.where(explores[:, place, None], anyhow, best)
        slates[:, place] = _first_not_in(order, slates[:, :place])
    return slates


def best_of_the_rest(best: Integers, slates: Integers) -> Integers:
    """For each rank of the slates, the policy's first arm that the ranks above do not show, N × k.

    A slate of k can hide at most k - 1 of the first k, so they suffice.
    """
    following = best.copy()
    for place in range(1, best.shape[1]):
        following[:, place] = _first_not_in(best, slates[:, :place])
    return following


def _first_not_in(order: Integers, above: Integers) -> Integers:
    """The first of each row's order that the same row of `above` does not hold, N."""
    held = (order[:, :, None] == above[:, None, :]).any(axis=2)
    first: Integers = np.take_along_axis(order, held.argmin(axis=1)[:, None], axis=1)[:, 0]
    return first


def by_rank(best: Integers, slates: Integers, epsilon: float) -> Mixture:
    """Chance decides at each rank anew, with probability ε."""
    share = np.full(slates.shape, 1.0 - epsilon)
    return Mixture(best_of_the_rest(best, slates), share)


def by_slate(best: Integers, slates: Integers, epsilon: float, arms: int) -> Mixture:
    """Chance decides about the whole slate once, with probability ε.

    P(first r) = (1-ε)·[they are the best r] + ε·Π 1/(K-i); a slate that left the best order can
    only be one of chance.
    """
    count, k = slates.shape
    still_best = np.logical_and.accumulate(slates == best, axis=1)
    above = np.concatenate([np.ones((count, 1), np.bool_), still_best[:, :-1]], axis=1)
    by_chance = np.concatenate([[1.0], np.multiply.accumulate(1.0 / remaining(arms, k))[:-1]])
    own = (1.0 - epsilon) * above
    either = own + epsilon * by_chance
    share = np.divide(own, either, out=np.zeros_like(either), where=either > 0.0)
    return Mixture(best_of_the_rest(best, slates), share)


def remaining(arms: int, k: int) -> Floats:
    """How many arms the ranks above leave, for each of k ranks."""
    return arms - np.arange(k, dtype=np.float64)


def propensities(mixture: Mixture, slates: Integers, arms: int) -> Floats:
    """Probability of each rank's product given the ranks above it, N × k."""
    chance = (1.0 - mixture.share) / remaining(arms, slates.shape[1])
    taken: Floats = np.where(slates == mixture.best, mixture.share, 0.0) + chance
    return taken


def expectation(mixture: Mixture, slates: Integers, values: Floats) -> Floats:
    """Expected value of the next arm, given the ranks above it, N × k.

    Args:
        mixture: of these slates.
        slates: N × k.
        values: of every arm, N × K.
    """
    count, k = slates.shape
    row = np.arange(count)[:, None]
    shown = np.cumsum(values[row, slates], axis=1)
    above = np.concatenate([np.zeros((count, 1)), shown[:, :-1]], axis=1)
    rest = (values.sum(axis=1, keepdims=True) - above) / remaining(values.shape[1], k)
    expected: Floats = mixture.share * values[row, mixture.best] + (1.0 - mixture.share) * rest
    return expected
