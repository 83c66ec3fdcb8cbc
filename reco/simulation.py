"""The whole loop in one process, without Kafka: for sweeps over policies and their parameters.

The same shoppers, scorer, cascade and statistics as the services use. Learning follows each visit
at once. Pure: no I/O, no clock.
"""

import itertools
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec
import numpy as np

from producer.simulate import Shoppers
from server.scorer import Model, Policy, rank, seeds_of
from shared.arm_statistics import ArmStatistics, Floats, Integers
from shared.cascade import Feedback
from shared.catalogue import DataSet
from shared.ground_truth import (
    GroundTruth,
    best_click_probability,
    random_click_probability,
    slate_click_probability,
)
from shared.linucb import solve, untrained

K: Final = 5
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
    """(click rate - random) / (best - random)"""
    uplift_share_sd: float
    """Standard deviation of the share between seeds."""


class Rates(NamedTuple):
    """Click probability of the slate shown, a random one, and the best one, for each visit."""

    shown: Floats
    random: Floats
    best: Floats


class Learner:
    """Statistics and solution of all arms, brought up to date after every visit."""

    def __init__(self, arms: Sequence[int], d: int, lambda_: float) -> None:
        self._lambda = lambda_
        self._statistics = ArmStatistics(d)
        self._row = {arm: row for row, arm in enumerate(arms)}
        zeros = np.zeros(len(arms), np.int64)
        solution = untrained(len(arms), d, lambda_)
        everything = np.arange(len(arms))
        self.model = Model(np.array(arms), zeros, zeros.copy(), solution, everything)
        self._seen = 0

    def learn(self, arms: Integers, X: Floats, rewards: Floats) -> None:
        """Add N outcomes and solve their arms anew."""
        offsets = np.arange(self._seen, self._seen + len(arms))
        self._seen += len(arms)
        self._statistics.add(arms, X, rewards, offsets)
        changed = list(dict.fromkeys(arms.tolist()))
        at = [self._statistics.index[arm] for arm in changed]
        target = [self._row[arm] for arm in changed]
        fresh = solve(self._statistics.b[at], self._statistics.xx[at], self._lambda)
        model = self.model
        model.n[target], model.clicks[target] = self._statistics.n[at], self._statistics.clicks[at]
        model.solution.theta[target] = fresh.theta
        model.solution.covariance[target] = fresh.covariance
        if len(model.untrained):
            self.model = model._replace(untrained=np.flatnonzero(model.n == 0))


def simulate(
    data: DataSet, policy: Policy, visits: int, seed: int, feedback: Feedback, past: Past | None
) -> Rates:
    """One run of `visits` visits; everything that is drawn comes from `seed`."""
    shoppers = Shoppers(data.users, seed, f"simulation-{seed}")
    truth = GroundTruth(data.products, data.encoder, seed)
    arms = data.arms
    learner = Learner(arms, data.encoder.d, policy.lambda_)
    if past:
        learner.learn(*past)
    arriving = [shoppers.visit(index, _EPOCH) for index in range(visits)]
    contexts = [visit.context for visit in arriving]
    X = data.encoder.encode(contexts).X
    P = truth.click_probabilities(contexts)
    row = {arm: i for i, arm in enumerate(arms)}
    shown = np.empty(visits)
    for i, visit in enumerate(arriving):
        [slate] = rank(policy, learner.model, X[i : i + 1], seeds_of([visit.visit_id]), K)
        products = [item.product_id for item in slate]
        p = P[i, [row[product] for product in products]]
        shown[i] = slate_click_probability(p)
        learned = feedback(truth.examine(visit.visit_id, products, p), len(products))
        learner.learn(
            np.array([products[position - 1] for position, _ in learned]),
            np.repeat(X[i : i + 1], len(learned), axis=0),
            np.array([reward for _, reward in learned], np.float64),
        )
    return Rates(shown, random_click_probability(P, K), best_click_probability(P, K))


def window_edges(visits: int) -> list[int]:
    """0, 200, 500, 1,000, 2,000, 4,000, … up to the number of visits."""
    edges = [0, 200, 500, 1_000]
    while edges[-1] < visits:
        edges.append(edges[-1] * 2)
    return [edge for edge in edges if edge < visits] + [visits]


def windows(runs: Iterable[Rates]) -> list[Window]:
    """Rates by window, over all runs (which must be equally long)."""
    shown, random, best = (np.stack(parts) for parts in zip(*runs, strict=True))
    edges = window_edges(shown.shape[1])
    result = []
    for start, end in itertools.pairwise(edges):
        means = [part[:, start:end].mean(axis=1) for part in (shown, random, best)]
        click_rate, click_rate_random, click_rate_best = (float(mean.mean()) for mean in means)
        shares = (means[0] - means[1]) / (means[2] - means[1])
        result.append(
            Window(
                start,
                end,
                click_rate,
                click_rate_random,
                click_rate_best,
                (click_rate - click_rate_random) / (click_rate_best - click_rate_random),
                float(shares.std(ddof=1)) if len(shares) > 1 else 0.0,
            )
        )
    return result
