"""Experiments in which both variants are the same: what is told apart there is a false alarm."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from shared.arm_statistics import Floats, Integers
from shared.confidence import Count, difference


class Shop(NamedTuple):
    """Who comes, how often, and how they click."""

    users: int
    visits: int
    """Of all users together. As many as users: each comes once."""
    spread: float = 0.0
    """Standard deviation of the click rates between users."""
    rate: float = 0.5
    heavy: float = 1.0
    """Every tenth user visits so many times as often as the others."""
    looks_active: int | None = None
    """Users come one after the other, each for so many looks; None: all come all the time."""
    first: float = 0.0
    """What is added to the click rate of a user's first visit."""


def one_visit_each(visits: int, clicks: float) -> Count:
    """What is counted where no user comes twice."""
    return Count(visits, clicks, visits, visits, clicks, clicks)


def of_users(visits: Integers, clicks: Integers) -> Count:
    """What is counted of users with so many visits and clicks each."""
    n, c = visits.astype(np.float64), clicks.astype(np.float64)
    return Count(
        *(int(visits.sum()), float(clicks.sum()), int((visits > 0).sum())),
        *(float(n @ n), float(n @ c), float(c @ c)),
    )


def looks(shop: Shop, every: int, seed: int) -> Iterator[tuple[Count, Count]]:
    """Both variants, after every so many visits."""
    rng = np.random.default_rng(seed)
    second = rng.random(shop.users) < 0.5
    rate = np.clip(rng.normal(shop.rate, shop.spread, shop.users), 0.0, 1.0)
    weight = np.where(np.arange(shop.users) % 10 == 0, shop.heavy, 1.0)
    visits, clicks = np.zeros(shop.users, np.int64), np.zeros(shop.users, np.int64)
    count = shop.visits // every
    for look in range(count):
        came = _came(shop, weight, look, count, every, rng)
        first = (visits == 0) & (came > 0)
        again = rng.binomial(came - first, rate)
        clicks += again + (first & (rng.random(shop.users) < rate + shop.first))
        visits += came
        yield of_users(visits[~second], clicks[~second]), of_users(visits[second], clicks[second])


def _came(
    shop: Shop, weight: Floats, look: int, count: int, every: int, rng: np.random.Generator
) -> Integers:
    """How often each user comes between two looks."""
    number = np.arange(shop.users)
    if shop.users == shop.visits:
        return np.asarray(number // every == look, np.int64)
    active = weight
    if shop.looks_active:
        starts = number * count // shop.users
        active = weight * ((starts <= look) & (look < starts + shop.looks_active))
    return np.asarray(rng.multinomial(every, active / active.sum()), np.int64)


class Told(NamedTuple):
    """What came of looking again and again."""

    apart: bool
    """A look found a difference."""
    half_width: float
    """Of the last interval."""
    apart_by_visits: bool
    """A look would have found one, had each visit been counted as a user."""


def told(shop: Shop, every: int, seed: int) -> Told:
    """Look after every so many visits."""
    apart, by_visits, low, high = False, False, -1.0, 1.0
    for counts in looks(shop, every, seed):
        low, high = difference(*counts)
        apart = apart or not low <= 0.0 <= high
        one, other = (one_visit_each(count.visits, count.reward) for count in counts)
        alone = difference(one, other)
        by_visits = by_visits or not alone[0] <= 0.0 <= alone[1]
    return Told(apart, (high - low) / 2.0, by_visits)
