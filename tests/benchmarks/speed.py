"""Scoring, solving and updating against MABWiser; the trainer's core against decoding alone."""

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, Final

import numpy as np

from server.scorer import Model, Policy, rank, score, seeds_of
from shared.arm_statistics import ArmStatistics
from shared.events import OUTCOMES, Outcome, decode_outcome, encode
from shared.linucb import precision, solve
from shared.ports import ModelConfig, Record
from tests.benchmarks.measure import Result, Work, compared
from trainer.apply import PartitionFold, Rules

ARMS: Final = 200
D: Final = 15
PARTITIONS: Final = 12
_EVENTS: Final = 10_000
_BATCH: Final = 32
_POLL: Final = 1_000


def results() -> Iterator[Result]:
    """Measure everything; half a minute."""
    rng = np.random.default_rng(1237)
    arms = rng.integers(1, ARMS + 1, _EVENTS)
    X = rng.random((_EVENTS, D))
    rewards = (rng.random(_EVENTS) < 0.1365).astype(np.float64)
    statistics = ArmStatistics(D)
    statistics.add(arms, X, rewards, np.arange(_EVENTS))
    solution = solve(statistics.b, statistics.xx, 1.0)
    everything = np.array(statistics.arms)
    model = Model(everything, statistics.n, statistics.clicks, solution, np.zeros(0, np.int64))
    mab: Any = import_module("mabwiser.mab")
    theirs = mab.MAB(everything.tolist(), mab.LearningPolicy.LinUCB(alpha=1.0, l2_lambda=1.0))
    theirs.fit(arms, rewards, X)
    policy = Policy("linucb", alpha=1.0)
    one, batch = X[:1], X[:_BATCH]
    seed, seeds = seeds_of(["decision"]), seeds_of([str(i) for i in range(_BATCH)])
    expect = Work(lambda: theirs.predict_expectations(one))
    expect_batch = Work(lambda: theirs.predict_expectations(batch), _BATCH)
    predict = "MABWiser predict"

    yield compared(
        f"score one visit, {ARMS} arms",
        Work(lambda: score(policy, model, one, seed)),
        predict,
        expect,
        target=100.0,
    )
    yield compared(
        "rank one visit into a slate of 5",
        Work(lambda: rank(policy, model, one, seed, 5)),
        predict,
        expect,
    )
    yield compared(
        f"score a batch of {_BATCH}, per visit",
        Work(lambda: score(policy, model, batch, seeds), _BATCH),
        predict,
        expect_batch,
    )
    yield compared(
        f"rank a batch of {_BATCH}, per visit",
        Work(lambda: rank(policy, model, batch, seeds, 5), _BATCH),
        predict,
        expect_batch,
    )

    def update() -> None:
        statistics.add(arms[:1], one, rewards[:1], np.array([_EVENTS]))
        row = statistics.index[int(arms[0])]
        solve(statistics.b[row : row + 1], statistics.xx[row : row + 1], 1.0)

    yield compared(
        "add one outcome and solve its arm",
        Work(update),
        "MABWiser partial_fit",
        Work(lambda: theirs.partial_fit(arms[:1], rewards[:1], one)),
    )
    A, b = precision(statistics.xx, D, 1.0), statistics.b
    yield compared(
        "solve, per arm",
        Work(lambda: solve(statistics.b, statistics.xx, 1.0), ARMS),
        "arm by arm",
        Work(lambda: [np.linalg.inv(A[i]) @ b[i] for i in range(ARMS)], ARMS),
    )
    yield from _trainer(rng)


def _trainer(rng: np.random.Generator) -> Iterator[Result]:
    rules = Rules.of(ModelConfig(D, "0123456789abcdef"), range(1, ARMS + 1), PARTITIONS)
    partition = 0
    arms = [arm for arm, home in rules.partitions.items() if home == partition]
    now = datetime(2026, 1, 5, 7, 29, tzinfo=UTC)
    records = []
    for offset in range(_EVENTS):
        ranges, groups = rng.random(3).tolist(), rng.permutation(D - 3)[:4].tolist()
        outcome = Outcome(
            outcome_id=f"{offset:032x}:1",
            decision_id=f"{offset:032x}",
            product_id=int(rng.choice(arms)),
            rank=1,
            reward=float(rng.random() < 0.1365),
            x=[*ranges, *(float(i in groups) for i in range(D - 3))],  # as the encoder's
            encoder_id=rules.config.encoder_id,
            decided_at=now,
            resolved_at=now,
        )
        records.append(Record(OUTCOMES, partition, offset, b"1", encode(outcome)))

    def decode() -> None:
        for record in records:
            decode_outcome(record.value or b"")

    def fold() -> None:
        memory = PartitionFold(partition, rules)
        for start in range(0, _EVENTS, _POLL):
            memory.fold(records[start : start + _POLL])

    yield compared(
        "trainer core, per outcome",
        Work(fold, _EVENTS),
        "decode alone",
        Work(decode, _EVENTS),
    )

    X = rng.random((_POLL, D))
    at = rng.choice(arms, _POLL)
    statistics = ArmStatistics(D)
    statistics.add(at, X, X[:, 0], np.arange(_POLL))
    yield compared(
        "of which the sums",
        Work(lambda: statistics.add(at, X, X[:, 0], np.arange(_POLL)), _POLL),
        "decode alone",
        Work(decode, _EVENTS),
    )
