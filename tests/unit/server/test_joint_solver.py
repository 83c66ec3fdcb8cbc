import numpy as np
import pytest

from server.joint_solver import ESTIMATE_GROWTH, JointSolver
from shared.arm_statistics import ArmStatistics
from shared.evidence import LEAST_OUTCOMES
from shared.features import Roles
from shared.shared_linucb import Hyperparameters, solve

ARMS = [3, 7, 11, 20]
D = 4
Z = np.random.default_rng(5).normal(size=(4, 3))
ROLES = Roles(np.array([0.0, 0.0, 1.0, 1.0]), np.array([1.0, 0.0, 0.0, 0.0]))
HYPER = Hyperparameters(0.02, 0.1, 0.2, 3.0)


def outcomes(count: int, seed: int = 1, gamma: float = 1.0) -> ArmStatistics:
    rng = np.random.default_rng(seed)
    arms = rng.choice(ARMS[:3], count)
    statistics = ArmStatistics(D, gamma)
    rewards = (rng.random(count) < 0.3).astype(float)
    X = rng.random((count, D))
    X[:, 2:] = np.eye(2)[rng.integers(0, 2, count)]
    statistics.add(arms, X, rewards, np.arange(count))
    return statistics


def give(solver: JointSolver, statistics: ArmStatistics) -> None:
    at = np.array([ARMS.index(arm) for arm in statistics.arms])
    sums = statistics.decayed(int(statistics.last_offset.max()))
    solver.take(at, statistics.n, statistics.clicks, *sums)


def test_before_any_outcome_the_features_alone_speak() -> None:
    model = JointSolver(ARMS, Z, ROLES, HYPER).model
    assert model.arms.tolist() == ARMS
    assert model.untrained.tolist() == []
    expected = solve(np.zeros((4, D)), np.zeros((4, 10)), Z, ROLES, HYPER)
    np.testing.assert_array_equal(model.solution.covariance, expected.covariance)


def test_what_was_taken_is_solved_together() -> None:
    solver, statistics = JointSolver(ARMS, Z, ROLES, HYPER, estimates=False), outcomes(60)
    give(solver, statistics)
    model = solver.solve()
    b, xx = np.zeros((4, D)), np.zeros((4, 10))
    at = [ARMS.index(arm) for arm in statistics.arms]
    b[at], xx[at] = statistics.b, statistics.xx
    np.testing.assert_array_equal(model.solution.theta, solve(b, xx, Z, ROLES, HYPER).theta)
    assert model.n.sum() == 60
    assert model.n[3] == 0


def test_of_rows_that_come_again_before_a_solve_the_last_count() -> None:
    solver, last = JointSolver(ARMS, Z, ROLES, HYPER, estimates=False), outcomes(60)
    give(solver, outcomes(40, seed=2))
    give(solver, last)
    alone = JointSolver(ARMS, Z, ROLES, HYPER, estimates=False)
    give(alone, last)
    np.testing.assert_array_equal(solver.solve().solution.theta, alone.solve().solution.theta)


def test_a_model_that_was_handed_out_does_not_move() -> None:
    solver = JointSolver(ARMS, Z, ROLES, HYPER, estimates=False)
    before = solver.model
    kept = before.solution.theta.copy()
    give(solver, outcomes(60))
    assert solver.solve() is not before
    np.testing.assert_array_equal(before.solution.theta, kept)
    assert before.n.sum() == 0


def test_arms_that_are_forgotten_count_no_more() -> None:
    solver = JointSolver(ARMS, Z, ROLES, HYPER, estimates=False)
    fresh = solver.model.solution.theta
    give(solver, outcomes(60))
    solver.forget(np.arange(4))
    np.testing.assert_array_equal(solver.solve().solution.theta, fresh)
    assert solver.model.n.sum() == 0


def test_the_variances_follow_the_rows_now_and_then() -> None:
    solver = JointSolver(ARMS, Z, ROLES, HYPER)
    give(solver, outcomes(LEAST_OUTCOMES * 4))
    solver.solve()
    first = solver.hyper
    assert first != HYPER
    assert solver.parameters == {
        "tau2": first.tau2,
        "omega2": first.omega2,
        "sigma2": first.sigma2,
        "rho": HYPER.rho,
        "nu": HYPER.nu,
    }
    give(solver, outcomes(LEAST_OUTCOMES * 4 + 10))
    solver.solve()
    assert solver.hyper == first
    give(solver, outcomes(int(LEAST_OUTCOMES * 4 * ESTIMATE_GROWTH) + 1))
    solver.solve()
    assert solver.hyper != first


@pytest.mark.parametrize("left", [0, LEAST_OUTCOMES - 1, LEAST_OUTCOMES * 2])
def test_where_outcomes_are_lost_the_variances_are_those_of_what_is_left_at_once(
    left: int,
) -> None:
    solver, restarted = (JointSolver(ARMS, Z, ROLES, HYPER) for _ in range(2))
    give(solver, outcomes(LEAST_OUTCOMES * 4))
    solver.solve()
    before = solver.hyper
    solver.forget(np.arange(4))
    for one in (solver, restarted):
        if left:
            give(one, outcomes(left, seed=2))
        one.solve()
    assert solver.hyper == restarted.hyper != before
    assert (solver.hyper == HYPER) == (left < LEAST_OUTCOMES)


def test_with_forgetting_the_noise_is_that_of_the_outcomes_that_are_remembered() -> None:
    solver = JointSolver(ARMS, Z, ROLES, HYPER)
    give(solver, outcomes(LEAST_OUTCOMES * 10, gamma=0.9998))
    model = solver.solve()
    assert model.n.sum() == LEAST_OUTCOMES * 10  # as people are shown it
    assert solver.hyper.sigma2 == pytest.approx(0.21, rel=0.06)


@pytest.mark.parametrize("count", [0, LEAST_OUTCOMES - 1])
def test_while_there_are_few_outcomes_the_variances_stand(count: int) -> None:
    solver = JointSolver(ARMS, Z, ROLES, HYPER)
    if count:
        give(solver, outcomes(count))
    solver.solve()
    assert solver.hyper == HYPER


def test_variances_that_were_given_stay() -> None:
    solver = JointSolver(ARMS, Z, ROLES, HYPER, estimates=False)
    give(solver, outcomes(LEAST_OUTCOMES * 4))
    solver.solve()
    assert solver.hyper == HYPER
