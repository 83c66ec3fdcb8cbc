"""The probability of a slate under Thompson sampling, by quadrature.

Every arm draws a score S_a ~ N(μ_a, s_a²), independent of the others', and the k highest are shown
in their order. With f_a and Φ_a the density and distribution function of S_a, the scores of the
first r - 1 ranks lie in order above t with probability

    H_0 = 1,      H_r(t) = ∫_t^∞ f_{a_r}(s) H_{r-1}(s) ds,

and the slate begins with a_1 … a_r with probability

    P_r = ∫ f_{a_r}(s) H_{r-1}(s) Π_{j not among a_1 … a_r} Φ_j(s) ds.

So k one-dimensional integrals suffice; the propensity of rank r is P_r / P_{r-1}. All of them are
taken on one grid of Gauss-Legendre panels, none wider than twice the deviation of any arm whose
distribution function moves inside it. The relative error is below 1e-6 for slates of a probability
above 1e-8 and below 1e-4 down to 1e-12 (tested); of what is rarer it is only known that it is rare.
"""

import functools
from typing import Final, NamedTuple

import numpy as np
from scipy.special import log_ndtr, ndtr

from shared.arm_statistics import Floats, Integers

_NODES: Final = 12
_WIDTH: Final = 2.0
"""Greatest width of a panel, in deviations of the arms that move inside it."""
_REACH: Final = 8.0
"""Deviations from its mean beyond which a distribution function is 0 or 1, to 1e-15."""
_BISECTIONS: Final = 12
_HALVINGS: Final = 40
"""Of a panel: enough for the narrowest that `_LEAST` asks for, with means thousands apart."""
_LEAST: Final = 1e-9
"""Least deviation, or part of the widest where that is above 1: what is below counts as it. Against
the others such a score does not move."""
_ROOT_2PI: Final = float(np.sqrt(2.0 * np.pi))


class _Grid(NamedTuple):
    """Panels from left to right: nodes and weights, P × m."""

    nodes: Floats
    weights: Floats
    half_widths: Floats
    """P × 1"""


def propensities(mean: Floats, deviation: Floats, slate: Integers) -> Floats:
    """Probability of each rank's arm given the ranks above it, k.

    Args:
        mean: of every arm's score, K.
        deviation: of every arm's score, K, above 0.
        slate: indices of the arms shown, k.
    """
    if not deviation.any():
        return np.ones(len(slate))  # nothing is drawn
    deviation = _resolvable(deviation)
    reach = _REACH * deviation
    others = np.delete(np.arange(len(mean)), slate)
    low, high = float((mean - reach)[slate].min()), float((mean + reach)[slate].max())
    if len(others):
        low = _lowest(mean[others], deviation[others])
    prefix = np.zeros(len(slate))
    if low < high:
        grid = _grid(mean, deviation, low, high)
        # Of the others, those that can reach the grid; all that no rank shows stay below.
        others = others[(mean + reach)[others] > low]
        lower = [_below(grid, mean[others], deviation[others])]
        for arm in slate[:0:-1]:
            lower.append(lower[-1] * _below(grid, mean[[arm]], deviation[[arm]]))
        above = np.ones_like(grid.nodes)
        for rank, arm in enumerate(slate.tolist()):
            f = _density(grid, float(mean[arm]), float(deviation[arm])) * above
            prefix[rank] = float((f * lower[len(slate) - 1 - rank] * grid.weights).sum())
            above = _integral_above(grid, f)
    return _conditional(prefix)


def next_probabilities(mean: Floats, deviation: Floats, slate: Integers) -> Floats:
    """Probability of every arm at each rank, given the ranks of the slate above it, k × K.

    Rows add up to 1 as far as the ranks above have a probability that can be told from 0.
    """
    deviation = _resolvable(deviation)
    reach = _REACH * deviation
    # However many of the k - 1 arms above are the highest, one at least as high as this is left.
    low = float(np.sort(mean - reach)[-len(slate)])
    grid = _grid(mean, deviation, low, float((mean + reach).max()))
    result = np.zeros((len(slate), len(mean)))
    z = (grid.nodes - mean[:, None, None]) / deviation[:, None, None]
    log_cdf = log_ndtr(z)
    # Π of the others' Φ times the own density: by logarithms, since Φ itself may be 0.
    log_density = -0.5 * z * z - np.log(deviation * _ROOT_2PI)[:, None, None]
    hazard = log_density - log_cdf
    lower, above = log_cdf.sum(axis=0), np.ones_like(grid.nodes)
    left = np.ones(len(mean), np.bool_)
    for rank, arm in enumerate(slate.tolist()):
        found = np.einsum("apm,pm->a", np.exp(hazard[left] + lower), above * grid.weights)
        total = found.sum()
        result[rank, left] = found / total if total > 0.0 else 0.0
        f = _density(grid, float(mean[arm]), float(deviation[arm])) * above
        above, lower = _integral_above(grid, f), lower - log_cdf[arm]
        left[arm] = False
    return result


def _resolvable(deviation: Floats) -> Floats:
    least = _LEAST * max(1.0, float(deviation.max()))
    return np.maximum(deviation, least)


def _conditional(prefix: Floats) -> Floats:
    before = np.concatenate([[1.0], prefix[:-1]])
    ratio: Floats = np.divide(prefix, before, out=np.zeros_like(prefix), where=before > 0.0)
    return ratio.clip(max=1.0)


def _lowest(mean: Floats, deviation: Floats) -> float:
    """A score that the highest of these arms exceeds, but for a chance of e⁻⁴⁵."""
    low = float((mean - _REACH * deviation).max())
    high = float((mean + _REACH * deviation).max())
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        certain = log_ndtr((middle - mean) / deviation).sum() < -45.0
        low, high = (middle, high) if certain else (low, middle)
    return low


def _grid(mean: Floats, deviation: Floats, low: float, high: float) -> _Grid:
    """Panels between two scores, as narrow as the arms that move there demand."""
    reach = _REACH * deviation
    edges = np.linspace(low, high, 5)
    for _ in range(_HALVINGS):
        left, right = edges[:-1], edges[1:]
        moves = ((mean - reach)[:, None] < right) & ((mean + reach)[:, None] > left)
        narrowest = np.where(moves, deviation[:, None], np.inf).min(axis=0)
        wide = right - left > _WIDTH * narrowest
        if not wide.any():
            break
        edges = np.sort(np.concatenate([edges, (left + right)[wide] / 2.0]))
    points, weights, _ = _rule()
    half = (np.diff(edges) / 2.0)[:, None]
    centre = ((edges[1:] + edges[:-1]) / 2.0)[:, None]
    return _Grid(centre + half * points, half * weights, half)


def _below(grid: _Grid, mean: Floats, deviation: Floats) -> Floats:
    """Probability that all of these arms stay below each node."""
    z = (grid.nodes - mean[:, None, None]) / deviation[:, None, None]
    result: Floats = ndtr(z).prod(axis=0)
    return result


def _density(grid: _Grid, mean: float, deviation: float) -> Floats:
    z = (grid.nodes - mean) / deviation
    result: Floats = np.exp(-0.5 * z * z) / (deviation * _ROOT_2PI)
    return result


def _integral_above(grid: _Grid, f: Floats) -> Floats:
    """∫ f from each node to the right end."""
    whole = (f * grid.weights).sum(axis=1)
    behind = np.concatenate([np.cumsum(whole[:0:-1])[::-1], [0.0]])
    _, _, to_the_right = _rule()
    result: Floats = behind[:, None] + grid.half_widths * (f @ to_the_right.T)
    return result


@functools.cache
def _rule() -> tuple[Floats, Floats, Floats]:
    """Gauss-Legendre nodes and weights on [-1, 1], and the integral from each node to 1 of the
    polynomial through values at the nodes, m × m."""
    points, weights = np.polynomial.legendre.leggauss(_NODES)
    degrees = np.arange(_NODES)
    # The Legendre coefficients of the polynomial through values: exact for the Gauss rule.
    basis = np.polynomial.legendre.legvander(points, _NODES - 1)
    coefficients = (basis * weights[:, None]).T * (degrees + 0.5)[:, None]
    integrals = np.empty((_NODES, _NODES))
    for degree in range(_NODES):
        primitive = np.polynomial.legendre.legint(np.eye(_NODES)[degree])
        at_nodes = np.polynomial.legendre.legval(points, primitive)
        integrals[:, degree] = np.polynomial.legendre.legval(1.0, primitive) - at_nodes
    return points, weights, integrals @ coefficients
