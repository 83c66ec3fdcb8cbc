import msgspec
import numpy as np
import pytest

from server.joint_solver import JointSolver
from server.model_view import (
    CHECK_EVERY_S,
    RETRY_S,
    STALE_AFTER_S,
    ModelView,
    WrongModel,
)
from server.scorer import Model
from shared.arm_statistics import ArmStatistics, Floats, packed_length
from shared.events import OUTCOMES
from shared.features import Roles
from shared.linucb import Solution, solve
from shared.live_catalogue import arms_id
from shared.ports import Change, ModelConfig, Position, State
from shared.shared_linucb import Hyperparameters
from shared.shared_linucb import solve as solve_together
from tests.scenario import ARMS, CONFIG, PARTITIONS, RULES, D, World

HOME = RULES.partitions[1]


class Watched:
    """A world with a trainer and a view."""

    def __init__(self) -> None:
        self.world = World()
        self.trainer = self.world.trainer()
        self.advanced: list[tuple[int, int]] = []
        self.view = ModelView(
            self.world.store,
            list(ARMS),
            CONFIG,
            PARTITIONS,
            1.0,
            self.world.clock,
            lambda partition, offset: self.advanced.append((partition, offset)),
        )

    def learn(self, *arms: int) -> None:
        for arm in arms:
            self.world.send(arm, 1.0)
        self.world.settle(self.trainer, rounds=2)

    def theta(self, arm: int) -> Floats:
        with self.view.locked() as view:
            theta: Floats = view.model.solution.theta[list(ARMS).index(arm)].copy()
            return theta

    def stored_theta(self, arm: int) -> Floats:
        statistics = ArmStatistics(D)
        statistics.load({arm: self.world.store.states[RULES.partitions[arm]].rows[arm]})
        theta: Floats = solve(statistics.b, statistics.xx, 1.0).theta[0]
        return theta


def test_it_is_ready_once_every_partition_is_read() -> None:
    watched = Watched()
    assert not watched.view.ready
    watched.view.refresh()
    assert watched.view.ready


def test_before_any_outcome_every_arm_is_untrained() -> None:
    watched = Watched()
    watched.view.refresh()
    with watched.view.locked() as view:
        assert view.positions == [0] * PARTITIONS
        assert view.model.untrained.tolist() == list(range(len(ARMS)))
        assert not view.stale


def test_what_was_learned_before_is_copied() -> None:
    watched = Watched()
    watched.learn(1, 1, 2)
    watched.view.refresh()
    np.testing.assert_array_equal(watched.theta(1), watched.stored_theta(1))
    with watched.view.locked() as view:
        assert view.model.n[0] == 2
        assert view.model.clicks[0] == 2
        assert 0 not in view.model.untrained


def test_what_is_learned_meanwhile_is_heard() -> None:
    watched = Watched()
    watched.view.refresh()
    watched.learn(1)
    watched.view.refresh()
    np.testing.assert_array_equal(watched.theta(1), watched.stored_theta(1))
    assert (HOME, 1) in watched.advanced
    assert watched.view.gaps == 0


def test_a_lost_announcement_is_found_by_the_next_one() -> None:
    watched = Watched()
    watched.view.refresh()
    watched.world.store.lose_changes = PARTITIONS * 4
    watched.learn(1)
    watched.world.store.lose_changes = 0
    watched.learn(1)
    watched.view.refresh()
    np.testing.assert_array_equal(watched.theta(1), watched.stored_theta(1))
    assert watched.view.gaps == 1


def test_a_lost_announcement_with_nothing_after_it_is_found_by_the_check() -> None:
    watched = Watched()
    watched.learn(2)
    watched.view.refresh()
    watched.world.store.lose_changes = 100
    watched.learn(1)
    for _ in range(3):
        watched.world.clock.now_s += CHECK_EVERY_S
        watched.view.refresh()
    np.testing.assert_array_equal(watched.theta(1), watched.stored_theta(1))


def test_an_announcement_with_a_row_that_is_none_is_a_lost_one() -> None:
    watched = Watched()
    watched.learn(1)
    watched.view.refresh()
    [feed] = watched.world.store._feeds
    feed.offer(Change(HOME, 1, 1, 2, {1: b"no row"}))
    watched.view.refresh()
    np.testing.assert_array_equal(watched.theta(1), watched.stored_theta(1))
    assert watched.view.gaps == 1


def test_with_the_store_away_the_last_view_is_served_and_said_to_be_stale() -> None:
    watched = Watched()
    watched.learn(1)
    watched.view.refresh()
    before = watched.theta(1)
    watched.world.store.available = False
    watched.world.store.interrupt_feeds()
    watched.view.refresh()
    np.testing.assert_array_equal(watched.theta(1), before)
    with watched.view.locked() as view:
        assert view.stale
    assert "away" in watched.view.error
    watched.world.clock.now_s += 7.0
    assert watched.view.age_s == pytest.approx(7.0)


def test_a_view_that_nobody_confirms_becomes_stale() -> None:
    watched = Watched()
    watched.view.refresh()
    watched.world.clock.now_s += STALE_AFTER_S + 0.1
    with watched.view.locked() as view:
        assert view.stale


def test_it_catches_up_when_the_store_comes_back() -> None:
    watched = Watched()
    watched.learn(1)
    watched.view.refresh()
    watched.world.store.available = False
    watched.world.store.interrupt_feeds()
    watched.view.refresh()
    watched.world.store.available = True
    watched.learn(1)
    watched.world.clock.now_s += RETRY_S
    watched.view.refresh()
    np.testing.assert_array_equal(watched.theta(1), watched.stored_theta(1))
    with watched.view.locked() as view:
        assert not view.stale


def test_an_arm_that_an_older_state_does_not_have_is_forgotten() -> None:
    watched = Watched()
    watched.learn(2)
    older = watched.world.store.dump()
    watched.learn(1)
    watched.view.refresh()
    assert watched.theta(1).any()
    watched.trainer._consumer.close()
    watched.world.store.restore(older)
    watched.view.refresh()
    assert not watched.theta(1).any()
    with watched.view.locked() as view:
        assert view.model.n[0] == 0
        assert 0 in view.model.untrained


def test_an_arm_that_is_not_in_the_catalogue_is_passed_over() -> None:
    watched = Watched()
    watched.learn(1)
    view = ModelView(watched.world.store, [2], CONFIG, PARTITIONS, 1.0, watched.world.clock)
    view.refresh()
    assert view.ready
    with view.locked() as seen:
        assert seen.model.n.tolist() == [0]


@pytest.mark.parametrize("config", [ModelConfig(D, "other"), ModelConfig(D + 1, CONFIG.encoder_id)])
def test_the_model_of_another_encoder_is_refused(config: ModelConfig) -> None:
    watched = Watched()
    watched.learn(1)
    view = ModelView(watched.world.store, list(ARMS), config, PARTITIONS, 1.0, watched.world.clock)
    with pytest.raises(WrongModel, match="--model"):
        view.refresh()


def test_another_partition_count_is_refused() -> None:
    watched = Watched()
    watched.learn(1)
    state = watched.world.store.states[HOME]
    assert isinstance(state, State)
    view = ModelView(watched.world.store, list(ARMS), CONFIG, 12, 1.0, watched.world.clock)
    with pytest.raises(WrongModel, match="3 partitions, this one has 12"):
        view.refresh()


FEATURES = np.random.default_rng(3).normal(size=(len(ARMS), 2))
ROLES = Roles(np.repeat([0.0, 1.0], [D - 1, 1]), np.repeat([1.0, 0.0], [1, D - 1]))
HYPER = Hyperparameters(0.02, 0.1, 0.2, 3.0)


class WatchedTogether(Watched):
    """The same with arms that are solved together."""

    def __init__(self, took_s: float = 0.0) -> None:
        super().__init__()
        clock = self.world.clock

        class Slow(JointSolver):
            def solve(self) -> Model:
                clock.now_s += took_s
                return super().solve()

        solver = Slow(list(ARMS), FEATURES, ROLES, HYPER, estimates=False)
        self.view = ModelView(
            self.world.store,
            list(ARMS),
            CONFIG,
            PARTITIONS,
            1.0,
            clock,
            lambda partition, offset: self.advanced.append((partition, offset)),
            solver,
        )

    def stored_solution(self) -> Solution:
        statistics = ArmStatistics(D)
        for state in self.world.store.states.values():
            statistics.load(state.rows)
        b, xx = np.zeros((len(ARMS), D)), np.zeros((len(ARMS), packed_length(D)))
        at = [list(ARMS).index(arm) for arm in statistics.arms]
        b[at], xx[at] = statistics.b, statistics.xx
        return solve_together(b, xx, FEATURES, ROLES, HYPER)


def test_solved_together_the_view_is_that_of_all_rows_and_names_how() -> None:
    watched = WatchedTogether()
    watched.learn(1, 1, 2, 5)
    watched.view.refresh()
    assert watched.view.ready
    with watched.view.locked() as view:
        for mine, stored in zip(view.model.solution, watched.stored_solution(), strict=True):
            np.testing.assert_array_equal(mine, stored)
        assert view.parameters == msgspec.structs.asdict(HYPER)
        assert sum(view.positions) == 4


def test_a_joint_solution_is_swapped_in_whole_and_positions_go_with_it() -> None:
    watched = WatchedTogether(took_s=0.2)
    watched.view.refresh()
    with watched.view.locked() as before:
        kept = before.model.solution.theta.copy()
    watched.learn(1)
    watched.world.clock.now_s -= 6.0  # what the trainer's rounds took, so that no budget is left
    watched.advanced.clear()
    watched.view.refresh()
    with watched.view.locked() as view:  # over budget: the previous solution goes on
        assert view.model is before.model
        assert sum(view.positions) == 0
    assert watched.advanced == []
    watched.world.clock.now_s += 0.5
    assert watched.view.solution_age_s == pytest.approx(0.5)
    watched.view.refresh()
    assert watched.view.solution_age_s == 0.0
    assert (HOME, 1) in watched.advanced
    with watched.view.locked() as view:
        assert view.positions[HOME] == 1
    np.testing.assert_array_equal(before.model.solution.theta, kept)


def test_what_was_read_is_solved_though_the_store_is_away() -> None:
    watched = WatchedTogether(took_s=0.2)
    watched.view.refresh()
    watched.learn(1)
    watched.world.clock.now_s -= 6.0
    watched.view.refresh()
    watched.world.store.available = False
    watched.world.clock.now_s += 1.0
    watched.view.refresh()
    with watched.view.locked() as view:
        assert view.positions[HOME] == 1


def test_a_new_product_is_ranked_at_once_and_one_with_a_past_brings_it() -> None:
    watched = Watched()
    watched.learn(1, 2, 2)
    watched.view = ModelView(watched.world.store, [1, 3], CONFIG, PARTITIONS, 1.0, lambda: 0.0)
    watched.view.refresh()
    watched.world.store.available = False
    watched.view.rank_these([1, 3, 2, 99])
    with watched.view.locked() as view:  # true of 2 as well, from which others have learned
        assert view.positions[RULES.partitions[2]] >= 2
        assert view.model.arms.tolist() == [1, 3, 2, 99]
        assert view.model.n.tolist() == [1, 0, 2, 0]
        assert view.model.untrained.tolist() == [1, 3]
        assert view.model.solution.theta[2].tolist() == watched.stored_theta(2).tolist()


def looking_only_at_1() -> Watched:
    watched = Watched()
    watched.view = ModelView(watched.world.store, [1], CONFIG, PARTITIONS, 1.0, lambda: 0.0)
    watched.view.refresh()
    return watched


def test_what_was_heard_of_a_product_before_it_is_ranked_counts_from_its_first_slate_on() -> None:
    watched = looking_only_at_1()
    for _ in range(2):
        watched.learn(2)
        watched.view.refresh()
    watched.world.store.available = False
    watched.view.rank_these([1, 2])
    with watched.view.locked() as view:
        assert view.model.n.tolist() == [0, 2]
        assert view.model.solution.theta[1].tolist() == watched.stored_theta(2).tolist()


def test_what_an_older_state_does_not_have_is_unknown_of_a_product_that_is_new() -> None:
    watched = looking_only_at_1()
    watched.learn(1)
    older = watched.world.store.dump()
    watched.learn(2)
    watched.view.refresh()
    watched.trainer._consumer.close()
    watched.world.store.restore(older)
    watched.view.refresh()
    watched.view.rank_these([1, 2])
    with watched.view.locked() as view:
        assert view.model.n.tolist() == [1, 0]


def test_what_is_known_of_a_new_product_has_aged_as_that_of_the_others() -> None:
    world, forgetting = World(), msgspec.structs.replace(CONFIG, gamma=0.9)
    statistics = ArmStatistics(D, forgetting.gamma)
    X = np.random.default_rng(1).random((4, D))
    statistics.add(np.array([1, 1, 1, 1]), X, np.ones(4), np.arange(4))
    position = Position(9, world.broker.source(OUTCOMES), 1, "writer", forgetting)
    world.store.write(HOME, None, position, statistics.pack([1]))
    seen = []
    for first in ([1, 99], [99]):
        view = ModelView(world.store, first, forgetting, PARTITIONS, 1.0, world.clock)
        view.refresh()
        view.rank_these([99, 1])
        with view.locked() as locked:
            seen.append(locked.model.solution.theta.tolist())
    assert seen[0] == seen[1]
    assert any(seen[0][1])


def test_a_view_names_the_set_of_products_that_it_ranks() -> None:
    watched = Watched()
    with watched.view.locked() as view:
        assert view.arms_id == arms_id(ARMS)
    watched.learn(1)
    watched.view.refresh()
    watched.view.rank_these([*ARMS, 99])
    with watched.view.locked() as view:
        assert view.arms_id == arms_id([*ARMS, 99])


def test_a_retired_product_is_no_longer_ranked_and_the_others_keep_what_they_know() -> None:
    watched = Watched()
    watched.learn(1, 2, 2)
    watched.view.refresh()
    watched.view.rank_these([arm for arm in ARMS if arm != 1])
    watched.learn(1, 2)
    watched.view.refresh()
    with watched.view.locked() as view:
        assert 1 not in view.model.arms
        at = view.model.arms.tolist().index(2)
        assert view.model.n[at] == 3
        assert view.model.solution.theta[at].tolist() == watched.stored_theta(2).tolist()
    watched.view.rank_these(list(ARMS))
    watched.view.refresh()
    with watched.view.locked() as view:
        assert view.model.n[:2].tolist() == [2, 3]


def test_solved_together_a_new_product_is_ranked_once_all_is_solved_with_it() -> None:
    watched = WatchedTogether()
    watched.learn(1, 1, 2, 5)
    watched.view.refresh()
    arms = [arm for arm in ARMS if arm != 5] + [99]
    Z = np.concatenate([FEATURES[[list(ARMS).index(arm) for arm in arms[:-1]]], [[0.3, -0.2]]])
    watched.view.rank_these(arms, JointSolver(arms, Z, ROLES, HYPER, estimates=False))
    with watched.view.locked() as view:
        assert view.model.arms.tolist() == list(ARMS)  # still those of before
        assert view.arms_id == arms_id(ARMS)
    watched.world.clock.now_s += 1.0
    watched.view.refresh()
    with watched.view.locked() as view:
        assert view.model.arms.tolist() == arms
        assert view.arms_id == arms_id(arms)
        assert view.model.n.sum() == 3
        assert np.abs(view.model.solution.theta[-1]).max() > 0.0  # what its features say
