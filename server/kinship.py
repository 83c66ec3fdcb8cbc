"""Products of one kind on a slate: what one of them teaches, the others need not. Pure.

A slate of five is examined from the top, so whoever chooses the second product knows that the
outcome of the first will be known, though not what it is. An outcome narrows the variance whatever
it is, so the bonus of a product is counted with those above it already learned: Desautels, Krause
and Burdick 2014, "Parallelizing Exploration-Exploitation Tradeoffs in Gaussian Process Bandit
Optimization" (GP-BUCB). Without it, products that have nothing but the same high uncertainty fill
the slate together, and five outcomes say what one would have said.

With v_a the variance of θ_a·x, σ² that of a reward, and c_ab the correlation of θ_a·x and θ_b·x, an
outcome of a leaves of b

    v_b (1 - c_ab² v_a / (v_a + σ²))

**Approximation:** c_ab is taken for cos(z_a, z_b), as if arms had nothing of their own. Before any
outcome it is cos(z_a, z_b) √(s_a s_b), with s_a the part of v_a that is shared,

    s_a = ω²|x|²|z_a|² / (ω²|x|²|z_a|² + τ² (|x|² + ρ))

which is 0.69 on average with the default variances and the prepared products: of one kind they
narrow each other half as much as is counted here. Slates are none the worse for it
(`docs/model.md`). Of the posterior c_ab would need the covariance of W for every context.
"""

from typing import Final, NamedTuple

import numpy as np

from server.top import Words, even, row_starts, top_k
from shared.arm_statistics import Floats, Integers

KNOWN: Final = 0.1
"""A product with v < `KNOWN` σ² teaches little: its outcome narrows the bonus of another one by a
twentieth at most. A slate of such is left as it is, which is what most are once the model has
learned, and costs a quarter of the time."""


class Kin(NamedTuple):
    """What arms that are solved together say of each other."""

    directions: Floats
    """z_a / |z_a|, K × p; zeros for a product without features."""
    sigma2: float

    @classmethod
    def of(cls, Z: Floats, sigma2: float) -> "Kin":
        """Of these product features (K × p)."""
        lengths = np.sqrt(np.einsum("ij,ij->i", Z, Z))[:, None]
        return cls(Z / np.where(lengths > 0.0, lengths, 1.0), sigma2)

    def only(self, rows: Integers) -> "Kin":
        """Of these arms."""
        return Kin(self.directions[rows], self.sigma2)


def instructive(bonus: Floats, top: Integers, alpha: float, kin: Kin) -> Integers:
    """Indices of the visits whose slate has something to learn: the others are left as they are.

    Args:
        bonus: of the K arms for N visits, N × K.
        top: the slates that they get by their scores alone, N × k.
        alpha: deviations in a bonus, above 0.
        kin: of the K arms.
    """
    least = alpha * np.sqrt(KNOWN * kin.sigma2)
    shown = bonus.take(top + row_starts(*bonus.shape))
    rows: Integers = np.flatnonzero((shown > least).any(axis=1))
    return rows


def narrowed_bonus(
    mean: Floats, bonus: Floats, alpha: float, kin: Kin, seeds: Words, arms: Integers, k: int
) -> Floats:
    """The bonus of every product given the outcomes of those chosen above it, N × K.

    The slate is chosen greedily: after each choice the bonuses of the rest shrink. A chosen product
    keeps the bonus it was chosen with, the others the one left after the last choice. So the best k
    by mean + this are the slate.

    Args:
        mean: θ_a·x of the K arms for N visits, N × K.
        bonus: α √v_a, N × K.
        alpha: deviations in a bonus, above 0.
        kin: of the K arms.
        seeds: N, for ties.
        arms: product_ids, K.
        k: length of the slates.
    """
    left, waiting = bonus.copy(), mean.copy()  # of those that can still be chosen
    each = np.arange(len(mean))
    chosen = np.empty((len(mean), min(k, len(arms))), np.int64)
    counted = np.empty(chosen.shape)
    for rank in range(chosen.shape[1]):
        best = top_k(even(waiting + left), seeds, arms, 1)[:, 0]
        own = left[each, best]
        chosen[:, rank], counted[:, rank] = best, own
        waiting[each, best] = -np.inf
        if rank + 1 < chosen.shape[1]:
            left *= _narrowing(kin, best, own / alpha)
    np.put_along_axis(left, chosen, counted, 1)
    return left


def _narrowing(kin: Kin, known: Integers, deviations: Floats) -> Floats:
    """What an outcome of each row's known product leaves of all deviations, N × K."""
    variances = deviations * deviations
    factors = kin.directions[known] @ kin.directions.T
    factors *= factors
    factors *= (-variances / (variances + kin.sigma2))[:, None]
    factors += 1.0
    return np.sqrt(factors, out=factors)
