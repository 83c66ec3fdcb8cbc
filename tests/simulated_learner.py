"""Logs of a policy that learns as it goes: later decisions depend on earlier rewards."""

from typing import NamedTuple

import numpy as np

from shared.arm_statistics import Floats, Integers
from shared.off_policy import Log, Prediction, clicks_ahead, predicted_rewards


class Greedy(NamedTuple):
    """Two arms, one rank: the better so far, with ε either."""

    rates: tuple[float, float]
    epsilon: float

    def chances(self, shown: Integers, reward: Floats) -> tuple[float, float]:
        """Of either arm, after having shown so much; an arm not yet shown has a mean of 0."""
        n = np.bincount(shown, minlength=2)
        first, second = np.bincount(shown, reward, minlength=2) / np.maximum(n, 1)
        low = self.epsilon / 2.0
        if first == second:
            return 0.5, 0.5
        return (low, 1.0 - low) if second > first else (1.0 - low, low)

    def log(self, visits: int, rng: np.random.Generator) -> tuple[Log, Prediction]:
        """One log."""
        shown, reward = np.zeros(visits, np.int64), np.zeros(visits)
        for n in range(visits):
            shown[n] = rng.random() < self.chances(shown[:n], reward[:n])[1]
            reward[n] = rng.random() < self.rates[shown[n]]
        return self.asked(shown, reward)

    def asked(self, shown: Integers, reward: Floats) -> tuple[Log, Prediction]:
        """The log of these, and the predictions for the policy "always the second arm"."""
        chances = np.array([self.chances(shown[:n], reward[:n]) for n in range(len(shown))])
        slates, rewards = shown[:, None], reward[:, None]
        one = np.ones_like(rewards)
        q = predicted_rewards(slates, one, rewards, one.astype(np.bool_), 2)
        second = q[:, 1:]
        propensity = np.take_along_axis(chances, slates, axis=1)
        log = Log(propensity, (slates == 1).astype(np.float64), rewards)
        own = np.take_along_axis(q, slates, axis=1)
        return log, Prediction(own, second, clicks_ahead(second))
