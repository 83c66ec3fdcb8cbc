"""`reco …` in this process, and a small world that it is tried on."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np

from shared.catalogue import DataSet
from shared.events import (
    Outcome,
)
from tests.scenario import NOON
from trainer.apply import Rules

MODEL = "commands"


class Result(NamedTuple):
    """What a command line came to."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return msgspec.json.decode(self.out)


Reco = Callable[..., Result]


def rules(data: DataSet) -> Rules:
    return Rules.of(data.config, data.arms, 12)


def outcome(data: DataSet, number: int, arm: int) -> Outcome:
    x = np.random.default_rng(number).random(data.encoder.d)
    x[-2:] = [number % 2, 1 - number % 2]  # at a weekend, or on a weekday
    return Outcome(
        outcome_id=f"d-{number}:1",
        decision_id=f"d-{number}",
        product_id=arm,
        rank=1,
        reward=float(number % 2),
        x=x.tolist(),
        encoder_id=data.encoder.id,
        decided_at=NOON,
        resolved_at=NOON,
    )
