from collections import Counter

import pytest

from producer.menu import generated
from producer.menu_features import catalogue

MENU = catalogue()


def test_the_same_arguments_give_the_same_products_and_another_seed_others() -> None:
    assert generated(MENU, 50, 1) == generated(MENU, 50, 1)
    assert generated(MENU, 50, 1) != generated(MENU, 50, 2)


def test_it_is_a_menu_like_the_written_one() -> None:
    products = generated(MENU, 4_000, 1)
    assert [product.product_id for product in products] == list(range(1, 4_001))
    shares = Counter(product.category for product in products)
    written = Counter(product.category for product in MENU)
    for category, count in written.items():
        assert shares[category] / 4_000 == pytest.approx(count / len(MENU), abs=0.03)
    words = {word for product in MENU for word in product.name.split()}
    assert {word for product in products for word in product.name.split()} <= words


def test_coffees_are_mixed_of_coffees() -> None:
    names = {word for product in MENU if product.is_coffee for word in product.name.split()}
    coffees = [product for product in generated(MENU, 2_000, 1) if product.is_coffee]
    assert coffees
    assert {word for product in coffees for word in product.name.split()} <= names


def test_prices_stay_near_those_of_their_kind() -> None:
    for product in generated(MENU, 500, 3):
        kind = [p.price for p in MENU if p.category == product.category]
        assert 0.89 * min(kind) <= product.price <= 1.11 * max(kind)
