"""The whole loop in one process, without Kafka: for sweeps over policies and their parameters.

The same shoppers, scorer, cascade and statistics as the services use. Learning follows each visit
at once. Pure: no I/O, no clock.
"""

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Final, NamedTuple, Protocol

import msgspec
import numpy as np

from producer.simulate import Shoppers
from reco.uplift import uplift_share
from reco.worlds import Hidden, World
from shared.arm_statistics import Floats, Integers
from shared.cascade import Feedback, Reward
from shared.ground_truth import (
    best_click_probability,
    random_click_probability,
    slate_click_probability,
)

K: Final = 5
_BLOCK: Final = 500
"""Visits that are prepared at a time."""
_EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Past(NamedTuple):
    """Outcomes to learn from before the first visit."""

    arms: Integers
    X: Floats
    rewards: Floats


class Window(msgspec.Struct, rename={"start": "from", "end": "to"}):
    """Rates over the visits `start` ≤ number < `end`, as the hidden model has them."""

    start: int
    end: int
    click_rate: float
    click_rate_random: float
    click_rate_best: float
    uplift_share: float
    """(click rate - random) / (best - random), 0 where these are equal"""
    uplift_share_sd: float
    """Standard deviation of the share between seeds."""


class Rates(NamedTuple):
    """Click probability of the slate shown, a random one, and the best one, for each visit."""

    shown: Floats
    random: Floats
    best: Floats


class Bandit(Protocol):
    """Anything that ranks and learns: our policies, and other libraries' for comparison."""

    def choose(self, visit_id: str, x: Floats, k: int) -> list[int]:
        """The k products to show, best first."""

    def learn(self, arms: Integers, X: Floats, rewards: Floats) -> None:
        """Take N outcomes in, at least one, in their order."""


def simulate(
    world: World,
    bandit: Bandit,
    visits: int,
    seed: int,
    feedback: Feedback,
    past: Past | None = None,
    run_id: str = "",
) -> Rates:
    """One run of `visits` visits; everything that is drawn comes from `seed`.

    `run_id` names the visits; another name has other dice.
    """
    if past:
        bandit.learn(*past)
    parts = []
    waiting = Waiting(world.delay_visits, seed)
    shoppers = Shoppers(world.data.users, seed, run_id or f"simulation-{seed}")
    hidden = Hidden(world, seed, visits)
    row = {arm: i for i, arm in enumerate(world.data.arms)}
    for first in range(0, visits, _BLOCK):
        numbers = range(first, min(first + _BLOCK, visits))
        arriving = [shoppers.visit(number, _EPOCH) for number in numbers]
        contexts = [visit.context for visit in arriving]
        X = world.data.encoder.encode(contexts).X
        P = hidden.click_probabilities(contexts, first)
        shown = np.empty(len(arriving))
        for i, visit in enumerate(arriving):
            for known in waiting.due(first + i):
                bandit.learn(*known)
            products = bandit.choose(visit.visit_id, X[i], K)
            p = P[i, [row[product] for product in products]]
            shown[i] = slate_click_probability(p)
            clicked = hidden.examine(visit.visit_id, products, p)
            outcomes = _outcomes(products, X[i], feedback(clicked, len(products)))
            waiting.add(first + i, clicked is not None, outcomes)
        parts.append((shown, random_click_probability(P, K), best_click_probability(P, K)))
    return Rates(*(np.concatenate(rates) for rates in zip(*parts, strict=True)))


class Waiting:
    """Outcomes on their way: without delay they are learned before the next visit."""

    def __init__(self, delay_visits: int, seed: int) -> None:
        self._delay = delay_visits
        self._draw = Random(f"delay {seed}")
        self._heap: list[tuple[int, int, Past]] = []

    def add(self, visit: int, clicked: bool, outcomes: Past) -> None:
        """What the visit of this number came to."""
        late = self._draw.randrange(self._delay + 1) if clicked else self._delay
        heapq.heappush(self._heap, (visit + 1 + late, visit, outcomes))

    def due(self, visit: int) -> Iterator[Past]:
        """What is known by the time of this visit, and was not before."""
        while self._heap and self._heap[0][0] <= visit:
            yield heapq.heappop(self._heap)[2]


def _outcomes(products: Sequence[int], x: Floats, learned: Sequence[Reward]) -> Past:
    return Past(
        np.array([products[rank - 1] for rank, _ in learned], np.int64),
        np.tile(x, (len(learned), 1)),
        np.array([reward for _, reward in learned], np.float64),
    )


def window_edges(visits: int, ends: Sequence[int] = ()) -> list[int]:
    """0, 200, 500, 1,000, 2,000, 4,000, … or 0 and `ends`, up to the number of visits."""
    edges = [0, *(ends or (200, 500, 1_000))]
    while not ends and edges[-1] < visits:
        edges.append(edges[-1] * 2)
    return [edge for edge in edges if edge < visits] + [visits]


def windows(runs: Iterable[Rates], ends: Sequence[int] = ()) -> list[Window]:
    """Rates by window (see `window_edges`), over all runs (which must be equally long)."""
    shown, random, best = (np.stack(parts) for parts in zip(*runs, strict=True))
    edges = window_edges(shown.shape[1], ends)
    result = []
    for start, end in itertools.pairwise(edges):
        means = [part[:, start:end].mean(axis=1) for part in (shown, random, best)]
        click_rate, click_rate_random, click_rate_best = (float(mean.mean()) for mean in means)
        shares = [uplift_share(*rates) for rates in zip(*means, strict=True)]
        result.append(
            Window(
                start,
                end,
                click_rate,
                click_rate_random,
                click_rate_best,
                uplift_share(click_rate, click_rate_random, click_rate_best),
                float(np.std(shares, ddof=1)) if len(shares) > 1 else 0.0,
            )
        )
    return result
