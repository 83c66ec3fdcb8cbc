"""Arms that learn from each other: one solve over all rows, for the same solution and scoring.

Product features z_a explain part of what arms like in a context, the rest is the arm's own
(`docs/model.md` has the derivation):

    θ_a = D (W z_a + δ_a)    W_ij ~ N(0, ω²)        δ_a ~ N(0, τ² Λ)        r = θ_a·x + N(0, σ²)

with Λ = I + ρ u uᵀ, where u·x = 1 in every context: what an arm has of its own is a liking that is
the same in all contexts (κ² = ρ τ²), and one for each feature of the context (τ²). D is diagonal:
√ν for a feature of who visits, 1 for one of when. It goes with the context: below, x stands for
D x, and b_a and Σ x xᵀ for their sums. With Λ = L L, P_a = (Σ x xᵀ)_a / σ²,
H_a = (I + τ² L P_a L)⁻¹ and J_a = L H_a L⁻¹, integrating the δ_a out leaves W with

    precision    M = I/ω² + Σ_a P_a J_a ⊗ z_a z_aᵀ
    information  v = Σ_a J_aᵀ b_a/σ² ⊗ z_a

and each arm, W's uncertainty included, with

    θ_a = J_a (W z_a + τ² Λ b_a/σ²)        C_a = τ² L H_a L + J_a (I ⊗ z_aᵀ) M⁻¹ (I ⊗ z_a) J_aᵀ

The result is a function of the rows, whatever was solved before: an arm's terms come from its own
row, blocks of arms are added up in the catalogue's order, and only blocks with a changed arm are
added up again. So a logged decision can be computed again from the log.
"""

import math
from typing import Final, NamedTuple

import msgspec
import numpy as np
from scipy.linalg import get_lapack_funcs

from shared.arm_statistics import Floats, Integers, packed_length, upper_triangle
from shared.features import Roles
from shared.linucb import Solution, unpack

dpotrf, dpotri, dpotrs = get_lapack_funcs(("potrf", "potri", "potrs"), dtype=np.float64)

BLOCK: Final = 128
"""Arms whose terms are added up together. More save additions, fewer save work on a change."""


MOST_PRIOR: Final = 1e5
"""ω² and τ² (1 + ρ) are at most so many σ². With them θ·x is right to 1e-3 at 100 million outcomes
an arm; far beyond, a solve fails for rounding."""


class Hyperparameters(msgspec.Struct, frozen=True):
    """The variances of the model above.

    Raises:
        ValueError: one is not finite or negative, σ² or ν is 0, or σ² is too small beside the
            others (`MOST_PRIOR`).
    """

    tau2: float = 0.002
    omega2: float = 0.015
    sigma2: float = 0.12
    rho: float = 10.0
    nu: float = 0.25

    def __post_init__(self) -> None:
        values = (*self.values(), self.rho, self.nu)
        if not all(math.isfinite(value) and value >= 0.0 for value in values):
            raise ValueError("tau2, omega2, sigma2, rho and nu must be finite and not negative")
        if self.sigma2 == 0.0 or self.nu == 0.0:
            raise ValueError("sigma2 and nu must be above 0")
        if max(self.omega2, self.tau2 * (1.0 + self.rho)) > MOST_PRIOR * self.sigma2:
            raise ValueError(
                f"omega2 and tau2 (1 + rho) must be at most {MOST_PRIOR:,.0f} times sigma2"
            )

    def values(self) -> tuple[float, float, float]:
        """τ², ω², σ²: what the rows are asked for; ρ and ν stay."""
        return self.tau2, self.omega2, self.sigma2

    def with_values(self, tau2: float, omega2: float, sigma2: float) -> "Hyperparameters":
        """Others with the same ρ and ν."""
        return Hyperparameters(tau2, omega2, sigma2, self.rho, self.nu)


class Posterior(NamedTuple):
    """What a solve came to: the arms as they are scored, and what the arms share."""

    solution: Solution
    W: Floats
    """d × p"""
    W_covariance: Floats
    """Upper triangle of M⁻¹, dp × dp; element (i, k) of W is number i·p + k."""
    information: Floats
    """v, d × p"""
    log_determinant: float
    """log |ω² M|"""


class JointModel:
    """The terms of K arms, kept so that a solve repeats only what changed.

    Args:
        Z: product features z_a, K × p.
        roles: what the d features of a context stand for.
        hyper: τ², ω², σ², ρ, ν; ρ and ν stay as they are.
    """

    def __init__(self, Z: Floats, roles: Roles, hyper: Hyperparameters) -> None:
        (K, p), d = Z.shape, len(roles.constant)
        self.hyper = hyper
        self.d, self.Z, self.roles = d, Z, roles
        self.D = np.where(roles.visitor > 0.0, math.sqrt(hyper.nu), 1.0)
        """d_i of each feature of a context, d."""
        first, second = upper_triangle(d)
        self.DD = self.D[first] * self.D[second]
        """d_i d_j, packed."""
        self.scale = _Scale.of(roles.constant, hyper.rho)
        self.b = np.zeros((K, d))
        """Σ r D x"""
        self.xx = np.zeros((K, packed_length(d)))
        """Σ D x xᵀ D, packed."""
        self.J = np.empty((K, d, d))
        """J_a = (I + τ² Λ P_a)⁻¹, K × d × d."""
        self.own = np.empty_like(self.xx)
        """L H_a L, packed: τ² times this is the covariance of θ_a given W."""
        self.log_determinants = np.zeros(K)
        """log |I + τ² Λ P_a|"""
        self._G = np.zeros_like(self.xx)
        """P_a J_a, packed."""
        self._h = np.zeros((K, d))
        """J_aᵀ b_a/σ²"""
        self._index = _Index.of(d, p)
        first, second = upper_triangle(p)
        self._zz = Z[:, first] * Z[:, second]
        self._blocks = [slice(start, start + BLOCK) for start in range(0, K, BLOCK)]
        self._sums_M = np.zeros((len(self._blocks), packed_length(d), packed_length(p)))
        self._sums_v = np.zeros((len(self._blocks), d, p))
        self._changed: set[int] = set()
        self._start()

    @property
    def trained(self) -> Integers:
        """Indices of the arms with outcomes."""
        return np.flatnonzero(self.xx.any(axis=1))

    def set_values(self, tau2: float, omega2: float, sigma2: float) -> None:
        """Go on with other variances: every arm with outcomes is computed anew."""
        self.hyper = self.hyper.with_values(tau2, omega2, sigma2)
        trained = self.trained
        self._take(trained, self.b[trained], self.xx[trained])

    def part(self, at: Integers) -> "JointModel":
        """A model of some of the arms, with their rows."""
        part = JointModel(self.Z[at], self.roles, self.hyper)
        part._take(np.arange(len(at)), self.b[at], self.xx[at])
        return part

    def _start(self) -> None:
        """Every arm as one without outcomes, to the bit."""
        one = np.zeros(1, np.int64)
        self.set_rows(one, np.zeros((1, self.d)), np.zeros((1, packed_length(self.d))))
        self.J[:], self.own[:] = self.J[0], self.own[0]

    def set_rows(self, at: Integers, b: Floats, xx: Floats) -> None:
        """Take over the sums of some arms.

        Args:
            at: their indices, each once.
            b: Σ r x, one row for each.
            xx: packed Σ x xᵀ likewise; zeros for an arm without outcomes.

        Raises:
            numpy.linalg.LinAlgError: I + τ² L P L is not positive definite, which outcomes can
                bring about only by rounding, and not with such variances as there can be.
        """
        self._take(at, b * self.D, xx * self.DD)

    def _take(self, at: Integers, b: Floats, xx: Floats) -> None:
        """`set_rows` with sums of D x."""
        d, (rows, columns) = self.d, upper_triangle(self.d)
        tau2, _, sigma2 = self.hyper.values()
        L, inverse_L = self.scale.L, self.scale.inverse
        P = unpack(xx, d) / sigma2
        factor = np.linalg.cholesky(np.eye(d) + tau2 * (L @ P @ L))
        half = np.matmul(np.linalg.inv(factor), L)
        own = np.matmul(half.transpose(0, 2, 1), half)
        J = own @ (inverse_L @ inverse_L)
        self.b[at], self.xx[at] = b, xx
        self.J[at] = J
        self.own[at] = own[:, rows, columns]
        self._G[at] = np.matmul(P, J)[:, rows, columns]
        self._h[at] = np.matmul(J.transpose(0, 2, 1), b[:, :, None])[:, :, 0] / sigma2
        diagonals = np.diagonal(factor, axis1=1, axis2=2)
        self.log_determinants[at] = 2.0 * np.log(diagonals).sum(axis=1)
        self._changed.update((at // BLOCK).tolist())

    def solve(self) -> Posterior:
        """θ and covariance of every arm, and W."""
        for number in sorted(self._changed):
            block = self._blocks[number]
            self._sums_M[number] = self._G[block].T @ self._zz[block]
            self._sums_v[number] = self._h[block].T @ self.Z[block]
        self._changed.clear()
        d, p = self._sums_v.shape[1:]
        omega2 = self.hyper.omega2
        # ω² M = I + ω² Σ …, which is well conditioned and needs no case of its own at ω² = 0.
        M = np.zeros((d * p, d * p))
        self._index.scatter(self._sums_M.sum(axis=0) * omega2, M)
        M.flat[:: d * p + 1] += 1.0
        information = self._sums_v.sum(axis=0)
        # The upper triangle in C's order is the lower one in Fortran's.
        factor, failed = dpotrf(M.T, lower=1, overwrite_a=1)
        if failed:
            raise np.linalg.LinAlgError("the precision of W is not positive definite")
        log_determinant = 2.0 * float(np.log(np.diagonal(factor)).sum())
        W = omega2 * dpotrs(factor, information.reshape(-1, 1), lower=1)[0].reshape(d, p)
        W_covariance = omega2 * dpotri(factor, lower=1, overwrite_c=1)[0].T
        theta, covariance = self._arms(W, W_covariance)
        solution = Solution(theta * self.D, covariance * self.DD)
        return Posterior(solution, W, W_covariance, information, log_determinant)

    def shared_covariance(self, posterior: Posterior, at: Integers) -> Floats:
        """Q_a = (I ⊗ z_aᵀ) M⁻¹ (I ⊗ z_a), the covariance of W z_a, of some arms, d × d each."""
        return unpack(self._zz[at] @ self._index.gather(posterior.W_covariance), self.d)

    def _arms(self, W: Floats, W_covariance: Floats) -> tuple[Floats, Floats]:
        """Of D⁻¹ θ_a: J_a (W z_a + τ² Λ b_a/σ²) and C_a = τ² L H_a L + J_a Q_a J_aᵀ."""
        d, (rows, columns) = self.d, upper_triangle(self.d)
        tau2, _, sigma2 = self.hyper.values()
        pairs = self._index.gather(W_covariance)
        theta = self.Z @ W.T
        theta += (tau2 / sigma2) * (self.b @ self.scale.Lambda)
        covariance = np.empty_like(self.xx)
        for block in self._blocks:
            J, Q = self.J[block], unpack(self._zz[block] @ pairs, d)
            theta[block] = np.matmul(J, theta[block, :, None])[:, :, 0]
            C = np.matmul(np.matmul(J, Q), J.transpose(0, 2, 1))
            covariance[block] = C[:, rows, columns]
        covariance += tau2 * self.own
        return theta, covariance


class _Scale(NamedTuple):
    """Λ = I + ρ u uᵀ, its symmetric root and that one's inverse."""

    Lambda: Floats
    L: Floats
    inverse: Floats

    @classmethod
    def of(cls, constant: Floats, rho: float) -> "_Scale":
        one, length2 = np.eye(len(constant)), float(constant @ constant)
        uu = np.outer(constant, constant) / (length2 or 1.0)
        grown = math.sqrt(1.0 + rho * length2)
        return cls(
            one + rho * length2 * uu, one + (grown - 1.0) * uu, one + (1.0 / grown - 1.0) * uu
        )


class _Index(NamedTuple):
    """Where the elements of packed (d × d) ⊗ packed (p × p) stand in a dp × dp matrix.

    Only in its upper triangle, where each stands twice off the diagonal blocks (z_k z_m = z_m z_k).
    """

    once: Integers
    twice: Integers
    diagonal: Integers
    """Packed positions with k = m: they stand once."""

    @classmethod
    def of(cls, d: int, p: int) -> "_Index":
        (i, j), (k, m) = upper_triangle(d), upper_triangle(p)
        once = (i[:, None] * p + k) * d * p + j[:, None] * p + m
        swapped = (i[:, None] * p + m) * d * p + j[:, None] * p + k
        # In a diagonal block (i = j) the swapped one lies below the diagonal: the same element.
        twice = np.where((i == j)[:, None], once, swapped)
        return cls(once, twice, np.flatnonzero(k == m))

    def scatter(self, sums: Floats, M: Floats) -> None:
        """Put packed ⊗ packed sums into the upper triangle of M."""
        M.reshape(-1)[self.once] = sums
        M.reshape(-1)[self.twice] = sums

    def gather(self, covariance: Floats) -> Floats:
        """R with z z packed · R = packed (I ⊗ zᵀ) M⁻¹ (I ⊗ z): packed p × packed d."""
        pairs = covariance.take(self.once)
        pairs += covariance.take(self.twice)
        pairs[:, self.diagonal] *= 0.5
        return pairs.T


def solve(b: Floats, xx: Floats, Z: Floats, roles: Roles, hyper: Hyperparameters) -> Solution:
    """Solve K arms together.

    Args:
        b: Σ r x, K × d.
        xx: packed upper triangles of Σ x xᵀ, K × d(d+1)/2.
        Z: product features, K × p.
        roles: what the d features of a context stand for.
        hyper: τ², ω², σ², ρ, ν.
    """
    joint = JointModel(Z, roles, hyper)
    joint.set_rows(np.arange(len(b)), b, xx)
    return joint.solve().solution
