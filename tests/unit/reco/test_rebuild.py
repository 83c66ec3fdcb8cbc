"""Replaying a log that goes on growing."""

from collections.abc import Mapping

import pytest

from reco.rebuild import compare_all
from shared.events import OUTCOMES
from shared.testing import FakeConsumer
from tests.scenario import ARMS, PARTITIONS, RULES, World


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
