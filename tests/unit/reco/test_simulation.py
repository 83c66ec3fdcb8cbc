import numpy as np
import pytest

from reco.learners import learner
from reco.shoppers import feedback_rule
from reco.simulation import Rates, window_edges, windows
from reco.simulation import simulate as simulate_bandit
from reco.worlds import world_of
from server.scorer import Policy
from shared.cascade import Feedback
from shared.catalogue import DataSet
from shared.ground_truth import (
    best_click_probability,
    slate_click_probability,
)
from shared.settings import SHARED_ALPHA
from shared.shared_linucb import Hyperparameters

CASCADE = feedback_rule("cascade", 5)


def simulate(
    data: DataSet,
    policy: Policy,
    visits: int,
    seed: int,
    feedback: Feedback = CASCADE,
    world: str = "seed",
    gamma: float = 1.0,
) -> Rates:
    where = world_of(world, data)
    bandit = learner(where, policy, Hyperparameters(), estimates=False, gamma=gamma)
    return simulate_bandit(where, bandit, visits, seed, feedback)


@pytest.mark.parametrize(
    ("visits", "edges"),
    [
        (1, [0, 1]),
        (200, [0, 200]),
        (250, [0, 200, 250]),
        (4_000, [0, 200, 500, 1_000, 2_000, 4_000]),
        (5_000, [0, 200, 500, 1_000, 2_000, 4_000, 5_000]),
    ],
)
def test_windows_grow_with_the_visits(visits: int, edges: list[int]) -> None:
    assert window_edges(visits) == edges


def test_a_window_takes_means_over_visits_and_seeds() -> None:
    one = Rates(np.array([0.5, 0.7]), np.array([0.4, 0.4]), np.array([0.8, 0.8]))
    other = Rates(np.array([0.6, 0.6]), np.array([0.4, 0.4]), np.array([0.8, 0.8]))
    [window] = windows([one, other])
    assert (window.start, window.end) == (0, 2)
    assert window.click_rate == pytest.approx(0.6)
    assert window.uplift_share == pytest.approx(0.5)
    assert window.uplift_share_sd == pytest.approx(0.0)


def test_where_all_products_fit_a_slate_nothing_is_to_be_gained() -> None:
    P = np.random.default_rng(1).random((40, 5))
    shown = np.array([slate_click_probability(p) for p in np.sort(P)])
    run = Rates(shown, 1.0 - np.prod(1.0 - P, axis=1), best_click_probability(P, 5))
    assert (run.best > run.random).any()  # in their last bits
    parts = [Rates(*(rates[start : start + 20] for rates in run)) for start in (0, 20)]
    for window in windows(parts, range(1, 20)):
        assert (window.uplift_share, window.uplift_share_sd) == (0.0, 0.0)


def test_the_same_seed_gives_the_same_run_and_another_gives_another(data: DataSet) -> None:
    runs = [simulate(data, Policy(), 60, seed, CASCADE) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0].shown, runs[1].shown)
    assert not np.array_equal(runs[0].shown, runs[2].shown)


def test_learning_beats_random_and_never_the_best(data: DataSet) -> None:
    run = simulate(data, Policy("linucb", alpha=0.2), 600, 1, CASCADE)
    assert (run.shown <= run.best + 1e-12).all()
    late = slice(300, 600)
    assert run.shown[late].mean() > run.random[late].mean() + 0.05


def test_the_random_policy_gets_what_random_slates_are_said_to_get(data: DataSet) -> None:
    run = simulate(data, Policy("random"), 1_500, 3, CASCADE)
    assert run.shown.mean() == pytest.approx(run.random.mean(), abs=0.02)


def test_updating_only_the_clicked_or_first_item_learns_worse(data: DataSet) -> None:
    """Ranks from 2 on then see positives only."""
    policy = Policy("linucb", alpha=1.0)
    top1 = simulate(data, policy, 1_000, 1, feedback_rule("top1", 5))
    cascade = simulate(data, policy, 1_000, 1, CASCADE)
    assert cascade.shown[500:].mean() > top1.shown[500:].mean()


def test_products_that_learn_from_each_other_learn_sooner(data: DataSet) -> None:
    early = slice(100, 500)
    shared, alone = (
        simulate(data, Policy(name, alpha), 500, 1).shown[early].mean()
        for name, alpha in (("shared-linucb", SHARED_ALPHA), ("linucb", 0.2))
    )
    assert shared > alone + 0.02


@pytest.mark.parametrize("world", ["extra", "delay"])
def test_every_world_can_be_learned(data: DataSet, world: str) -> None:
    run = simulate(data, Policy("shared-linucb", SHARED_ALPHA), 1_000, 1, world=world)
    assert (run.shown <= run.best + 1e-12).all()
    # With delay nothing at all is known before visit 300, and then each answer comes late.
    assert run.shown[850:].mean() > run.random[850:].mean() + 0.05


def test_what_was_learned_is_no_longer_true_after_a_drift(data: DataSet) -> None:
    run = simulate(data, Policy("shared-linucb", SHARED_ALPHA), 500, 1, world="drift")
    before, after = slice(150, 250), slice(250, 350)
    assert run.shown[before].mean() > run.random[before].mean() + 0.05
    assert run.shown[after].mean() < run.random[after].mean() + 0.05


def test_after_a_drift_forgetting_is_quicker_to_learn_anew(data: DataSet) -> None:
    late = slice(1_000, 1_600)
    keeps, forgets = (
        simulate(data, Policy("linucb", 0.2), 1_600, 1, world="drift", gamma=gamma)
        .shown[late]
        .mean()
        for gamma in (1.0, 0.99)
    )
    assert forgets > keeps
