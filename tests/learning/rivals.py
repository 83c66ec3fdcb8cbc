"""Other libraries' bandits behind `reco.simulation.Bandit`; each is imported where it is made.

MABWiser and River rank arms by a score, so the slate is their top k. Vowpal Wabbit gives a
probability for each arm: the slate is drawn by them without replacement (`vowpalwabbit`), or holds
the k most probable (`vowpalwabbit-top`, whose order is that of its estimates).
"""

from importlib import import_module
from random import Random
from typing import Any

import numpy as np

from reco.simulation import Bandit
from reco.worlds import World
from shared.arm_statistics import Floats, Integers


class MabWiser:
    """LinUCB of MABWiser: disjoint, as ours at λ = 1."""

    def __init__(self, world: World, alpha: float) -> None:
        mab: Any = import_module("mabwiser.mab")
        self._arms = np.array(world.data.arms)
        policy = mab.LearningPolicy.LinUCB(alpha=alpha, l2_lambda=1.0)
        self._model = mab.MAB(world.data.arms, policy, seed=1)
        d = world.data.encoder.d
        # It predicts after a first fit only: one outcome of nothing changes no sum.
        self._model.fit([world.data.arms[0]], [0.0], np.zeros((1, d)))

    def choose(self, visit_id: str, x: Floats, k: int) -> list[int]:
        expectations = self._model.predict_expectations(x[None])
        return best(
            np.array([expectations[arm] for arm in self._arms.tolist()]), visit_id, self._arms, k
        )

    def learn(self, arms: Integers, X: Floats, rewards: Floats) -> None:
        self._model.partial_fit(arms, rewards, X)


class River:
    """`river.bandit.LinUCBDisjoint`: the highest of mean + deviation, k times."""

    def __init__(self, world: World, precision: float) -> None:
        bandit: Any = import_module("river.bandit")
        self._arms = np.array(world.data.arms)
        # Both precisions alike scale its deviation only: 1/√precision stands where α does.
        self._model = bandit.LinUCBDisjoint(alpha=precision, beta=precision, seed=1)

    def choose(self, visit_id: str, x: Floats, k: int) -> list[int]:
        context = dict(enumerate(x.tolist()))
        models = self._model._bayes_lin_regs
        bounds = []
        for arm in self._arms.tolist():
            normal = models[arm].predict_one(context, with_dist=True)
            bounds.append(normal.mu + normal.sigma)
        return best(np.array(bounds), visit_id, self._arms, k)

    def learn(self, arms: Integers, X: Floats, rewards: Floats) -> None:
        for arm, x, reward in zip(arms.tolist(), X.tolist(), rewards.tolist(), strict=True):
            self._model._bayes_lin_regs[arm].learn_one(x=dict(enumerate(x)), y=reward)


class VowpalWabbit:
    """`--cb_explore_adf` with context × product interactions; products by their features."""

    def __init__(self, world: World, options: str, drawn: bool) -> None:
        vw: Any = import_module("vowpalwabbit")
        self._model = vw.Workspace(f"--cb_explore_adf --quiet {options}")
        self._drawn = drawn
        self._arms = world.data.arms
        self._column = {arm: i for i, arm in enumerate(self._arms)}
        self._items = [
            f"|p id={arm} " + " ".join(f"z{i}:{value:.6g}" for i, value in enumerate(z) if value)
            for arm, z in zip(self._arms, world.data.features.tolist(), strict=True)
        ]
        self._shown: dict[bytes, Floats] = {}

    def choose(self, visit_id: str, x: Floats, k: int) -> list[int]:
        probabilities = np.array(self._model.predict([_shared(x), *self._items]))
        self._shown[x.tobytes()] = probabilities
        if not self._drawn:
            return best(probabilities, visit_id, np.array(self._arms), k)
        rng = np.random.default_rng(Random(visit_id).getrandbits(64))
        weights = np.maximum(probabilities, 1e-12)
        chosen = rng.choice(len(weights), k, replace=False, p=weights / weights.sum())
        return [self._arms[i] for i in chosen.tolist()]

    def learn(self, arms: Integers, X: Floats, rewards: Floats) -> None:
        for arm, x, reward in zip(arms.tolist(), X, rewards.tolist(), strict=True):
            column = self._column[arm]
            probability = max(float(self._shown[x.tobytes()][column]), 1e-3)
            items = list(self._items)
            items[column] = f"0:{-reward}:{probability} {items[column]}"
            self._model.learn([_shared(x), *items])


def _shared(x: Floats) -> str:
    return "shared |c " + " ".join(
        f"x{i}:{value:.6g}" for i, value in enumerate(x.tolist()) if value
    )


def best(scores: Floats, visit_id: str, arms: Integers, k: int) -> list[int]:
    """The k highest; equal ones in an order drawn for the visit."""
    ties = np.random.default_rng(Random(visit_id).getrandbits(64)).random(len(scores))
    order = np.lexsort((ties, -scores))[:k]
    chosen: list[int] = arms[order].tolist()
    return chosen


def rival(name: str, world: World) -> Bandit:
    """A library's bandit by the name it has in the report."""
    kind, _, setting = name.partition(":")
    if kind == "mabwiser":
        return MabWiser(world, float(setting))
    if kind == "river":
        return River(world, float(setting))
    return VowpalWabbit(world, setting, drawn=kind == "vw")
