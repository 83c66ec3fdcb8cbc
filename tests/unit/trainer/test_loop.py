from collections.abc import Callable, Sequence

import pytest
from confluent_kafka import KafkaError
from msgspec import structs

from shared.events import OUTCOMES
from shared.ports import BrokerUnavailable, Conflict, CorruptState, Position, Write
from shared.testing import Crash, CrashPoints
from tests.scenario import ARMS, PARTITIONS, RULES, World, busy_world, everything_arrives
from tests.scripted_kafka import ScriptedClient, failure
from trainer.loop import RETRY_S, Trainer


def steps_of_a_run() -> list[str]:
    steps = CrashPoints()
    world = busy_world()
    world.settle(world.trainer(steps))
    return steps.seen


STEPS = steps_of_a_run()


def test_the_scenario_passes_through_every_kind_of_step() -> None:
    assert set(STEPS) == {
        "loaded",
        "polled",
        "folded",
        "dead letters sent",
        "dead letters acknowledged",
        "written",
    }


def test_all_is_counted_and_the_bad_is_set_aside() -> None:
    world = busy_world()
    trainer = world.trainer()
    world.settle(trainer)
    report = world.assert_invariants()
    assert (report.applied, report.duplicates, report.dead_letters) == (24, 12, world.bad)
    assert (trainer.counts.applied, trainer.counts.duplicates) == (24, 12)
    assert trainer.ready
    assert trainer.positions == {p: s.position.next_offset for p, s in world.store.states.items()}


@pytest.mark.parametrize("crash_at", range(len(STEPS)), ids=lambda i: f"{i}-{STEPS[i]}")
def test_kill_9_between_any_two_steps_loses_and_doubles_nothing(crash_at: int) -> None:
    world = busy_world()
    victim = world.trainer(CrashPoints(crash_at))
    with pytest.raises(Crash):
        world.settle(victim)
    victim._consumer.close()  # the group notices
    world.send(1, reward=1.0)
    world.settle(world.trainer())
    assert world.assert_invariants().applied == 25


@pytest.mark.parametrize("made", range(1, PARTITIONS + 1))
def test_kill_9_with_some_of_a_polls_writes_made_loses_and_doubles_nothing(made: int) -> None:
    world = World()
    victim = world.trainer()
    world.settle(victim)  # the states are made
    everything_arrives(world)
    steps = CrashPoints(made - 1)
    world.store.wrote = lambda: steps("a write")
    with pytest.raises(Crash):
        world.settle(victim)
    victim._consumer.close()
    world.store.wrote = lambda: None
    world.settle(world.trainer())
    assert world.assert_invariants().applied == 24


def with_an_outcome_for_each_arm() -> tuple[World, Trainer]:
    """A trainer that serves, and has yet to read them."""
    world = World()
    trainer = world.trainer()
    world.settle(trainer)
    for arm in ARMS:
        world.send(arm)
    return world, trainer


def test_what_a_poll_brings_is_stored_in_one_round_trip() -> None:
    world, trainer = with_an_outcome_for_each_arm()
    before = world.store.round_trips, trainer.counts.writes
    trainer.run_once(0.0)
    assert trainer.counts.applied == len(ARMS)
    made = world.store.round_trips - before[0], trainer.counts.writes - before[1]
    assert made == (1, PARTITIONS)


def test_a_conflict_in_one_partition_holds_up_no_other() -> None:
    world, trainer = with_an_outcome_for_each_arm()
    taken = RULES.partitions[ARMS[0]]
    believed = world.store.states[taken].position
    moved = structs.replace(believed, generation=believed.generation + 1)
    world.store.write(taken, believed, moved, {})
    trainer.run_once(0.0)
    assert trainer.counts.conflicts == 1
    elsewhere = [arm for arm in ARMS if RULES.partitions[arm] != taken]
    assert trainer.counts.applied == len(elsewhere) > 0
    world.settle(trainer)
    assert world.assert_invariants().applied == len(ARMS)


@pytest.mark.parametrize("step", ["folded", "dead letters acknowledged", "written"])
def test_a_trainer_that_is_killed_again_and_again_gets_there(step: str) -> None:
    world = busy_world()
    for _ in range(30):
        seen: list[str] = []

        def dies_at_the_second(name: str, seen: list[str] = seen) -> None:
            seen.append(name)
            if seen.count(step) == 2:
                raise Crash(name)

        trainer = world.trainer(dies_at_the_second)
        try:
            world.settle(trainer, rounds=2)
        except Crash:
            trainer._consumer.close()
            continue
        break
    world.settle(world.trainer())
    assert world.assert_invariants().applied == 24


def test_dead_letters_carry_the_original_bytes_and_where_they_came_from() -> None:
    world = World()
    world.poison(1, b"\x00not json")
    world.settle(world.trainer())
    [letter] = [r for p in range(2) for r in world.broker.records("dead-letters", p)]
    assert letter.value == b"\x00not json"
    assert letter.key == b"1"
    headers = dict(letter.headers)
    assert headers["topic"] == OUTCOMES.encode()
    assert int(headers["partition"]) == RULES.partitions[1]
    assert int(headers["offset"]) == 0
    assert headers["reason"].startswith(b"undecodable")


def test_no_offset_passes_a_dead_letter_that_was_not_acknowledged() -> None:
    world = World()
    trainer = world.trainer()
    world.settle(trainer)
    world.poison(1)
    world.broker.acknowledges = False
    world.settle(trainer)
    assert world.store.states[RULES.partitions[1]].position.next_offset == 0
    world.broker.acknowledges = True
    world.settle(trainer)
    assert world.assert_invariants().dead_letters == 1


def test_two_trainers_that_own_one_partition_harm_nothing() -> None:
    world = World()
    one, other = world.trainer(group="a"), world.trainer(group="b")
    for arm in [*ARMS, *ARMS]:
        world.send(arm)
        world.settle(one, other, rounds=1)
    world.settle(one, other)
    assert world.assert_invariants().applied == 24
    assert one.counts.conflicts + other.counts.conflicts > 0


def test_a_zombie_that_lost_its_partitions_cannot_write() -> None:
    world = World()
    zombie = world.trainer(group="a")
    world.send(1)
    world.settle(zombie)
    world.send(1)
    heir = world.trainer(group="b")
    world.settle(heir)
    before = world.store.dump()
    zombie.run_once(0.0)
    assert world.store.states == before
    assert zombie.counts.conflicts == 1


def test_a_lost_reply_after_an_applied_write_doubles_nothing() -> None:
    world = busy_world()
    trainer = world.trainer()
    world.settle(trainer, rounds=1)
    world.store.lose_replies = 2
    for arm in ARMS:
        world.send(arm)
    world.settle(trainer)
    assert world.assert_invariants().applied == 36


def test_after_a_lost_reply_a_partition_is_served_though_nothing_more_comes() -> None:
    world = World()
    trainer = world.trainer()
    world.settle(trainer)
    world.store.lose_replies = 1
    world.send(1)
    world.settle(trainer)
    assert world.assert_invariants().applied == 1
    assert trainer.ready


def test_a_conflict_with_our_own_write_is_our_write() -> None:
    """redis-py sends a command again when the reply is lost: the second answer is a conflict."""
    world = World()
    trainer = world.trainer()
    world.settle(trainer)
    world.store.send_twice = True
    world.send(1)
    world.settle(trainer)
    assert (trainer.counts.conflicts, trainer.counts.reloads) == (0, 0)
    assert world.assert_invariants().applied == 1


def away(world: World, trainer: Trainer) -> None:
    world.store.available = False
    world.send(1)
    world.settle(trainer, rounds=3)
    assert not trainer.ready
    assert "away" in next(iter(trainer.counts.waiting.values()))
    world.store.available = True


def full(world: World, trainer: Trainer) -> None:
    world.store.full = True
    world.send(1)
    trainer.run_once(0.0)
    for _ in range(4):  # also just after the state was read again
        assert not trainer.ready
        assert trainer.not_ready == ["the fake store is full"]
        trainer.run_once(0.0)
    world.store.full = False


def emptied(world: World, _: Trainer) -> None:
    world.store.flush()


def rolled_back(world: World, trainer: Trainer) -> None:
    older = world.store.dump()
    for arm in ARMS:
        world.send(arm, reward=1.0)
    world.settle(trainer)
    world.store.restore(older)


def broker_away(world: World, trainer: Trainer) -> None:
    world.broker.available = False
    with pytest.raises(BrokerUnavailable):
        trainer.run_once(0.0)
    world.broker.available = True


@pytest.mark.parametrize("fault", [away, full, emptied, rolled_back, broker_away])
def test_it_recovers_by_itself_from(fault: Callable[[World, Trainer], None]) -> None:
    world = busy_world()
    trainer = world.trainer()
    world.settle(trainer)
    fault(world, trainer)
    for arm in ARMS:
        world.send(arm)
    world.settle(trainer)
    world.assert_invariants()
    assert trainer.ready


def test_outcomes_that_come_beside_an_error_of_another_partition_are_counted() -> None:
    world = World()
    for arm in ARMS:
        world.send(arm)
    client = ScriptedClient({p: world.broker.records(OUTCOMES, p) for p in range(PARTITIONS)})
    client.put(client.given(range(PARTITIONS)))
    client.beside = [failure(1, KafkaError.TOPIC_AUTHORIZATION_FAILED)]
    trainer = world.trainer(consumer=client.consumer(OUTCOMES))
    trainer.run_once(0.0)
    assert trainer.run_once(0.0) == len(ARMS)
    with pytest.raises(BrokerUnavailable):
        trainer.run_once(0.0)
    world.settle(trainer)
    assert world.assert_invariants().applied == len(ARMS)


@pytest.mark.parametrize("wrote", [False, True])
def test_a_state_whose_corruption_a_write_meets_is_refused_and_the_others_are_served(
    wrote: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, trainer = with_an_outcome_for_each_arm()
    corrupt, whole = RULES.partitions[ARMS[0]], world.store.states
    write_all, positions = world.store.write_all, world.store.positions

    def written(writes: Sequence[Write]) -> list[Conflict | None]:
        others = [write for write in writes if write.partition != corrupt]
        if len(others) == len(writes):
            return write_all(writes)
        if wrote:
            write_all(others)
        raise CorruptState("the state's metadata is unreadable")

    def found(partitions: Sequence[int]) -> list[Position | None]:
        if corrupt in partitions:
            raise CorruptState("the state's metadata is unreadable")
        return positions(partitions)

    monkeypatch.setattr(world.store, "write_all", written)
    monkeypatch.setattr(world.store, "positions", found)
    world.settle(trainer)
    assert trainer.not_ready == ["the state's metadata is unreadable"]
    assert trainer.positions.keys() == set(range(PARTITIONS)) - {corrupt}
    elsewhere = [arm for arm in ARMS if RULES.partitions[arm] != corrupt]
    assert sum(len(whole[p].rows) for p in trainer.positions) == len(elsewhere)
    monkeypatch.undo()
    world.settle(trainer)
    assert world.assert_invariants().applied == len(ARMS)
    assert trainer.ready


def test_a_full_store_is_not_pressed() -> None:
    world = World()
    trainer = world.trainer()
    world.settle(trainer)
    world.store.full = True
    world.send(1)
    trainer.run_once(0.0)  # might be a reply that was lost: read again at once
    trainer.run_once(0.0)
    tried = world.store.round_trips
    for _ in range(5):
        trainer.run_once(0.0)
    assert world.store.round_trips == tried
    world.clock.now_s += RETRY_S
    trainer.run_once(0.0)
    assert world.store.round_trips == tried + 1


def test_a_revoked_partition_is_left_alone() -> None:
    world = World()
    first = world.trainer()
    world.settle(first)
    second = world.trainer()
    world.settle(first, second)
    assert first.positions.keys() | second.positions.keys() == set(range(PARTITIONS))
    assert not first.positions.keys() & second.positions.keys()


@pytest.mark.parametrize("fault", [emptied, rolled_back])
def test_a_lost_state_is_made_again_though_no_outcome_comes(
    fault: Callable[[World, Trainer], None],
) -> None:
    world = busy_world()
    trainer = world.trainer()
    world.settle(trainer)
    fault(world, trainer)
    world.settle(trainer)
    assert world.assert_invariants().applied >= 24


def test_marks_of_transactions_are_passed_and_change_no_bit() -> None:
    world = World()
    trainer = world.trainer()
    for arm in ARMS:
        world.send(arm, reward=1.0)
        world.mark(arm)
        world.send(arm)
    world.mark(1)
    world.mark(1)
    world.settle(trainer)
    report = world.assert_invariants()
    assert (report.applied, report.lag) == (24, 0)
    assert trainer.counts.reloads == 0


def test_a_log_of_marks_alone_leaves_no_lag_and_a_heir_goes_on_behind_them() -> None:
    world = World()
    first = world.trainer()
    world.mark(1)
    world.settle(first)
    assert world.assert_invariants().lag == 0
    world._consumers[id(first)].kill()
    world.send(1)
    second = world.trainer()
    world.settle(second)
    assert world.assert_invariants().applied == 1


def test_offsets_are_committed_for_lag_tools() -> None:
    world = busy_world()
    trainer = world.trainer()
    world.settle(trainer)
    assert world.broker._groups["g", OUTCOMES].committed == trainer.positions
