"""The joint solve against the plain Bayesian posterior of all parameters, and its limits."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import block_diag

from shared.arm_statistics import ArmStatistics, Floats, packed_length
from shared.features import Roles
from shared.linucb import Solution, deviations, unpack
from shared.linucb import solve as solve_disjoint
from shared.shared_linucb import BLOCK, MOST_PRIOR, Hyperparameters, JointModel, solve


class Case(NamedTuple):
    """Outcomes of a few arms, one after the other."""

    arms: list[int]
    X: Floats
    rewards: Floats
    Z: Floats

    @property
    def roles(self) -> Roles:
        """Any will do: here u leaves out the first feature, and every second is a visitor's."""
        d = self.X.shape[1]
        constant = np.array([0.0] * (d > 1) + [1.0] * (d - (d > 1)))
        return Roles(constant, (np.arange(d) % 2).astype(np.float64))

    @property
    def rows(self) -> tuple[Floats, Floats]:
        """b and packed Σ x xᵀ of every arm, zeros where there are no outcomes."""
        d = self.X.shape[1]
        statistics = ArmStatistics(d)
        offsets = np.arange(len(self.arms))
        statistics.add(np.array(self.arms, np.int64), self.X, self.rewards, offsets)
        b, xx = np.zeros((len(self.Z), d)), np.zeros((len(self.Z), packed_length(d)))
        b[statistics.arms], xx[statistics.arms] = statistics.b, statistics.xx
        return b, xx


@st.composite
def cases(draw: st.DrawFn) -> Case:
    d, p, arms = (draw(st.integers(1, most)) for most in (4, 3, 5))
    seen = draw(st.lists(st.integers(0, arms - 1), min_size=1, max_size=30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    X = rng.random((len(seen), d))
    return Case(seen, X, (rng.random(len(seen)) < 0.3).astype(float), rng.normal(size=(arms, p)))


def variances() -> st.SearchStrategy[Hyperparameters]:
    sizes = st.floats(1e-3, 2.0)
    return st.builds(Hyperparameters, sizes, sizes, sizes, st.floats(0.0, 20.0), sizes)


def alike(tau2: float, omega2: float, sigma2: float) -> Hyperparameters:
    """No feature of a context is different from the others."""
    return Hyperparameters(tau2, omega2, sigma2, rho=0.0, nu=1.0)


def case(arms: int, outcomes: int, d: int = 5, p: int = 4, seed: int = 1) -> Case:
    rng = np.random.default_rng(seed)
    seen = rng.integers(0, arms, outcomes).tolist()
    rewards = (rng.random(outcomes) < 0.2).astype(float)
    return Case(seen, rng.random((outcomes, d)), rewards, rng.normal(size=(arms, p)))


def dense(case: Case, hyper: Hyperparameters) -> Solution:
    """Bayes' rule for the joint vector (W, δ_1 … δ_K), with nothing clever about it."""
    (_, d), (K, p) = case.X.shape, case.Z.shape
    tau2, omega2, sigma2 = hyper.values()
    # r = φ·(vec W, δ_1 … δ_K): θ_a = D (W z_a + δ_a).
    D = np.diag(np.where(case.roles.visitor > 0.0, hyper.nu**0.5, 1.0))
    to_theta = np.zeros((K, d, d * p + K * d))
    for arm in range(K):
        to_theta[arm, :, : d * p] = np.kron(D, case.Z[arm])
        to_theta[arm, :, d * p + arm * d : d * p + (arm + 1) * d] = D
    design = np.einsum("ni,nij->nj", case.X, to_theta[case.arms])
    own = tau2 * (np.eye(d) + hyper.rho * np.outer(case.roles.constant, case.roles.constant))
    prior = block_diag(np.eye(d * p) / omega2, *[np.linalg.inv(own)] * K)
    covariance = np.linalg.inv(prior + design.T @ design / sigma2)
    mean = covariance @ (design.T @ case.rewards) / sigma2
    rows, columns = np.triu_indices(d)
    each = np.einsum("aij,jk,alk->ail", to_theta, covariance, to_theta)
    return Solution(to_theta @ mean, each[:, rows, columns])


def assert_same(one: Solution, other: Solution, tolerance: float) -> None:
    np.testing.assert_allclose(one.theta, other.theta, rtol=0, atol=tolerance)
    np.testing.assert_allclose(one.covariance, other.covariance, rtol=0, atol=tolerance)


@given(cases(), variances())
def test_it_is_the_posterior_over_everything_at_once(case: Case, hyper: Hyperparameters) -> None:
    assert_same(solve(*case.rows, case.Z, case.roles, hyper), dense(case, hyper), 1e-8)


@given(cases(), st.floats(1e-3, 2.0), st.floats(1e-3, 2.0))
def test_without_sharing_it_is_the_disjoint_model_with_lambda_sigma2_over_tau2(
    case: Case, tau2: float, sigma2: float
) -> None:
    """θ is the same, and the covariance σ² times as large: α/σ explores as α does there."""
    disjoint = solve_disjoint(*case.rows, sigma2 / tau2)
    alone = solve(*case.rows, case.Z, case.roles, alike(tau2, 0.0, sigma2))
    assert_same(alone, Solution(disjoint.theta, sigma2 * disjoint.covariance), 1e-10)
    nearly = solve(*case.rows, case.Z, case.roles, alike(tau2, 1e-10, sigma2))
    assert_same(nearly, alone, 1e-6)


@given(cases(), st.floats(1e-3, 2.0), st.floats(1e-3, 2.0))
def test_without_effects_of_their_own_all_arms_are_one_regression_on_x_and_z(
    case: Case, omega2: float, sigma2: float
) -> None:
    d, p = case.X.shape[1], case.Z.shape[1]
    design = np.einsum("ni,nk->nik", case.X, case.Z[case.arms]).reshape(-1, d * p)
    covariance = np.linalg.inv(np.eye(d * p) / omega2 + design.T @ design / sigma2)
    W = (covariance @ design.T @ case.rewards / sigma2).reshape(d, p)
    lift = np.array([np.kron(np.eye(d), z) for z in case.Z])
    spread = np.einsum("aij,jk,alk->ail", lift, covariance, lift)
    pure = Solution(case.Z @ W.T, spread[:, *np.triu_indices(d)])
    assert_same(solve(*case.rows, case.Z, case.roles, alike(0.0, omega2, sigma2)), pure, 1e-9)
    nearly = solve(*case.rows, case.Z, case.roles, alike(1e-10, omega2, sigma2))
    assert_same(nearly, pure, 1e-6)


@given(cases(), variances())
def test_the_order_of_arms_does_not_matter(case: Case, hyper: Hyperparameters) -> None:
    b, xx = case.rows
    turned = solve(b[::-1], xx[::-1], case.Z[::-1], case.roles, hyper)
    straight = solve(b, xx, case.Z, case.roles, hyper)
    assert_same(Solution(turned.theta[::-1], turned.covariance[::-1]), straight, 1e-10)


def test_arms_across_blocks_are_one_model() -> None:
    many = case(2 * BLOCK + 3, 900, d=2, p=3)
    joint = solve(*many.rows, many.Z, many.roles, Hyperparameters())
    assert_same(joint, dense(many, Hyperparameters()), 1e-8)


def test_an_arm_without_outcomes_is_judged_by_its_features() -> None:
    some = case(6, 300)
    z = some.Z.copy()
    z[5] = z[0]
    with_new = some._replace(Z=z, arms=[arm if arm != 5 else 0 for arm in some.arms])
    solution = solve(*with_new.rows, z, some.roles, Hyperparameters(tau2=0.0))
    np.testing.assert_allclose(solution.theta[5], solution.theta[0], atol=1e-12)
    own = solve(*with_new.rows, z, some.roles, Hyperparameters(tau2=0.01))
    x = np.ones((1, 5))
    assert deviations(x, own)[0, 5] > deviations(x, own)[0, 0]


def test_without_any_outcomes_it_is_the_prior() -> None:
    Z = np.array([[1.0, 2.0], [0.0, 0.0]])
    hyper = Hyperparameters(0.01, 0.25, 0.15, 2.0, 0.5)
    roles = Roles(np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0]))
    solution = solve(np.zeros((2, 3)), np.zeros((2, 6)), Z, roles, hyper)
    np.testing.assert_array_equal(solution.theta, np.zeros((2, 3)))
    np.testing.assert_allclose(
        unpack(solution.covariance, 3),
        [np.diag([0.63, 1.26, 1.28]), np.diag([0.005, 0.01, 0.03])],
    )


@pytest.mark.parametrize("tau2", [0.0, 1e-4, 0.01, 1.0])
def test_with_a_million_outcomes_an_arm_every_variance_is_positive(tau2: float) -> None:
    some = case(20, 2_000, d=15, p=20)
    b, xx = some.rows
    b, xx = 1e4 * b, 1e4 * xx
    assert np.bincount(some.arms).min() * 1e4 >= 5e5
    solution = solve(b, xx, some.Z, some.roles, Hyperparameters(tau2, 0.05, 0.15))
    each = np.linalg.eigvalsh(unpack(solution.covariance, 15))
    assert (each > 0.0).all()
    # So much evidence leaves little of any prior: every arm is where its own sums put it.
    if tau2 >= 0.01:
        alone = solve_disjoint(b, xx, 0.15 / tau2)
        np.testing.assert_allclose(solution.theta, alone.theta, atol=1e-3)


@given(cases(), variances())
def test_no_variance_is_negative(case: Case, hyper: Hyperparameters) -> None:
    b, xx = case.rows
    solution = solve(1e6 * b, 1e6 * xx, case.Z, case.roles, hyper)
    assert (np.linalg.eigvalsh(unpack(solution.covariance, case.X.shape[1])) > -1e-12).all()


def test_what_was_solved_before_changes_no_bit() -> None:
    """Else a decision could not be computed again from the log."""
    many = case(2 * BLOCK, 1_500)
    b, xx = many.rows
    hyper = Hyperparameters(0.02, 0.1, 0.2)
    joint = JointModel(many.Z, many.roles, Hyperparameters())
    rng = np.random.default_rng(2)
    for at in np.array_split(rng.permutation(len(b)), 9):
        joint.set_rows(at, 0.5 * b[at], 0.5 * xx[at])
        joint.solve()
        joint.set_rows(at, b[at], xx[at])
    joint.set_values(*hyper.values())
    afresh = solve(b, xx, many.Z, many.roles, hyper)
    for one, other in zip(joint.solve().solution, afresh, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_arm_whose_history_is_gone_counts_no_more() -> None:
    some = case(6, 200)
    b, xx = some.rows
    joint = JointModel(some.Z, some.roles, Hyperparameters())
    joint.set_rows(np.arange(6), b, xx)
    joint.solve()
    joint.set_rows(np.array([2]), np.zeros((1, 5)), np.zeros((1, 15)))
    b[2] = xx[2] = 0.0
    afresh = solve(b, xx, some.Z, some.roles, Hyperparameters())
    for one, other in zip(joint.solve().solution, afresh, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("wrong", [(-0.1, 0.1, 0.1), (0.1, np.nan, 0.1), (0.1, 0.1, 0.0)])
def test_variances_that_are_none_are_refused(wrong: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Hyperparameters(*wrong)


@pytest.mark.parametrize(
    "wrong", [(0.0, 1.1e5, 1.0, 0.0), (0.6e5, 0.0, 1.0, 1.0), (0.002, 0.015, 1e-16, 10.0)]
)
def test_noise_that_rounding_would_exceed_is_refused(wrong: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="at most 100,000 times sigma2"):
        Hyperparameters(*wrong)


@pytest.mark.parametrize("most", [(0.0, MOST_PRIOR, 1.0, 0.0), (MOST_PRIOR / 11, 0.0, 1.0, 10.0)])
def test_with_the_widest_prior_there_is_the_arms_are_where_their_sums_put_them(
    most: tuple[float, float, float, float],
) -> None:
    """A hundred million outcomes an arm, of contexts with collinear features."""
    rng = np.random.default_rng(4)
    some, u = case(6, 2_000, d=6, p=3), np.repeat([0.0, 1.0], [4, 2])
    for columns in ([2, 3], [4, 5]):
        some.X[:, columns] = np.eye(2)[rng.integers(0, 2, len(some.X))]
    truth = some.Z @ rng.normal(0.0, 0.1, (3, 6))
    exact = some._replace(rewards=np.einsum("ni,ni->n", some.X, truth[some.arms]))
    b, xx = exact.rows
    assert np.bincount(some.arms).min() * 5e5 >= 1e8
    roles = Roles(u, np.zeros(6))
    found = solve(5e5 * b, 5e5 * xx, some.Z, roles, Hyperparameters(*most, 1.0))
    np.testing.assert_allclose(some.X @ found.theta.T, some.X @ truth.T, atol=1e-3)


@pytest.mark.parametrize("wrong", [{"rho": np.inf}, {"rho": -1.0}, {"nu": 0.0}, {"nu": np.nan}])
def test_ratios_that_are_none_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Hyperparameters(**wrong)
