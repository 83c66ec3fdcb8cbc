"""Products of one kind on a slate: what one teaches, the others need not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.joint_solver import JointSolver
from server.kinship import KNOWN, Kin, instructive, narrowed_bonus
from server.scorer import Model, Policy, choose, rank, score, seeds_of
from server.top import top_k
from shared.arm_statistics import ArmStatistics, Floats
from shared.features import Roles
from shared.linucb import deviations
from shared.shared_linucb import Hyperparameters

D = 4
ROLES = Roles(np.array([0.0, 0.0, 1.0, 1.0]), np.zeros(4))
HYPER = Hyperparameters(0.001, 0.05, 0.12, 1.0)
SHARED = Policy("shared-linucb", alpha=1.0)


def contexts(count: int, seed: int = 3) -> Floats:
    X = np.random.default_rng(seed).random((count, D))
    X[:, 2:] = [1.0, 0.0]
    return X


def model(Z: Floats, outcomes: int = 0, hyper: Hyperparameters = HYPER) -> Model:
    """Arms 1, 2, … with these features; every second one with outcomes."""
    arms = [*range(1, len(Z) + 1)]
    solver = JointSolver(arms, Z, ROLES, hyper, estimates=False)
    if outcomes:
        rng = np.random.default_rng(9)
        statistics = ArmStatistics(D)
        rewards = (rng.random(outcomes) < 0.2).astype(float)
        seen = rng.choice(arms[::2], outcomes)
        statistics.add(seen, contexts(outcomes, 4), rewards, np.arange(outcomes))
        at = np.array(statistics.arms) - 1
        solver.take(at, statistics.n, statistics.clicks, statistics.b, statistics.xx)
    return solver.solve()


def slate(model: Model, policy: Policy = SHARED, k: int = 3) -> list[int]:
    [items] = rank(policy, model, contexts(1), seeds_of(["d"]), k)
    return [item.product_id for item in items]


def kinds_of(arms: list[int], each: int) -> set[int]:
    return {(arm - 1) // each for arm in arms}


def test_a_cold_slate_holds_one_of_each_kind() -> None:
    three_kinds = np.repeat([[1.2, 0.0, 0.0], [0.0, 1.1, 0.0], [0.0, 0.0, 1.0]], 10, axis=0)
    assert kinds_of(slate(model(three_kinds)), 10) == {0, 1, 2}
    # As each product is scored alone, the kind with the longest features would fill it.
    cold = model(three_kinds)
    assert kinds_of(slate(cold._replace(kin=None)), 10) == {0}


def test_what_is_known_to_be_better_is_shown_all_the_same() -> None:
    two_kinds = np.repeat([[1.0, 0.0], [0.0, 1.0]], 10, axis=0)
    cold = model(two_kinds)
    cold.solution.theta[:10] += 0.5
    assert kinds_of(slate(cold), 10) == {0}


@given(
    seed=st.integers(0, 2**32),
    k=st.integers(1, 12),
    outcomes=st.sampled_from([0, 10, 200]),
    sigma2=st.sampled_from([0.001, 0.12, 3.0]),
)
@settings(max_examples=60, deadline=None)
def test_each_product_is_chosen_by_what_is_left_once_those_above_it_are_known(
    seed: int, k: int, outcomes: int, sigma2: float
) -> None:
    """Beside the same, written out for one visit."""
    Z = np.random.default_rng(seed).normal(size=(9, 3))
    some = model(Z, outcomes, Hyperparameters(0.001, 0.05, sigma2, 1.0))
    X, seeds = contexts(4), seeds_of([f"{seed}-{i}" for i in range(4)])
    policy = Policy("shared-linucb", alpha=0.7)
    alone = score(policy, some, X, seeds)
    together, slates = choose(policy, some, X, seeds, k)
    lengths = np.linalg.norm(Z, axis=1)
    for row, chosen in enumerate(slates.tolist()):
        first = np.argsort(-alone.score[row])[:k]
        v = (alone.bonus[row] / 0.7) ** 2
        if (v[first] <= KNOWN * sigma2).all():
            np.testing.assert_array_equal(together.bonus[row], alone.bonus[row])
            continue
        expected: list[int] = []
        for arm in chosen:
            scores = alone.mean[row] + 0.7 * np.sqrt(v)
            scores[expected] = -np.inf
            assert arm == scores.argmax()
            assert together.score[row, arm] == pytest.approx(scores[arm])
            expected.append(arm)
            cosine = Z @ Z[arm] / (lengths * lengths[arm])
            v = v * (1.0 - cosine**2 * v[arm] / (v[arm] + sigma2))


@pytest.mark.parametrize("tau2", [0.0, 0.002])
def test_an_outcome_narrows_as_counted_but_for_what_arms_have_of_their_own(tau2: float) -> None:
    """The shared parts of `docs/model.md`, beside the solve with one outcome of the first arm."""
    Z, X = np.random.default_rng(6).normal(size=(5, 3)), contexts(1)
    hyper = Hyperparameters(tau2, 0.05, 0.12, 2.0)
    solver = JointSolver([*range(5)], Z, ROLES, hyper, estimates=False)
    before = deviations(X, solver.model.solution)
    first, one = np.zeros(1, np.int64), np.ones(1, np.int64)
    statistics = ArmStatistics(D)
    statistics.add(first, X, np.ones(1), first)
    solver.take(first, one, one, statistics.b, statistics.xx)
    after = deviations(X, solver.solve().solution)
    best = np.array([[1.0, 0.0, 0.0, 0.0, 0.0]])
    kin = Kin.of(Z, hyper.sigma2)
    counted = narrowed_bonus(best, before, 1.0, kin, seeds_of("a"), np.arange(5), 2)
    length2, lengths2 = float(X[0] @ X[0]), (Z**2).sum(axis=1)
    shared = hyper.omega2 * length2 * lengths2
    part = shared / (shared + tau2 * (length2 + hyper.rho))
    taken, expected = 1.0 - (after / before) ** 2, 1.0 - (counted / before) ** 2
    np.testing.assert_allclose(taken[0, 1:], (expected * part * part[0])[0, 1:], rtol=1e-9)


def test_a_slate_of_which_all_is_known_is_left_as_it_is() -> None:
    Z = np.random.default_rng(1).normal(size=(6, 3))
    known = model(Z)
    known.solution.covariance[:] *= 1e-4
    seeds = seeds_of("abc")
    alone = score(SHARED, known, contexts(3), seeds)
    together, _ = choose(SHARED, known, contexts(3), seeds, 3)
    np.testing.assert_array_equal(together.bonus, alone.bonus)
    # Of what is not known it changes.
    together, _ = choose(SHARED, model(Z), contexts(3), seeds, 3)
    assert (together.bonus != score(SHARED, model(Z), contexts(3), seeds).bonus).any()


def test_only_visits_with_something_to_learn_have_their_bonus_narrowed() -> None:
    Z = np.repeat([[1.0, 0.0], [0.0, 0.9]], 3, axis=0)
    arms, seeds, kin = np.arange(6), seeds_of("ab"), Kin.of(Z, 0.12)
    mean = np.zeros((2, 6))
    bonus = np.array([[0.30, 0.30, 0.30, 0.29, 0.29, 0.29], [0.01, 0.01, 0.01, 0.0, 0.0, 0.0]])
    top = top_k(mean + bonus, seeds, arms, 2)
    rows = instructive(bonus, top, 1.0, kin)
    assert rows.tolist() == [0]
    result = narrowed_bonus(mean[rows], bonus[rows], 1.0, kin, seeds[rows], arms, 2)
    [first] = top_k(result, seeds[rows], arms, 2)
    assert kinds_of((first + 1).tolist(), 3) == {0, 1}


def test_products_that_tie_in_everything_are_shown_equally_often() -> None:
    same = model(np.tile([[1.0, 0.5]], (6, 1)))
    counts = np.zeros(7, int)
    for i in range(600):
        [items] = rank(SHARED, same, contexts(1), seeds_of([f"d{i}"]), 2)
        for item in items:
            counts[item.product_id] += 1
    assert counts[1:].min() > 150


def test_products_that_tie_are_ordered_the_same_alone_and_in_any_batch() -> None:
    same, X = model(np.tile([[0.3, 1.0, 0.7]], (203, 1))), contexts(60)
    words = seeds_of([f"d{i}" for i in range(60)])
    together = rank(SHARED, same, X, words, 3)
    alone = [rank(SHARED, same, X[i : i + 1], words[i : i + 1], 3)[0] for i in range(60)]
    assert [[item.product_id for item in slate] for slate in together] == [
        [item.product_id for item in slate] for slate in alone
    ]


def test_without_features_products_have_no_kin() -> None:
    kin = Kin.of(np.zeros((3, 2)), 0.12)
    assert not kin.directions.any()


def test_the_slate_says_the_bonus_it_was_chosen_by() -> None:
    some = model(np.repeat([[1.0, 0.0], [0.0, 1.0]], 4, axis=0))
    [items] = rank(SHARED, some, contexts(1), seeds_of(["d"]), 4)
    scores = [item.score for item in items]
    assert scores == sorted(scores, reverse=True)
    assert [item.mean + item.bonus for item in items] == pytest.approx(scores)
    assert items[0].bonus > items[2].bonus, "the second of a kind has less to teach"


def test_a_part_of_the_products_keeps_its_kin() -> None:
    Z = np.random.default_rng(2).normal(size=(5, 3))
    part = Kin.of(Z, 0.12).only(np.array([3, 1]))
    np.testing.assert_array_equal(part.directions, Kin.of(Z[[3, 1]], 0.12).directions)
