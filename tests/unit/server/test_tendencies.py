import numpy as np
import pytest

from server.tendencies import COFFEE, Table
from shared.catalogue import DataSet
from shared.events import Context
from tests.models import trained


def shoppers(data: DataSet) -> list[Context]:
    return [data.encoder.decode(x) for x in np.random.default_rng(1).random((50, data.encoder.d))]


def mornings(data: DataSet, count: int) -> "tuple[list[int], np.ndarray, list[float]]":
    """Outcomes of coffee and pizza: coffee is clicked in the morning, pizza at the weekend."""
    draw = np.random.default_rng(2)
    coffee = [product.product_id for product in data.products if product.is_coffee]
    pizza = [p.product_id for p in data.products if p.category == "Pizzas"]
    X = np.zeros((count, data.encoder.d))
    X[:, :3] = draw.random((count, 3))
    morning, weekend = draw.random(count) < 0.5, draw.random(count) < 0.5
    names = data.encoder.features
    X[morning, names.index("is_morning")] = 1.0
    X[~morning, names.index("is_evening")] = 1.0
    X[weekend, names.index("is_weekend")] = 1.0
    X[~weekend, names.index("is_weekday")] = 1.0
    of_coffee = draw.random(count) < 0.5
    arms = np.where(of_coffee, draw.choice(coffee, count), draw.choice(pizza, count)).tolist()
    rewards = np.where(of_coffee, morning, weekend).astype(float).tolist()
    return arms, X, rewards


def test_it_shows_coffee_in_the_morning_and_pizza_at_the_weekend(data: DataSet) -> None:
    arms, X, rewards = mornings(data, 3_000)
    model = trained(data.arms, X, arms, rewards)
    table = Table(data.products, data.encoder, shoppers(data))
    found = table.tendencies(table.estimates(model), model.n)
    assert found.groups[0] == COFFEE
    rows = dict(zip(found.groups, found.chances, strict=True))
    for i, time in enumerate(found.times):
        coffee, pizza = rows[COFFEE][i], rows["Pizzas"][i]
        assert coffee is not None
        assert pizza is not None
        if time == "weekday morning":
            assert coffee > 0.7 > 0.3 > pizza
        if time == "weekend evening":
            assert pizza > 0.7 > 0.3 > coffee
    assert sum(found.n) == 3_000


def test_a_group_that_nobody_looked_at_has_no_estimate(data: DataSet) -> None:
    arms, X, rewards = mornings(data, 100)
    model = trained(data.arms, X, arms, rewards)
    table = Table(data.products, data.encoder, shoppers(data))
    found = table.tendencies(table.estimates(model), model.n)
    burgers = found.groups.index("Burgers & Sandwiches")
    assert found.n[burgers] == 0
    assert set(found.chances[burgers]) == {None}


def test_a_product_counts_as_often_as_it_was_looked_at(data: DataSet) -> None:
    table = Table(data.products, data.encoder, shoppers(data))
    first, second = [i for i, p in enumerate(data.products) if p.category == "Pizzas"][:2]
    n, estimates = np.zeros(len(data.products), np.int64), np.zeros((8, len(data.products)))
    n[first], n[second] = 3, 1
    estimates[:, first], estimates[:, second] = 0.4, 0.8
    found = table.tendencies(estimates, n)
    assert found.chances[found.groups.index("Pizzas")] == pytest.approx([0.5] * 8)
