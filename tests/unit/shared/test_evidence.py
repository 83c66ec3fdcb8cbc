"""The evidence is the density of the rewards, and its maximum finds what made them."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from shared.arm_statistics import ArmStatistics, Floats, Integers, packed_length
from shared.evidence import BOUNDS, LEAST_OUTCOMES, MOST_ARMS, counted, estimate, evidence
from shared.features import Roles
from shared.shared_linucb import Hyperparameters, JointModel

U = np.array([0.0, 0.0, 0.0, 1.0, 1.0])
VISITOR = np.array([1.0, 1.0, 0.0, 0.0, 0.0])


def joint_of(
    arms: Integers,
    X: Floats,
    rewards: Floats,
    Z: Floats,
    hyper: Hyperparameters,
    gamma: float = 1.0,
) -> JointModel:
    """All outcomes are of one partition, and the last one counts whole."""
    d = X.shape[1]
    statistics = ArmStatistics(d, gamma)
    statistics.add(arms, X, rewards, np.arange(len(arms)))
    b, xx = np.zeros((len(Z), d)), np.zeros((len(Z), packed_length(d)))
    b[statistics.arms], xx[statistics.arms] = statistics.decayed(len(arms) - 1)
    joint = JointModel(Z, Roles(U, VISITOR), hyper)
    joint.set_rows(np.arange(len(Z)), b, xx)
    return joint


def contexts(rng: np.random.Generator, count: int) -> Floats:
    """u·x = 1: at a weekend, or on a weekday."""
    return np.hstack([rng.random((count, 3)), np.eye(2)[rng.integers(0, 2, count)]])


def drawn(
    hyper: Hyperparameters, outcomes: int, arms: int = 60, seed: int = 1
) -> tuple[Integers, Floats, Floats, Floats]:
    """Outcomes of a world that is just as the model believes."""
    rng = np.random.default_rng(seed)
    Z, X = rng.normal(size=(arms, 4)), contexts(rng, outcomes)
    W = rng.normal(0.0, hyper.omega2**0.5, (5, 4))
    theta = Z @ W.T + rng.normal(0.0, hyper.tau2**0.5, (arms, 5))
    theta += rng.normal(0.0, (hyper.rho * hyper.tau2) ** 0.5, (arms, 1)) * U
    theta *= sizes(hyper)
    shown = rng.integers(0, arms, outcomes)
    noise = rng.normal(0.0, hyper.sigma2**0.5, outcomes)
    return shown, X, (X * theta[shown]).sum(axis=1) + noise, Z


def sizes(hyper: Hyperparameters) -> Floats:
    """d_i of each feature of a context."""
    return np.where(VISITOR > 0.0, hyper.nu**0.5, 1.0)


SIZES = st.floats(0.01, 1.0)
VARIANCES = st.builds(Hyperparameters, SIZES, SIZES, SIZES, st.floats(0.0, 10.0), SIZES)


@settings(max_examples=30)
@given(st.integers(0, 2**32), VARIANCES, st.sampled_from([1.0, 0.9]))
def test_it_is_the_density_of_the_rewards(seed: int, hyper: Hyperparameters, gamma: float) -> None:
    """A reward that counts w has its density to the power of w: as w of them."""
    arms, X, r, Z = drawn(hyper, 25, arms=4, seed=seed)
    tau2, omega2, sigma2 = hyper.values()
    same_arm = arms[:, None] == arms
    DX = X * sizes(hyper)
    covariance = (DX @ DX.T) * (omega2 * (Z @ Z.T)[arms][:, arms] + tau2 * same_arm)
    covariance += tau2 * hyper.rho * np.outer(DX @ U, DX @ U) * same_arm
    w = gamma ** np.arange(24.0, -1.0, -1.0)
    # N(r; m, σ²)ʷ = N(r; m, σ²/w) · (2πσ²/w)^½ (2πσ²)^(-w/2)
    density = multivariate_normal(np.zeros(25), covariance + np.diag(sigma2 / w)).logpdf(r)
    log_2pi = np.log(2.0 * np.pi * sigma2)
    density += 0.5 * ((1.0 - w) * log_2pi - np.log(w)).sum()
    joint = joint_of(arms, X, r, Z, hyper, gamma)
    np.testing.assert_allclose(counted(joint).outcomes, np.bincount(arms, w, 4))
    found = evidence(joint, float(w.sum()), float((w * r * r).sum()))
    assert found.log_likelihood == pytest.approx(density, abs=1e-7)


@settings(max_examples=30)
@given(st.integers(0, 2**32), VARIANCES)
def test_its_gradient_is_how_it_changes(seed: int, hyper: Hyperparameters) -> None:
    arms, X, r, Z = drawn(hyper, 40, arms=5, seed=seed)
    joint = joint_of(arms, X, r, Z, hyper)
    gradient = evidence(joint, 40, float(r @ r)).gradient
    for axis in range(3):
        sides = []
        for step in (-1e-5, 1e-5):
            logs = np.log(hyper.values())
            logs[axis] += step
            joint.set_values(*np.exp(logs).tolist())
            sides.append(evidence(joint, 40, float(r @ r)).log_likelihood)
        slope = (sides[1] - sides[0]) / 2e-5
        assert gradient[axis] == pytest.approx(slope, rel=1e-4, abs=1e-4)


class Clicked(NamedTuple):
    joint: JointModel
    n: Integers
    clicks: Integers
    variance: float
    """Of a reward around its expectation, p (1 - p) on average."""


def clicked(outcomes: int, arms: int = 40, seed: int = 3, gamma: float = 1.0) -> Clicked:
    """Rewards of 0 and 1, as the trainer's rows hold them."""
    rng = np.random.default_rng(seed)
    Z, X = rng.normal(size=(arms, 4)), contexts(rng, outcomes)
    theta = np.abs(Z @ rng.normal(0.0, 0.05, (4, 5)))
    shown = rng.integers(0, arms, outcomes)
    p = (X * theta[shown]).sum(axis=1)
    r = (rng.random(outcomes) < p).astype(float)
    joint = joint_of(shown, X, r, Z, Hyperparameters(), gamma)
    n = np.bincount(shown, minlength=arms)
    clicks = np.bincount(shown, r, arms).astype(np.int64)
    return Clicked(joint, n, clicks, float((p * (1.0 - p)).mean()))


def test_the_rows_count_what_they_were_made_of_to_the_bit() -> None:
    joint, n, clicks, _ = clicked(20_000)
    found = counted(joint)
    assert found.outcomes.tolist() == n.tolist()
    assert found.squares.tolist() == clicks.tolist()


@pytest.mark.parametrize("gamma", [1.0, 0.9999, 0.9998])
def test_the_noise_of_the_rewards_is_found_with_forgetting_too(gamma: float) -> None:
    joint, _, _, variance = clicked(20_000, gamma=gamma)
    found = estimate(joint, *counted(joint), Hyperparameters())
    assert found.sigma2 == pytest.approx(variance, rel=0.06)


def test_outcomes_that_are_forgotten_are_not_enough() -> None:
    joint, n, _, _ = clicked(LEAST_OUTCOMES * 2, gamma=0.999)  # at most 1,000 are remembered
    assert n.sum() > LEAST_OUTCOMES
    default = Hyperparameters(0.02, 0.03, 0.2)
    assert estimate(joint, *counted(joint), default) == default


def test_the_variances_that_made_the_rewards_are_found() -> None:
    truth = Hyperparameters(0.04, 0.3, 0.1, 2.0)
    arms, X, r, Z = drawn(truth, 6_000)
    default = Hyperparameters(0.01, 0.05, 0.15, truth.rho)
    joint = joint_of(arms, X, r, Z, default)
    n = np.bincount(arms, minlength=60)
    squares = np.bincount(arms, r * r, 60)  # here Σ r² is known, and is no count
    found = estimate(joint, n, squares, default)
    assert found.rho == truth.rho
    for value, true in zip(found.values(), truth.values(), strict=True):
        assert value == pytest.approx(true, rel=0.5)


def test_with_few_outcomes_the_defaults_stand() -> None:
    joint, n, clicks, _ = clicked(LEAST_OUTCOMES - 1)
    default = Hyperparameters(0.02, 0.03, 0.2)
    assert estimate(joint, n, clicks, default) == default


def test_rewards_that_never_come_stay_within_bounds() -> None:
    joint, n, clicks, _ = clicked(2_000)
    joint.set_rows(np.arange(40), np.zeros_like(joint.b), joint.xx)
    found = estimate(joint, n, np.zeros_like(clicks), Hyperparameters())
    least, most = BOUNDS
    for low, value, high in zip(least.values(), found.values(), most.values(), strict=True):
        assert low * 0.999 <= value <= high * 1.001


def test_it_is_a_function_of_the_rows_and_leaves_the_model_alone() -> None:
    joint, n, clicks, _ = clicked(3_000)
    first = estimate(joint, n, clicks, Hyperparameters())
    assert joint.hyper == Hyperparameters()
    joint.set_values(*first.values())
    assert estimate(joint, n, clicks, Hyperparameters()) == first


def test_of_many_arms_those_with_most_outcomes_are_asked() -> None:
    joint, n, clicks, _ = clicked(5_000, arms=MOST_ARMS + 50)
    most = np.sort(np.argsort(-n, kind="stable")[:MOST_ARMS])
    assert estimate(joint, n, clicks, Hyperparameters()) == estimate(
        joint.part(most), n[most], clicks[most], Hyperparameters()
    )
