from collections.abc import Callable, Iterator

from reco.state import read_states
from shared.events import OUTCOMES
from shared.ports import Rows
from shared.testing import FakeStore
from tests.scenario import ARMS, PARTITIONS, RULES, World
from trainer.apply import PartitionFold


def test_states_are_read_as_they_are_stored() -> None:
    world = World()
    trainer = world.trainer()
    for arm in ARMS:
        world.send(arm)
    world.settle(trainer)
    assert read_states(world.store, range(PARTITIONS)) == [
        world.store.states[partition] for partition in range(PARTITIONS)
    ]


def test_what_is_not_there_is_none() -> None:
    assert read_states(World().store, [0, 1]) == [None, None]


class BusyStore(FakeStore):
    """Someone writes between any two pages of a scan, a few times."""

    def __init__(self, write: Callable[[int], None]) -> None:
        super().__init__()
        self._write = write
        self._left = 4

    def scan(self, partition: int) -> Iterator[Rows]:
        for page in super().scan(partition):
            if self._left:
                self._left -= 1
                self._write(next(iter(page)))
            yield page


def test_a_state_that_changes_while_it_is_read_is_still_consistent() -> None:
    world = World()

    def write(arm: int) -> None:
        world.send(arm)
        world.settle(trainer, rounds=1)

    busy = BusyStore(write)
    world.store = busy
    trainer = world.trainer()
    for arm in ARMS:
        world.send(arm)
    busy._left, kept = 0, busy._left
    world.settle(trainer)
    busy._left = kept
    states = read_states(busy, range(PARTITIONS))
    assert busy._left == 0
    for partition, state in enumerate(states):
        assert state is not None
        fold = PartitionFold(partition, RULES)
        fold.fold(world.broker.records(OUTCOMES, partition)[: state.position.next_offset])
        assert state.rows == fold.rows(fold.statistics.arms)
