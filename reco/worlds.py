"""Worlds to learn in: the four rules of the shoppers, and what else may be true of them. Pure."""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from producer.menu import generated
from producer.menu_features import catalogue, product_features
from shared.arm_statistics import Floats
from shared.catalogue import DataSet
from shared.events import Context
from shared.ground_truth import GroundTruth

EXTRA_SD: Final = 0.7
DELAY_VISITS: Final = 300
"""A reward window of 30 s at ten visits a second."""
LARGE: Final = 10_000
_LARGE_SEED: Final = 1237


class World(msgspec.Struct, frozen=True):
    """What is true of the products and the shoppers, whatever the seed of a run."""

    name: str
    about: str
    data: DataSet
    extra_sd: float = 0.0
    """Every product has a liking N(0, sd²) in its logit that no feature explains."""
    drifts: bool = False
    """At half time, morning's and weekend's likings change places."""
    delay_visits: int = 0
    """The reward window: outcomes without a click are learned so many visits late, a click any
    number of visits up to that."""


class Hidden:
    """The shoppers of one run in a world.

    Args:
        world: where.
        seed: of dice and extra likings.
        visits: length of the run.
    """

    def __init__(self, world: World, seed: int, visits: int) -> None:
        products, encoder = world.data.products, world.data.encoder
        rng = np.random.default_rng([seed, 0xE87A])
        extra = rng.normal(0.0, world.extra_sd, len(products)) if world.extra_sd else 0.0
        self._before = GroundTruth(products, encoder, seed, extra=extra)
        self._after = GroundTruth(products, encoder, seed, extra=extra, swapped=world.drifts)
        self._change = visits // 2
        self.examine = self._before.examine

    def click_probabilities(self, contexts: Sequence[Context], first: int) -> Floats:
        """Of each product (N × K) at the visits from number `first` on."""
        early = max(0, min(len(contexts), self._change - first))
        parts = [
            truth.click_probabilities(part)
            for truth, part in ((self._before, contexts[:early]), (self._after, contexts[early:]))
            if part
        ]
        return np.concatenate(parts)


WORLDS: Final = ("seed", "extra", "drift", "delay", "large")


def world_of(name: str, data: DataSet) -> World:
    """The world of this name; `large` generates its catalogue, which takes seconds."""
    if name == "extra":
        about = f"and N(0, {EXTRA_SD}) for each product that no feature explains"
        return World(name, about, data, extra_sd=EXTRA_SD)
    if name == "drift":
        return World(name, "two of the rules swap at half time", data, drifts=True)
    if name == "delay":
        about = f"outcomes are learned up to {DELAY_VISITS} visits late"
        return World(name, about, data, delay_visits=DELAY_VISITS)
    if name == "large":
        return World(name, f"{LARGE:,} products of the same grammar", large(data))
    return World("seed", "the four rules", data)


def large(data: DataSet) -> DataSet:
    """10,000 products generated from the menu's grammar, with the same shoppers."""
    products = generated(catalogue(), LARGE, _LARGE_SEED)
    names, features = product_features(products)
    return DataSet(products, data.users, data.encoder, features, names)
