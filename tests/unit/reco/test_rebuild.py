"""What a replay compares, and from where it starts."""

from collections.abc import Callable, Mapping

import pytest
from msgspec import structs

from reco.rebuild import CannotReplay, compare_all
from shared.events import OUTCOMES
from shared.ports import ModelConfig, Position, State
from shared.testing import FakeConsumer
from tests.scenario import ARMS, CONFIG, PARTITIONS, RULES, WINDOW, D, World
from trainer.apply import Rules


def learned() -> tuple[World, list[State | None]]:
    """A world with outcomes of every arm, and what its trainer stored."""
    world = World()
    trainer = world.trainer()
    for arm in ARMS:
        world.send(arm, reward=1.0)
    world.settle(trainer)
    return world, [world.store.states.get(partition) for partition in range(PARTITIONS)]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (ModelConfig(D, "encoder", gamma=0.9), "with γ 1.0, not 0.9 as asked for here: give "),
        (ModelConfig(D, "another"), "with the encoder encoder, not another as asked for here: "),
    ],
)
def test_a_state_of_another_configuration_is_a_violation_and_not_rebuilt(
    config: ModelConfig, said: str
) -> None:
    world, states = learned()
    rules = Rules.of(config, ARMS, PARTITIONS, WINDOW)
    consumer = world.broker.consumer(OUTCOMES, "replay", reset="error")
    report, rebuilt = compare_all(consumer, rules, states, {})
    assert rebuilt == {}
    assert (report.outcomes, report.differing_bits, report.passed) == (0, 0, False)
    assert len(report.violations) == PARTITIONS
    assert f"partition 0: the state was made {said}" in report.violations[0]


def further(position: Position) -> Position:
    return structs.replace(position, next_offset=position.next_offset + 1)


def forgetting(position: Position) -> Position:
    return structs.replace(position, config=structs.replace(CONFIG, gamma=0.9))


def elsewhere(position: Position) -> Position:
    return structs.replace(position, source=structs.replace(position.source, cluster_id="old"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (further, r"is at \d+, further than the state at \d+; give another"),
        (forgetting, r"was made with γ 0.9, not 1.0 as asked for here; give another"),
        (elsewhere, r"is of another log \(the cluster was old and is .*\); give another"),
    ],
)
def test_a_snapshot_that_does_not_lead_to_the_state_is_refused(
    spoil: Callable[[Position], Position], said: str
) -> None:
    world, states = learned()
    [state, *_] = states
    assert state is not None
    consumer = world.broker.consumer(OUTCOMES, "replay", reset="error")
    source = world.broker.source(OUTCOMES)
    report, _ = compare_all(consumer, RULES, states, {0: state}, source)
    assert report.passed
    base = State(spoil(state.position), state.rows)
    with pytest.raises(CannotReplay, match=f"partition 0: the snapshot {said}"):
        compare_all(consumer, RULES, states, {0: base}, source)


def test_what_comes_while_the_log_is_read_is_no_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    trainer = world.trainer()
    for arm in ARMS:
        world.send(arm)
    world.settle(trainer)
    world.send(1)
    assign = FakeConsumer.assign

    def growing(consumer: FakeConsumer, offsets: Mapping[int, int]) -> None:
        for arm in ARMS:
            world.send(arm)
        assign(consumer, offsets)

    monkeypatch.setattr(FakeConsumer, "assign", growing)
    consumer = world.broker.consumer(OUTCOMES, "replay", reset="error")
    states = [world.store.states.get(partition) for partition in range(PARTITIONS)]
    report, _ = compare_all(consumer, RULES, states, {})
    assert (report.applied, report.lag) == (len(ARMS), 1)
    assert report.passed
