"""Logs of a simulated shop whose policies' true click rates are known: to check estimators by.

The model is frozen, the shoppers, products and reactions are the simulator's.
"""

from datetime import UTC, datetime
from typing import Final

import numpy as np

from producer.simulate import Shoppers
from server.propensities import Flags, expectation, propensities
from server.scorer import Model, Policy, choose, next_rank, seeds_of
from shared import off_policy
from shared.arm_statistics import ArmStatistics, Floats, Integers
from shared.catalogue import DataSet
from shared.ground_truth import GroundTruth
from shared.linucb import solve
from shared.off_policy import Estimate, Log, Overlap, Prediction

K: Final = 5
POOL: Final = 2_000
PAST: Final = 10_000
_ANY_TIME: Final = datetime(2026, 1, 1, tzinfo=UTC)


class SimulatedLogs:
    """Visits drawn from a pool of contexts, decided by a model that has learned from a past.

    Args:
        data: the shop.
        products: how many of its products are on offer, evenly taken.
        seed: of visits, past and model.
    """

    def __init__(self, data: DataSet, products: int, seed: int = 1) -> None:
        offered = data.products[:: len(data.products) // products][:products]
        shoppers = Shoppers(data.users, seed, "logs")
        contexts = [shoppers.visit(number, _ANY_TIME).context for number in range(POOL)]
        self._X = data.encoder.encode(contexts).X
        self._P = GroundTruth(offered, data.encoder, seed).click_probabilities(contexts)
        arms = np.array([product.product_id for product in offered])
        rng = np.random.default_rng(seed)
        row, arm = rng.integers(0, POOL, PAST), rng.integers(0, products, PAST)
        clicked = (rng.random(PAST) < self._P[row, arm]).astype(np.float64)
        past = ArmStatistics(data.encoder.d)
        past.add(arms[arm], self._X[row], clicked, np.arange(PAST))
        at = [past.index[product] for product in arms.tolist()]  # each was shown at least once
        solution = solve(past.b[at], past.xx[at], 1.0)
        none = np.zeros(0, np.int64)
        self._model = Model(arms, past.n[at], past.clicks[at], solution, none)

    def truth(self, policy: Policy) -> float:
        """The click rate of a policy that draws nothing, exactly."""
        slates = self._shown(policy, np.arange(POOL), "truth")[0]
        clicked = 1.0 - np.prod(1.0 - np.take_along_axis(self._P, slates, axis=1), axis=1)
        return float(clicked.mean())

    def estimates(
        self, logging: Policy, target: Policy, visits: int, seed: int
    ) -> tuple[list[Estimate], Overlap]:
        """One log of so many visits by one policy, and what it says of another."""
        rng = np.random.default_rng([seed, visits])
        rows = rng.integers(0, POOL, visits)
        slates, propensity = self._shown(logging, rows, f"log {seed}")
        clicks = rng.random((visits, K)) < np.take_along_axis(self._P[rows], slates, axis=1)
        examined: Flags = np.cumsum(clicks, axis=1) - clicks == 0
        log = Log(propensity, np.empty_like(propensity), (clicks & examined).astype(np.float64))
        log, prediction = self._asked(log, target, slates, rows, examined)
        found = [
            off_policy.ips(log),
            off_policy.snips(log),
            off_policy.doubly_robust(log, prediction),
        ]
        return found, off_policy.overlap(log)

    def _shown(self, policy: Policy, rows: Integers, name: str) -> tuple[Integers, Floats]:
        seeds = seeds_of([f"{name} {number}" for number in range(len(rows))])
        scores, slates = choose(policy, self._model, self._X[rows], seeds, K)
        mixture = next_rank(policy, self._model, scores, seeds, slates)
        return slates, propensities(mixture, slates, len(self._model.arms))

    def _asked(
        self,
        log: Log,
        target: Policy,
        slates: Integers,
        rows: Integers,
        examined: Flags,
    ) -> tuple[Log, Prediction]:
        X, arms = self._X[rows], len(self._model.arms)
        seeds = seeds_of([f"target {number}" for number in range(len(rows))])
        scores, shown = choose(target, self._model, X, seeds, K)
        mixture = next_rank(target, self._model, scores, seeds, slates)
        q = off_policy.predicted_rewards(slates, X, log.reward, examined, arms)
        own = np.take_along_axis(q, shown, axis=1)
        prediction = Prediction(
            np.take_along_axis(q, slates, axis=1),
            expectation(mixture, slates, q),
            off_policy.clicks_ahead(own),
        )
        return log._replace(target=propensities(mixture, slates, arms)), prediction
