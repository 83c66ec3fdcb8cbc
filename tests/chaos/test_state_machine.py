"""Faults in any order, as far as the fakes play them: invariants hold, and the view converges."""

import contextlib
from dataclasses import dataclass, field

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from server.model_view import ModelView
from shared.arm_statistics import ArmStatistics
from shared.events import OUTCOMES, Outcome, encode, key_of
from shared.linucb import solve, untrained
from shared.ports import BrokerUnavailable, State
from shared.testing import Crash
from tests.scenario import ARMS, CONFIG, PARTITIONS, RULES, D, World, outcome
from trainer.apply import PartitionFold
from trainer.loop import Trainer

LAMBDA = 1.0
arms = st.sampled_from(ARMS)


@dataclass(eq=False)
class Process:
    """A trainer that dies after a given number of steps, if one is given."""

    trainer: Trainer = field(init=False)
    steps_to_live: int | None = None

    def step(self, name: str) -> None:
        if self.steps_to_live is not None:
            self.steps_to_live -= 1
            if self.steps_to_live < 0:
                raise Crash(name)


class Faults(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.sent: list[Outcome] = []
        self.processes: list[Process] = []
        self.zombies: list[Trainer] = []
        self.older: dict[int, State] | None = None
        self.start_trainer()
        self.view = ModelView(
            self.world.store, list(ARMS), CONFIG, PARTITIONS, LAMBDA, self.world.clock
        )

    @rule(arm=arms, clicked=st.booleans(), count=st.integers(1, 3))
    def send(self, arm: int, clicked: bool, count: int) -> None:
        for _ in range(count):
            self.sent.append(self.world.send(arm, float(clicked)))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        repeated = data.draw(st.sampled_from(self.sent))
        self.world.put(repeated.product_id, encode(repeated))

    @rule(arm=arms, what=st.sampled_from(["bytes", "d", "reward", "encoder", "product", "huge"]))
    def poison(self, arm: int, what: str) -> None:
        self.world.poison(
            arm,
            {
                "bytes": b"\x00",
                "d": encode(outcome(0, arm, x=[1.0])),
                "reward": encode(outcome(0, arm, reward=2.0)),
                "encoder": encode(outcome(0, arm, encoder_id="other")),
                "product": encode(outcome(0, 999)),
                "huge": encode(outcome(0, arm, x=[1e9] * D)),
            }[what],
        )

    @rule(arm=arms, partition=st.integers(0, PARTITIONS - 1))
    def send_to_a_wrong_partition(self, arm: int, partition: int) -> None:
        if partition != RULES.partitions[arm]:
            self.world.broker.append(OUTCOMES, partition, key_of(arm), encode(outcome(0, arm)))

    @precondition(lambda self: len(self.processes) < 3)
    @rule()
    def start_trainer(self) -> None:
        process = Process()
        process.trainer = self.world.trainer(process.step)
        self.processes.append(process)

    @precondition(lambda self: self.processes)
    @rule(data=st.data(), seconds=st.sampled_from([0.0, 0.3, 1.0]))
    def work(self, data: st.DataObject, seconds: float) -> None:
        self.world.clock.now_s += seconds
        self._run(data.draw(st.sampled_from(self.processes)))

    @rule(arm=arms, lost=st.lists(st.booleans(), min_size=1, max_size=3))
    def learn_and_look(self, arm: int, lost: list[bool]) -> None:
        """The usual course of things, except that some announcements get lost on their way."""
        for this_one in lost:
            self.send(arm, True, 1)
            self.world.store.lose_changes = int(this_one)
            for process in list(self.processes):
                self._run(process)
        self.look()

    @precondition(lambda self: self.processes)
    @rule(data=st.data(), steps=st.integers(0, 12))
    def kill_soon(self, data: st.DataObject, steps: int) -> None:
        data.draw(st.sampled_from(self.processes)).steps_to_live = steps

    @precondition(lambda self: len(self.processes) > 1)
    @rule(data=st.data())
    def become_a_zombie(self, data: st.DataObject) -> None:
        """Taken out of the group without noticing: it keeps its memory and its will to write."""
        process = data.draw(st.sampled_from(self.processes))
        self.processes.remove(process)
        self.world.lose(process.trainer)
        process.steps_to_live = None
        self.zombies.append(process.trainer)

    @precondition(lambda self: self.zombies)
    @rule(data=st.data())
    def zombie_works(self, data: st.DataObject) -> None:
        with contextlib.suppress(BrokerUnavailable):
            data.draw(st.sampled_from(self.zombies)).run_once(0.0)

    @rule(available=st.booleans())
    def store_goes_or_comes(self, available: bool) -> None:
        self.world.store.available = available
        self.world.store.interrupt_feeds()

    @rule(available=st.booleans())
    def broker_goes_or_comes(self, available: bool) -> None:
        self.world.broker.available = available

    @rule(count=st.integers(1, 2))
    def lose_replies(self, count: int) -> None:
        self.world.store.lose_replies = count

    @rule(count=st.integers(1, 3))
    def lose_announcements(self, count: int) -> None:
        self.world.store.lose_changes = count

    @rule()
    def flush_store(self) -> None:
        self.world.store.flush()

    @rule()
    def remember_store(self) -> None:
        self.older = self.world.store.dump()

    @precondition(lambda self: self.older is not None)
    @rule()
    def roll_store_back(self) -> None:
        assert self.older is not None
        self.world.store.restore(self.older)

    @rule()
    def look(self) -> None:
        self.view.refresh()

    @invariant()
    def the_view_holds_what_it_claims(self) -> None:
        """Rows up to exactly the positions that it names, computed from the log itself."""
        with self.view.locked() as view:
            if not self.view.ready:
                return
            counted = int(view.model.n.sum())
            assert counted == sum(
                self._valid_before(p, position) for p, position in enumerate(view.positions)
            )

    def teardown(self) -> None:
        """Everything comes back, and what is left to do gets done."""
        world = self.world
        world.store.available = world.broker.available = True
        world.store.lose_replies = world.store.lose_changes = 0
        for process in self.processes:
            process.steps_to_live = None
        self.start_trainer()
        world.settle(*(process.trainer for process in self.processes))
        for zombie in self.zombies:
            zombie.run_once(0.0)
        world.assert_invariants()
        for _ in range(3):
            world.clock.now_s += 2.0
            self.view.refresh()
        self._assert_view_is_the_store()

    def _run(self, process: Process) -> None:
        try:
            process.trainer.run_once(0.0)
        except BrokerUnavailable:
            pass
        except Crash:
            process.trainer._consumer.close()
            self.processes.remove(process)
            if not self.processes:
                self.start_trainer()

    def _valid_before(self, partition: int, position: int) -> int:
        records = self.world.broker.records(OUTCOMES, partition)[:position]
        return PartitionFold(partition, RULES).fold(records).applied

    def _assert_view_is_the_store(self) -> None:
        stored = ArmStatistics(D)
        for state in self.world.store.states.values():
            stored.load(state.rows)
        theta = untrained(len(ARMS), D, LAMBDA).theta
        if len(stored):
            rows = [list(ARMS).index(arm) for arm in stored.arms]
            theta[rows] = solve(stored.b, stored.xx, LAMBDA).theta
        with self.view.locked() as view:
            assert not view.stale
            assert view.positions == [
                self.world.store.states[p].position.next_offset for p in range(PARTITIONS)
            ]
            np.testing.assert_array_equal(view.model.solution.theta, theta)


Faults.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestFaults = Faults.TestCase
