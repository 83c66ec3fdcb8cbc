import numpy as np
import pytest

from reco.learners import JointLearner, Learner, learner
from reco.policy_options import chosen
from reco.simulation import Past, Waiting
from reco.worlds import world_of
from server.scorer import Policy
from shared.catalogue import DataSet
from shared.linucb import solve
from shared.shared_linucb import Hyperparameters


def outcomes(data: DataSet, count: int) -> Past:
    rng = np.random.default_rng(4)
    rewards = (rng.random(count) < 0.2).astype(float)
    return Past(rng.choice(data.arms, count), rng.random((count, data.encoder.d)), rewards)


def test_a_policy_gets_the_learner_that_it_needs(data: DataSet) -> None:
    world = world_of("seed", data)
    hyper = Hyperparameters()
    assert isinstance(learner(world, Policy("shared-linucb"), hyper, True), JointLearner)
    assert not isinstance(learner(world, Policy("linucb"), hyper, True), JointLearner)


def test_arms_for_themselves_are_solved_from_their_sums(data: DataSet) -> None:
    known = Learner(world_of("seed", data), Policy("linucb"))
    past = outcomes(data, 300)
    for start in range(0, 300, 7):
        some = slice(start, start + 7)
        known.learn(past.arms[some], past.X[some], past.rewards[some])
    arm = int(past.arms[0])
    mine = past.arms == arm
    X, r = past.X[mine], past.rewards[mine]
    rows, columns = np.triu_indices(X.shape[1])
    alone = solve((X.T @ r)[None], (X.T @ X)[None, rows, columns], 1.0)
    index = data.arms.index(arm)
    np.testing.assert_allclose(known.model.solution.theta[index], alone.theta[0], atol=1e-12)


def test_a_learner_that_solves_less_often_comes_to_the_same_solution(data: DataSet) -> None:
    """So the report may save the time: what is solved does not depend on what was solved before."""
    world, policy, past = world_of("seed", data), Policy("shared-linucb"), outcomes(data, 90)
    often, seldom = (
        JointLearner(world, policy, Hyperparameters(), estimates=False, growth=growth)
        for growth in (0.0, 0.5)
    )
    same = []
    for start in range(0, 90, 3):
        part = slice(start, start + 3)
        for known in (often, seldom):
            known.learn(past.arms[part], past.X[part], past.rewards[part])
        one, other = often.model.solution, seldom.model.solution
        same.append(
            np.array_equal(one.theta, other.theta)
            and np.array_equal(one.covariance, other.covariance)
        )
    assert 3 < sum(same) < len(same) / 2  # each time that it solves, and no more
    assert same[0]


def test_with_forgetting_all_arms_of_a_partition_age(data: DataSet) -> None:
    forgets = Learner(world_of("seed", data), Policy("linucb"), gamma=0.5)
    past = outcomes(data, 200)
    forgets.learn(*past)
    arm = int(past.arms[0])
    before = forgets.model.solution.covariance[data.arms.index(arm)].copy()
    partition = forgets.partition[arm]
    other = next(a for a in data.arms if forgets.partition[a] == partition and a != arm)
    forgets.learn(np.array([other]), past.X[:1], np.array([0.0]))
    after = forgets.model.solution.covariance[data.arms.index(arm)]
    assert (after != before).any()


def test_without_delay_outcomes_are_known_at_the_next_visit(data: DataSet) -> None:
    waiting, some = Waiting(0, 1), outcomes(data, 2)
    waiting.add(4, True, some)
    assert list(waiting.due(4)) == []
    assert list(waiting.due(5)) == [some]
    assert list(waiting.due(6)) == []


def test_delayed_clicks_come_within_the_window_and_the_rest_at_its_end(data: DataSet) -> None:
    waiting, some = Waiting(50, 1), outcomes(data, 1)
    for visit in range(40):
        waiting.add(visit, visit % 2 == 0, some)
    counts = [len(list(waiting.due(visit))) for visit in range(92)]
    assert sum(counts) == 40
    assert counts[0] == 0
    assert 0 < sum(counts[:51]) <= 20  # none without a click is known before its window ends
    assert all(count >= 1 for count in counts[52:91:2])


@pytest.mark.parametrize(
    ("policy", "given", "expected"),
    [
        ("shared-linucb", None, (Hyperparameters(), True)),
        ("shared-linucb", Hyperparameters(1, 1, 1), (Hyperparameters(1, 1, 1), False)),
        ("shared", Hyperparameters(1, 1, 1, 2), (Hyperparameters(0, 1, 1, 2), False)),
    ],
)
def test_variances_are_estimated_unless_they_are_given(
    policy: str, given: Hyperparameters | None, expected: tuple[Hyperparameters, bool]
) -> None:
    assert chosen(policy, given) == expected
