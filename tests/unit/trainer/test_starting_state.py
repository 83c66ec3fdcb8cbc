"""From which state a trainer goes on, and from which it refuses to."""

from collections.abc import Callable, Iterator

import msgspec
import pytest

from shared.events import OUTCOMES
from shared.ports import (
    BrokerUnavailable,
    ModelConfig,
    Position,
    Rows,
    Source,
    State,
    Watermarks,
)
from tests.scenario import ARMS, CONFIG, PARTITIONS, RULES, World, busy_world

STRANGER = next(arm for arm in ARMS if RULES.partitions[arm] != RULES.partitions[1])


def trimmed_world() -> World:
    world = busy_world()
    world.settle(world.trainer(group="before"))
    return world


def test_state_missing_and_log_trimmed_without_a_snapshot_is_refused() -> None:
    world = trimmed_world()
    world.store.flush()
    home = RULES.partitions[1]
    world.broker.trim(OUTCOMES, home, 2)
    trainer = world.trainer()
    world.settle(trainer)
    assert not trainer.ready
    assert "the log starts only at 2" in trainer.counts.waiting[home]
    assert "snapshot load" in trainer.counts.waiting[home]
    assert home not in world.store.states
    assert trainer.positions.keys() == set(range(PARTITIONS)) - {home}


def test_a_refused_partition_is_served_once_a_snapshot_is_loaded() -> None:
    world = trimmed_world()
    snapshot = world.store.dump()
    world.store.flush()
    home = RULES.partitions[1]
    world.broker.trim(OUTCOMES, home, 2)
    trainer = world.trainer()
    world.settle(trainer)
    world.store.replace(home, snapshot[home])
    world.send(1)
    world.settle(trainer)
    assert trainer.ready
    assert world.store.states[home].position.next_offset == snapshot[home].position.next_offset + 1


def test_a_snapshot_that_the_log_continues_is_taken_by_itself() -> None:
    world = trimmed_world()
    snapshot = world.store.dump()
    whole = world.compared()
    world.store.flush()
    for partition in range(PARTITIONS):
        world.broker.trim(OUTCOMES, partition, 2)

    def recover(partition: int, source: Source, held: Watermarks) -> State | None:
        assert held.start == 2
        return snapshot[partition]

    trainer = world.trainer(recover=recover)
    world.settle(trainer)
    assert trainer.ready
    assert whole.differing_bits == 0
    assert {p: s.rows for p, s in world.store.states.items()} == {
        p: s.rows for p, s in snapshot.items()
    }


def test_a_log_that_is_trimmed_under_a_lagging_trainer_is_noticed() -> None:
    world = World()
    trainer = world.trainer()
    world.settle(trainer)
    for _ in range(5):
        world.send(1)
    world.broker.trim(OUTCOMES, RULES.partitions[1], 3)
    world.settle(trainer)
    assert "the log starts only at 3" in trainer.counts.waiting[RULES.partitions[1]]


def changed(position: Position, **changes: object) -> Position:
    return msgspec.structs.replace(position, **changes)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda p: changed(p, source=Source("other", OUTCOMES, PARTITIONS)),
            "another log (the cluster was other and is fake);",
        ),
        (
            lambda p: changed(p, source=Source("fake", OUTCOMES, 12)),
            "another log (the partition count was 12 and is 3);",
        ),
        (
            lambda p: changed(p, source=Source("fake", "clicks", 12)),
            "(the topic was clicks and is outcomes and the partition count was 12 and is 3);",
        ),
        (
            lambda p: changed(p, config=ModelConfig(15, CONFIG.encoder_id)),
            "made with contexts of 15 numbers, not 3;",
        ),
        (
            lambda p: changed(p, config=ModelConfig(CONFIG.d, "new", gamma=0.5)),
            "made with the encoder new, not encoder and γ 0.5, not 1.0;",
        ),
        (lambda p: changed(p, next_offset=10_000), "but the log ends at"),
    ],
)
def test_a_state_that_is_not_of_this_log_or_model_is_refused_and_left_as_it_is(
    spoil: Callable[[Position], Position], said: str
) -> None:
    world = trimmed_world()
    home = RULES.partitions[1]
    state = world.store.states[home]
    world.store.states[home] = spoiled = State(spoil(state.position), state.rows)
    trainer = world.trainer()
    world.settle(trainer)
    assert said in trainer.counts.waiting[home]
    assert "--model" in trainer.counts.waiting[home]
    assert "{" not in trainer.counts.waiting[home]
    assert world.store.states[home] == spoiled


def test_no_snapshot_takes_the_place_of_a_state_of_another_log() -> None:
    world = trimmed_world()
    snapshot, home = world.store.dump(), RULES.partitions[1]
    world.broker.trim(OUTCOMES, home, 2)
    position = changed(
        world.store.states[home].position,
        source=Source("other", OUTCOMES, PARTITIONS),
        next_offset=1,
    )
    world.store.states[home] = foreign = State(position, {1: b"learned elsewhere"})
    trainer = world.trainer(recover=lambda partition, source, held: snapshot[partition])
    world.settle(trainer)
    assert "another log" in trainer.counts.waiting[home]
    assert world.store.states[home] == foreign


def test_a_topic_that_was_made_again_is_noticed_though_it_has_grown_beyond_the_state() -> None:
    world = World()
    world.broker.recreate(OUTCOMES, "first")
    world.send(1)
    trainer = world.trainer()
    world.settle(trainer)
    home = RULES.partitions[1]
    before = world.store.states[home]
    world.broker.recreate(OUTCOMES, "second")
    world.clock.now_s += 1.0  # the trainer asks about once a second
    trainer.run_once(0.0)
    for _ in range(3):
        world.send(1)
    world.settle(trainer)
    assert (
        "the state belongs to another log (the topic outcomes was deleted and made again); "
        "use another --model, or load a snapshot of this log (`reco snapshot load --force FILE`)"
    ) in trainer.counts.waiting[home]
    assert world.store.states[home] == before
    assert not trainer.ready


def test_a_topic_that_was_made_again_is_noticed_though_a_partition_is_just_being_read() -> None:
    world = World()
    world.broker.recreate(OUTCOMES, "first")
    for arm in ARMS:
        world.send(arm)
    trainer = world.trainer()
    world.settle(trainer)
    served = RULES.partitions[1]
    before = world.store.states[served]
    world.broker.recreate(OUTCOMES, "second")
    for arm in [*ARMS, *ARMS]:
        world.send(arm)
    trainer.assigned([RULES.partitions[STRANGER]])
    world.settle(trainer)
    assert "the state belongs to" in trainer.counts.waiting[served]
    assert world.store.states[served] == before


def test_a_state_from_before_topics_had_ids_is_continued_and_learns_the_id() -> None:
    world = World()
    world.send(1)
    first = world.trainer()
    world.settle(first)
    world.lose(first)
    world.broker.topic_ids[OUTCOMES] = "now known"
    world.send(1)
    world.settle(world.trainer())
    assert world.assert_invariants().applied == 2
    assert world.store.states[RULES.partitions[1]].position.source.topic_id == "now known"


def test_a_topic_that_is_gone_is_waited_for() -> None:
    world = World()
    trainer = world.trainer()
    world.broker.available = False
    with pytest.raises(BrokerUnavailable):
        trainer.run_once(0.0)
    world.broker.available = True
    world.send(1)
    world.settle(trainer)
    assert world.assert_invariants().applied == 1


def test_a_write_that_lands_while_a_state_is_read_counts_once_though_the_store_then_loses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    home = RULES.partitions[1]
    zombie = world.trainer(group="a")
    world.send(1, reward=1.0)
    world.settle(zombie)
    world.send(1, reward=1.0)
    scan, before = world.store.scan, list[dict[int, State]]()

    def scanned(partition: int) -> Iterator[Rows]:
        if partition == home and not before:
            before.append(world.store.dump())
            zombie.run_once(0.0)
            assert world.store.states[home].position.next_offset == 2
        return scan(partition)

    def step(name: str) -> None:
        if name == "loaded" and before:
            world.store.restore(before[0])

    heir = world.trainer(step, group="b")
    monkeypatch.setattr(world.store, "scan", scanned)
    world.settle(heir)
    assert world.assert_invariants().applied == 2


def test_a_damaged_row_is_refused_and_named() -> None:
    world = trimmed_world()
    home = RULES.partitions[1]
    world.store.states[home].rows[1] = b"nonsense"
    trainer = world.trainer()
    world.settle(trainer)
    assert "row of arm 1" in trainer.counts.waiting[home]
