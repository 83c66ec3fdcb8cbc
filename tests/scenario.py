"""What the tests of trainer, view and replay have in common: a small world, and the invariants."""

import itertools
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import numpy as np
from msgspec import structs

from reco.rebuild import Report, compare_all
from shared.events import DEAD_LETTERS, OUTCOMES, Outcome, encode, key_of
from shared.ports import EventConsumer, ModelConfig, Record
from shared.testing import FakeBroker, FakeClock, FakeConsumer, FakeStore
from trainer.apply import Rules
from trainer.loop import Trainer, Wrote
from trainer.starting_state import Recover

D = 3
PARTITIONS = 3
ARMS = range(1, 13)
WINDOW = 50
CONFIG = ModelConfig(D, "encoder")
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
NESTED = b'{"added_later": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
"""JSON, but deeper than any decoder goes."""
RULES = Rules.of(CONFIG, ARMS, PARTITIONS, WINDOW)


def outcome(
    number: int, arm: int, *, reward: float = 0.0, x: list[float] | None = None, **changes: str
) -> Outcome:
    """Outcome number `number`, with an x of its own."""
    plain = Outcome(
        outcome_id=f"d-{number}:1",
        decision_id=f"d-{number}",
        product_id=arm,
        rank=1,
        reward=reward,
        x=x or np.random.default_rng(number).random(D).tolist(),
        encoder_id=CONFIG.encoder_id,
        decided_at=NOON,
        resolved_at=NOON,
    )
    return structs.replace(plain, **changes)


def record(offset: int, value: bytes | Outcome | None, partition: int | None = None) -> Record:
    """A record as the trainer reads it; by default in the partition where its arm lives."""
    if isinstance(value, Outcome):
        if partition is None:
            partition = RULES.partitions[value.product_id]
        value = encode(value)
    return Record(OUTCOMES, partition or 0, offset, b"key", value)


class World:
    """A fake broker and store, trainers on them, and the means to feed and check them."""

    def __init__(self) -> None:
        self.broker = FakeBroker({OUTCOMES: PARTITIONS, DEAD_LETTERS: 2})
        self.store = FakeStore()
        self.clock = FakeClock()
        self.bad = 0
        self.marks = 0
        self._numbers = itertools.count()
        self._writers = itertools.count()
        self._consumers: dict[int, FakeConsumer] = {}

    def trainer(
        self,
        step: Callable[[str], None] = lambda name: None,
        group: str = "g",
        recover: Recover = lambda partition, source, held: None,
        wrote: Wrote = lambda records, rows: None,
        consumer: EventConsumer | None = None,
    ) -> Trainer:
        """A new trainer process, in the group."""
        fake = self.broker.consumer(OUTCOMES, group, reset="error")
        consumer = consumer or fake
        trainer = Trainer(
            consumer,
            self.broker.producer(),
            self.store,
            lambda: self.broker.source(OUTCOMES),
            RULES,
            writer=f"writer-{next(self._writers)}",
            clock=self.clock,
            recover=recover,
            wrote=wrote,
            step=step,
        )
        consumer.subscribe(trainer)
        self._consumers[id(trainer)] = fake
        return trainer

    def lose(self, trainer: Trainer) -> None:
        """The group thinks this trainer dead, which does not notice: a zombie."""
        consumer = self._consumers[id(trainer)]
        self.broker._groups["g", OUTCOMES].members.remove(consumer)

    def send(self, arm: int, reward: float = 0.0) -> Outcome:
        """A good outcome arrives."""
        sent = outcome(next(self._numbers), arm, reward=reward)
        self.put(arm, encode(sent))
        return sent

    def put(self, arm: int, value: bytes | None) -> None:
        """Any bytes arrive, where the arm lives."""
        self.broker.append(OUTCOMES, RULES.partitions[arm], key_of(arm), value)

    def mark(self, arm: int) -> None:
        """A transaction ends here: its mark takes up an offset."""
        self.marks += 1
        self.broker.mark(OUTCOMES, RULES.partitions[arm])

    def poison(self, arm: int, value: bytes = b"{") -> None:
        """Something undecodable arrives."""
        self.bad += 1
        self.put(arm, value)

    def settle(self, *trainers: Trainer, rounds: int = 12) -> None:
        """Let the trainers work until nothing is left to do."""
        for _ in range(rounds):
            self.clock.now_s += 3.0
            for trainer in trainers:
                trainer.run_once(0.0)

    def compared(self) -> Report:
        """The store beside a replay of the log."""
        consumer = self.broker.consumer(OUTCOMES, "replay", reset="error")
        states = [self.store.states.get(partition) for partition in range(PARTITIONS)]
        report, _ = compare_all(consumer, RULES, states, {}, self.broker.source(OUTCOMES))
        return report

    def assert_invariants(self) -> Report:
        """Nothing is lost, nothing counts twice, every bit is that of a replay."""
        report = self.compared()
        assert report.violations == []
        assert report.differing_bits == 0
        assert report.lag == 0
        positions = sum(s.position.next_offset for s in self.store.states.values())
        counted = report.applied + report.duplicates + report.dead_letters
        assert counted == positions - self.marks
        origins = set(self.dead_letter_origins())
        assert len(origins) == report.dead_letters
        return report

    def dead_letter_origins(self) -> Iterable[tuple[bytes, ...]]:
        """Topic, partition and offset of each dead letter; one may be there several times."""
        for partition in range(self.broker.partitions[DEAD_LETTERS]):
            for letter in self.broker.records(DEAD_LETTERS, partition):
                headers = dict(letter.headers)
                yield headers["topic"], headers["partition"], headers["offset"]


def busy_world() -> World:
    """A world in which everything arrives at once."""
    world = World()
    everything_arrives(world)
    return world


def everything_arrives(world: World) -> None:
    """Good outcomes, repetitions, poison and a stranger, in several partitions."""
    for arm in ARMS:
        first = world.send(arm, reward=1.0)
        world.send(arm)
        world.put(arm, encode(first))
    world.poison(1)
    world.poison(2, encode(outcome(900, 2, reward=7.0)))
    world.poison(3, encode(outcome(901, 999)))
