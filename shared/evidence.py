"""τ², ω² and σ² from the rows: where their marginal likelihood is highest.

With θ_a and W integrated out, the log evidence of all rewards is (`docs/model.md`; x is D x)

    -½ [N log 2πσ² + Σ_a log |I + τ² Λ P_a| + log |ω² M|
        + Σ r²/σ² - Σ_a τ² b_aᵀ L H_a L b_a/σ⁴ - vᵀ M⁻¹ v]

and its gradient comes from the posterior alone (Fisher's identity). N and Σ r² are taken from the
sums too (`counted`), so with γ < 1 they are forgotten as the sums are: an outcome that counts w in
them counts as w outcomes here.

**Approximation:** Σ r² is taken for Σ r, which it is for rewards of 0 and 1. Of rewards in between,
Σ r is an upper bound: σ² comes out somewhat too large, and the policy a little too careful.
"""

from typing import Any, Final, NamedTuple

import numpy as np

from shared.arm_statistics import Floats, Integers
from shared.linucb import packed_products, unpack
from shared.shared_linucb import Hyperparameters, JointModel, Posterior

BOUNDS: Final = Hyperparameters(1e-5, 1e-3, 0.02), Hyperparameters(1.0, 1.0, 1.0)
"""Least and greatest values that are looked at; rewards in [0, 1] vary by 0.25 at most."""

PRIOR_SD: Final = 0.5
"""Of each variance's logarithm around its default: little data moves it little."""

LEAST_OUTCOMES: Final = 1_500
"""With fewer that are not forgotten, the defaults stand. Estimated from 600, some runs came to
believe, by the outcomes of a few products, that features explain nothing, and explored no more."""

MOST_ARMS: Final = 1_000
"""Of more arms than these, those with most outcomes are asked: a step takes no longer."""

_STEPS: Final = 30


class Counted(NamedTuple):
    """What the sums of K arms count."""

    outcomes: Floats
    """N of each arm, K."""
    squares: Floats
    """Σ r² of each arm, K."""


class Evidence(NamedTuple):
    """Log marginal likelihood and its gradient in (log τ², log ω², log σ²)."""

    log_likelihood: float
    gradient: Floats


def counted(joint: JointModel) -> Counted:
    """N and Σ r² of the rows: uᵀ S_a u and uᵀ b_a, since u·x = 1 in every context.

    With nothing forgotten these are n and, for rewards of 0 and 1, clicks, to the bit: sums of
    whole numbers. n and clicks themselves are never forgotten, so with γ < 1 they would not belong
    to the sums.
    """
    u = joint.roles.constant / joint.D  # the rows are sums of D x
    return Counted(joint.xx @ packed_products(u[None])[0], joint.b @ u)


def evidence(joint: JointModel, outcomes: float, squares: float) -> Evidence:
    """How well the model's present variances explain its rows.

    Args:
        joint: rows and variances.
        outcomes: N, over all arms.
        squares: Σ r², over all arms.
    """
    tau2, _, sigma2 = joint.hyper.values()
    posterior, trained = joint.solve(), joint.trained
    b = joint.b[trained]
    own = unpack(joint.own[trained], joint.d)
    explained = tau2 * np.einsum("ai,aij,aj->", b, own, b) / sigma2**2
    explained += float((posterior.W * posterior.information).sum())
    log_likelihood = -0.5 * (
        outcomes * np.log(2.0 * np.pi * sigma2)
        + joint.log_determinants.sum()
        + posterior.log_determinant
        + squares / sigma2
        - explained
    )
    # Each part of the complete likelihood is a normal one: d/d log(variance) is half of
    # (expected sum of squares / variance - how many).
    expected = _expected_squares(joint, posterior, trained, squares)
    counts = np.array([len(trained) * joint.d, joint.d * joint.Z.shape[1], outcomes])
    gradient = 0.5 * (expected / np.array(joint.hyper.values()) - counts)
    return Evidence(float(log_likelihood), gradient)


def _expected_squares(
    joint: JointModel, posterior: Posterior, trained: Integers, squares: float
) -> Floats:
    """Posterior expectations of Σ δ_aᵀ Λ⁻¹ δ_a, ‖W‖² and Σ(r - θ·x)²."""
    tau2, inverse = joint.hyper.tau2, joint.scale.inverse
    theta = posterior.solution.theta[trained] / joint.D
    covariance = unpack(posterior.solution.covariance[trained] / joint.DD, joint.d)
    delta = (theta - joint.Z[trained] @ posterior.W.T) @ inverse
    Q = joint.shared_covariance(posterior, trained)
    J = joint.J[trained]
    rest = inverse @ (np.eye(joint.d) - J)
    spread = tau2 * np.trace(J, axis1=1, axis2=2).sum()
    spread += np.einsum("aij,ajk,aik->", rest, Q, rest)
    S = unpack(joint.xx[trained], joint.d)
    fitted = np.einsum("aij,ai,aj->", S, theta, theta) + np.einsum("aij,aij->", S, covariance)
    return np.array(
        [
            (delta**2).sum() + spread,
            (posterior.W**2).sum() + np.trace(posterior.W_covariance),
            squares - 2.0 * (joint.b[trained] * theta).sum() + fitted,
        ]
    )


def estimate(
    joint: JointModel,
    outcomes: Floats | Integers,
    squares: Floats | Integers,
    default: Hyperparameters,
) -> Hyperparameters:
    """The variances that explain the rows best, given that the defaults are about right.

    Maximises the evidence times a log-normal prior around the defaults (`PRIOR_SD`), within
    `BOUNDS`. A function of the rows: it always starts from the defaults.

    Args:
        joint: the rows; it is left as it was.
        outcomes: N of each arm, K (`counted`).
        squares: Σ r² of each arm likewise.
        default: also what is returned while there are few outcomes.
    """
    if outcomes.sum() < LEAST_OUTCOMES:
        return default
    most = np.sort(np.argsort(-outcomes, kind="stable")[:MOST_ARMS])
    part = joint.part(most)
    total, total_squares = float(outcomes[most].sum()), float(squares[most].sum())
    centre = np.log(default.values())

    def cost(logs: Floats) -> tuple[float, Floats]:
        part.set_values(*np.exp(logs).tolist())
        value, gradient = evidence(part, total, total_squares)
        away = (logs - centre) / PRIOR_SD
        return 0.5 * float(away @ away) - value, away / PRIOR_SD - gradient

    bounds = list(zip(*(np.log(bound.values()) for bound in BOUNDS), strict=True))
    from scipy.optimize import minimize  # half a second to import, for those who never estimate

    found: Any = minimize(
        cost, centre, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS}
    )
    return default.with_values(*np.exp(found.x).tolist()) if np.isfinite(found.x).all() else default
