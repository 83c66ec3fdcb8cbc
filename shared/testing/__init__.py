"""Fakes of the ports, faults included: a crash, and the recovery from it, is a unit test.

They hold to the same contract as Kafka and Redis (`tests/contract` runs on both).
"""

from shared.testing.board import FakeBoard
from shared.testing.broker import (
    FakeBroker,
    FakeConsumer,
    FakeProducer,
    FakeTransactionalProducer,
)
from shared.testing.faults import Crash, CrashPoints, FakeClock
from shared.testing.store import FakeStore
from shared.testing.window import FakeWindow

__all__ = [
    "Crash",
    "CrashPoints",
    "FakeBoard",
    "FakeBroker",
    "FakeClock",
    "FakeConsumer",
    "FakeProducer",
    "FakeStore",
    "FakeTransactionalProducer",
    "FakeWindow",
]
