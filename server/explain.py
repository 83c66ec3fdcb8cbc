"""Why a slate is what it is: what the model expects of each product, feature by feature. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
from msgspec import structs

from server.scorer import Model, Policy, rank, seeds_of
from shared.arm_statistics import Floats
from shared.catalogue import Product
from shared.events import Context, SlateItem
from shared.features import Encoder

_SEEDS: Final = seeds_of(["explain"])


class Contribution(msgspec.Struct, frozen=True):
    """What one feature adds to the mean: weight × value."""

    feature: str
    value: float
    """Of x."""
    weight: float
    """Of θ."""
    contribution: float


class ExplainedItem(msgspec.Struct, frozen=True):
    """One product of the slate, and why it is there."""

    product_id: int
    name: str
    category: str
    price: float
    score: float
    """What it is ranked by."""
    mean: float
    """Estimated chance of a click, by a linear model: it may leave [0, 1] a little."""
    bonus: float
    """What the policy adds for not being sure."""
    n: int
    """How often shoppers have looked at it."""
    clicks: int
    contributions: list[Contribution]
    """Those that are not 0, largest first; their sum is the mean of a linear policy."""


class Explanation(msgspec.Struct, frozen=True):
    """What would be shown in a context, and why. No decision is made by asking."""

    slate: list[ExplainedItem]
    policy: str
    parameters: dict[str, float]
    view: list[int]
    """Next outcomes offset of each partition in the model that was asked."""
    stale: bool


class Slate(msgspec.Struct, frozen=True):
    """What has to be read while the view is held still."""

    items: list[SlateItem]
    theta: Floats
    """k × d"""
    n: list[int]
    clicks: list[int]


def slate_of(policy: Policy, model: Model, row_of: Mapping[int, int], x: Floats, k: int) -> Slate:
    """Rank one context (1 × d) and copy what explains the result: quick, for under the lock.

    A policy that explores at random now and then is asked for what it thinks best. Of no products
    the slate is empty.
    """
    certain = structs.replace(policy, epsilon=0.0, propensities=False)
    [items] = rank(certain, model, x, _SEEDS, k) if len(model.arms) else [[]]
    rows = [row_of[item.product_id] for item in items]
    theta = model.solution.theta[rows].copy()
    return Slate(items, theta, model.n[rows].tolist(), model.clicks[rows].tolist())


def explained(
    slate: Slate, x: Floats, encoder: Encoder, products: Mapping[int, Product]
) -> list[ExplainedItem]:
    """Put names to a slate and its weights."""
    return [
        ExplainedItem(
            product_id=item.product_id,
            name=products[item.product_id].name,
            category=products[item.product_id].category,
            price=products[item.product_id].price,
            score=item.score,
            mean=item.mean,
            bonus=item.bonus,
            n=n,
            clicks=clicks,
            contributions=contributions(encoder.features, x[0], theta),
        )
        for item, theta, n, clicks in zip(
            slate.items, slate.theta, slate.n, slate.clicks, strict=True
        )
    ]


def contributions(features: Sequence[str], x: Floats, theta: Floats) -> list[Contribution]:
    """θ_j x_j of each feature that is not 0, largest first."""
    parts = x * theta
    order = np.argsort(-np.abs(parts), kind="stable")
    return [
        Contribution(features[j], float(x[j]), float(theta[j]), float(parts[j]))
        for j in order.tolist()
        if parts[j] != 0.0
    ]


def encoded(encoder: Encoder, context: Context) -> Floats:
    """x of one context, 1 × d.

    Raises:
        NotFinite: names the field.
    """
    encoder.check(context)
    return encoder.encode([context]).X
