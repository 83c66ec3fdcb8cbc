import itertools
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

import msgspec
import numpy as np
import pytest

from shared.arm_statistics import Floats
from shared.catalogue import Product
from shared.events import Context
from shared.features import GENDERS, TRAFFIC_SOURCES, Encoder
from shared.ground_truth import (
    GroundTruth,
    best_click_probability,
    random_click_probability,
    slate_click_probability,
)

# Prices from 10 to 20: 18 is a normalised price of exactly 0.8.
PRODUCTS: Final = [
    Product(1, "Soup of the Day", "Appetizers & Sides", 10.0, False),
    Product(2, "Flat White", "Drinks & Desserts", 12.0, True),
    Product(3, "Margherita", "Pizzas", 14.0, False),
    Product(4, "Cheeseburger", "Burgers & Sandwiches", 15.0, False),
    Product(5, "Barramundi", "Aussie Pub Classics", 18.0, False),
    Product(6, "Rib Eye", "Aussie Pub Classics", 18.01, False),
    Product(7, "Lobster Pizza", "Pizzas", 20.0, False),
]
PLAIN, COFFEE, PIZZA, BURGER, NEARLY_DEAR, DEAR, DEAR_PIZZA = range(len(PRODUCTS))
# Ages from 10 to 50: 20 is a normalised age of exactly 0.25.
ENCODER: Final = Encoder(
    {"age": (10.0, 50.0), "latitude": (-44.0, -10.0), "longitude": (113.0, 154.0)},
    {"gender": list(GENDERS), "traffic_source": list(TRAFFIC_SOURCES)},
)
MONDAY: Final = datetime(2026, 1, 5)  # noqa: DTZ001 (the shop's own clock has no zone)
NOBODY: Final = Context(
    age=30,
    gender="F",
    latitude=-33.9,
    longitude=151.2,
    traffic_source="Email",
    occurred_at=MONDAY,
)


def probabilities(**changes: object) -> list[float]:
    truth = GroundTruth(PRODUCTS, ENCODER, 1)
    [row] = truth.click_probabilities([msgspec.structs.replace(NOBODY, **changes)]).tolist()
    return [float(p) for p in row]


def sigmoid(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-logit))


def expected(added: Mapping[int, float] = MappingProxyType({})) -> list[float]:
    """Base probability of every product, but of these columns with this much more logit."""
    return [sigmoid(-2.5 + added.get(column, 0.0)) for column in range(len(PRODUCTS))]


def test_where_no_rule_applies_every_product_has_the_same_low_probability() -> None:
    assert probabilities() == pytest.approx(expected(), abs=1e-12)


@pytest.mark.parametrize(
    ("hour", "minute", "applies"),
    [(5, 59, False), (6, 0, True), (11, 59, True), (12, 0, False), (0, 0, False)],
)
def test_coffee_is_wanted_from_six_until_noon(hour: int, minute: int, applies: bool) -> None:
    at = MONDAY.replace(hour=hour, minute=minute)
    rule = expected({COFFEE: 2.5}) if applies else expected()
    assert probabilities(occurred_at=at) == pytest.approx(rule, abs=1e-12)


@pytest.mark.parametrize("day", range(7))
def test_pizzas_and_burgers_are_wanted_at_the_weekend(day: int) -> None:
    rule = expected({PIZZA: 1.8, BURGER: 1.8, DEAR_PIZZA: 1.8}) if day in (5, 6) else expected()
    at = MONDAY + timedelta(days=day)
    assert probabilities(occurred_at=at) == pytest.approx(rule, abs=1e-12)


@pytest.mark.parametrize(("age", "applies"), [(10, True), (19, True), (20, False), (50, False)])
def test_the_young_do_not_want_what_is_dear(age: int, applies: bool) -> None:
    # 18 is not above 0.8 of the price range, 18.01 is; 20 years are not below 0.25 of the ages.
    rule = expected({DEAR: -3.0, DEAR_PIZZA: -3.0}) if applies else expected()
    assert probabilities(age=age) == pytest.approx(rule, abs=1e-12)


@pytest.mark.parametrize("source", TRAFFIC_SOURCES)
def test_who_searched_clicks_more_often(source: str) -> None:
    added = 0.5 if source == "Search" else 0.0
    rule = [sigmoid(-2.5 + added)] * len(PRODUCTS)
    assert probabilities(traffic_source=source) == pytest.approx(rule, abs=1e-12)


def test_the_rules_add_up() -> None:
    saturday_morning = MONDAY + timedelta(days=5, hours=9)
    rule = [sigmoid(-2.5 + 0.5 + more) for more in (0, 2.5, 1.8, 1.8, 0, -3.0, 1.8 - 3.0)]
    assert probabilities(
        age=12, traffic_source="Search", occurred_at=saturday_morning
    ) == pytest.approx(rule, abs=1e-12)


def test_a_visit_has_the_same_probabilities_alone_and_among_others() -> None:
    truth = GroundTruth(PRODUCTS, ENCODER, 1)
    visits = [
        msgspec.structs.replace(NOBODY, age=age, occurred_at=MONDAY + timedelta(hours=5 * age))
        for age in range(10, 51)
    ]
    together = truth.click_probabilities(visits)
    assert together.shape == (41, 7)
    for visit, row in zip(visits, together, strict=True):
        np.testing.assert_array_equal(truth.click_probabilities([visit])[0], row)


def test_a_catalogue_of_one_price_has_nothing_dear() -> None:
    same = [msgspec.structs.replace(product, price=9.0) for product in PRODUCTS]
    truth = GroundTruth(same, ENCODER, 1)
    [row] = truth.click_probabilities([msgspec.structs.replace(NOBODY, age=10)]).tolist()
    assert row == pytest.approx([sigmoid(-2.5)] * 7, abs=1e-12)


def throws(truth: GroundTruth, pairs: list[tuple[str, int]]) -> dict[tuple[str, int], bool]:
    return {pair: truth.would_click(*pair, 0.5) for pair in pairs}


def test_the_dice_do_not_depend_on_the_order_or_on_who_throws_them() -> None:
    pairs = [(f"v-{visit}", product) for visit in range(50) for product in range(1, 8)]
    one, another = GroundTruth(PRODUCTS, ENCODER, 5), GroundTruth(PRODUCTS, ENCODER, 5)
    assert throws(one, pairs) == throws(another, pairs[::-1])


def test_the_dice_fall_anew_for_another_seed_visit_or_product() -> None:
    pairs = [(f"v-{visit}", product) for visit in range(50) for product in range(1, 8)]
    one = throws(GroundTruth(PRODUCTS, ENCODER, 5), pairs)
    other = throws(GroundTruth(PRODUCTS, ENCODER, 6), pairs)
    differing = sum(one[pair] != other[pair] for pair in pairs)
    assert 0.35 < differing / len(pairs) < 0.65
    assert len({one["v-1", product] for product in range(1, 8)}) == 2
    assert len({one[f"v-{visit}", 1] for visit in range(50)}) == 2


@pytest.mark.parametrize("p", [0.02, 0.1365, 0.5, 0.9])
def test_the_dice_are_fair(p: float) -> None:
    truth = GroundTruth(PRODUCTS, ENCODER, 5)
    count = 20_000
    clicks = sum(truth.would_click(f"v-{visit}", 3, p) for visit in range(count))
    four_sigma = 4 * math.sqrt(p * (1 - p) / count)
    assert clicks / count == pytest.approx(p, abs=four_sigma)


def test_what_is_impossible_never_happens_and_what_is_certain_always() -> None:
    truth = GroundTruth(PRODUCTS, ENCODER, 5)
    visits = [f"v-{visit}" for visit in range(1_000)]
    assert not any(truth.would_click(visit, 1, 0.0) for visit in visits)
    assert all(truth.would_click(visit, 1, 1.0) for visit in visits)


@pytest.mark.parametrize(
    ("p", "rank"),
    [
        ([1.0, 1.0, 1.0], 1),
        ([0.0, 1.0, 1.0], 2),
        ([0.0, 0.0, 1.0], 3),
        ([0.0, 0.0, 0.0], None),
        ([], None),
    ],
)
def test_a_shopper_stops_at_the_first_click(p: list[float], rank: int | None) -> None:
    truth = GroundTruth(PRODUCTS, ENCODER, 5)
    assert truth.examine("v", list(range(1, len(p) + 1)), p) == rank


def test_a_shopper_likes_a_product_wherever_it_stands_on_the_slate() -> None:
    truth = GroundTruth(PRODUCTS, ENCODER, 5)
    slate, p = [1, 2, 3, 4, 5], [0.3] * 5
    for visit in (f"v-{number}" for number in range(200)):
        liked = [product for product in slate if truth.would_click(visit, product, 0.3)]
        for order in (slate, slate[::-1], [3, 1, 5, 2, 4]):
            rank = truth.examine(visit, order, p)
            first = next((product for product in order if product in liked), None)
            assert (order[rank - 1] if rank else None) == first


def some_probabilities(visits: int, products: int) -> Floats:
    return np.random.default_rng(8).random((visits, products))


@pytest.mark.parametrize("k", [1, 2, 3, 6, 7, 9])
def test_random_and_best_agree_with_an_enumeration_of_all_slates(k: int) -> None:
    P = some_probabilities(4, 7)
    slates = list(itertools.combinations(range(7), min(k, 7)))
    by_slate = np.array(
        [[slate_click_probability(row[list(slate)]) for slate in slates] for row in P]
    )
    np.testing.assert_allclose(random_click_probability(P, k), by_slate.mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(best_click_probability(P, k), by_slate.max(axis=1), atol=1e-12)


def test_a_random_slate_of_a_whole_catalogue_agrees_with_drawn_ones() -> None:
    P = some_probabilities(1, 200) * 0.3
    rng = np.random.default_rng(9)
    drawn = [slate_click_probability(P[0, rng.permutation(200)[:5]]) for _ in range(4_000)]
    four_sigma = 4 * float(np.std(drawn)) / math.sqrt(len(drawn))
    assert float(random_click_probability(P, 5)[0]) == pytest.approx(
        float(np.mean(drawn)), abs=four_sigma
    )


@pytest.mark.parametrize("alike", [False, True])
def test_where_nothing_is_possible_a_random_slate_is_worth_the_best_to_the_bit(alike: bool) -> None:
    generator = np.random.default_rng(4)
    P = generator.random((500, 1)) * np.ones(30) if alike else generator.random((500, 5))
    np.testing.assert_array_equal(random_click_probability(P, 5), best_click_probability(P, 5))


def test_a_slate_is_clicked_unless_every_product_is_passed_over() -> None:
    assert slate_click_probability(np.array([0.5, 0.2])) == pytest.approx(1 - 0.5 * 0.8)
    assert slate_click_probability(np.array([])) == 0.0
