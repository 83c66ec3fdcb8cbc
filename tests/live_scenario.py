"""What the tests of the live page have in common: visits that were served, and a feed of them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
from msgspec import structs

from server.live_feed import LiveFeed
from server.live_state import GRACE_S, Hidden, OutcomeSeen
from server.scorer import Policy
from server.view import View
from shared.catalogue import DataSet
from shared.events import Decision, Outcome, SlateItem
from tests.models import trained

AT = datetime(2026, 1, 5, 12, tzinfo=UTC)
SLATE = [11, 12, 13, 14, 15]


def decision(
    data: DataSet, number: int, experiment: str | None = None, variant: str | None = None
) -> Decision:
    item = SlateItem(product_id=0, score=1.0, mean=0.5, bonus=0.5, propensity=1.0)
    x = np.zeros(data.encoder.d)
    x[[3, 7, 10, 13]] = 1.0
    return Decision(
        decision_id=f"d-{number}",
        visit_id=f"v-{number}",
        user_id=number,
        policy="linucb",
        parameters={},
        x=x.tolist(),
        encoder_id=data.encoder.id,
        view=[0],
        slate=[structs.replace(item, product_id=product) for product in SLATE],
        decided_at=AT,
        experiment=experiment,
        variant=variant,
    )


def outcomes(number: int, clicked_rank: int | None) -> list[OutcomeSeen]:
    """What the cascade publishes of a decision."""
    count = clicked_rank or len(SLATE)
    return [
        OutcomeSeen(
            0,
            10 * number + rank,
            Outcome(
                outcome_id=f"d-{number}:{rank}",
                decision_id=f"d-{number}",
                product_id=SLATE[rank - 1],
                rank=rank,
                reward=float(rank == clicked_rank),
                x=[],
                encoder_id="",
                decided_at=AT,
                resolved_at=AT,
            ),
        )
        for rank in range(1, count + 1)
    ]


class MovingView:
    """A view whose model is put there by the test."""

    def __init__(self, data: DataSet) -> None:
        self._data = data
        self.ready = True
        self.learn(0)

    def learn(self, count: int) -> None:
        """The first product has been looked at so often."""
        X = np.ones((count, self._data.encoder.d))
        arm = self._data.arms[0]
        self.model = trained(self._data.arms, X, [arm] * count, [1.0] * count)

    def rank(self, *arms: int) -> None:
        """Only these products are left, and nobody has looked at them."""
        self.model = trained([*arms], np.ones((0, self._data.encoder.d)), [], [])

    @contextmanager
    def locked(self) -> Iterator[View]:
        yield View(self.model, [0, 0, 0], stale=False)


class Feeding:
    """A feed, its view and its clock."""

    def __init__(
        self, data: DataSet, hidden: Hidden | None = None, began_s: float = 1_000.0
    ) -> None:
        self.data = data
        self.now_s = began_s
        self.view = MovingView(data)
        self._going = threading.Event()
        self._going.set()
        self.feed = LiveFeed(self.view, Policy(), data, 3, hidden, self._utc_s)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Who asks the feed for a message hangs until the end of the block."""
        self._going.clear()
        try:
            yield
        finally:
            self._going.set()

    def _utc_s(self) -> float:
        self._going.wait()
        return self.now_s

    def visit(
        self, *numbers: int, experiment: str | None = None, variant: str | None = None
    ) -> None:
        """Each with a click; of an experiment, every other one without."""
        for number in numbers:
            clicked = None if experiment and number % 2 else 1
            made = decision(self.data, number, experiment, variant)
            self.feed.take([made], outcomes(number, clicked))
        self.now_s += GRACE_S
        self.feed.take([], [])
