from datetime import UTC, datetime

import numpy as np
import pytest

from producer.simulate import Shoppers
from reco.worlds import EXTRA_SD, WORLDS, Hidden, large, world_of
from shared.arm_statistics import Floats
from shared.catalogue import DataSet
from shared.events import Context


def contexts(data: DataSet, count: int = 60) -> list[Context]:
    shoppers = Shoppers(data.users, 1, "w")
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return [shoppers.visit(number, at).context for number in range(count)]


def logit(p: Floats) -> Floats:
    result: Floats = np.log(p / (1.0 - p))
    return result


@pytest.mark.parametrize("name", [name for name in WORLDS if name != "large"])
def test_every_world_has_its_name_and_says_what_it_is(data: DataSet, name: str) -> None:
    world = world_of(name, data)
    assert world.name == name
    assert world.about


def test_extra_adds_one_number_a_product_whatever_the_context(data: DataSet) -> None:
    visits = contexts(data)
    plain = Hidden(world_of("seed", data), 3, 100).click_probabilities(visits, 0)
    extra = Hidden(world_of("extra", data), 3, 100).click_probabilities(visits, 0)
    added = logit(extra) - logit(plain)
    np.testing.assert_allclose(added, np.tile(added[:1], (len(visits), 1)), atol=1e-9)
    assert added[0].std() == pytest.approx(EXTRA_SD, rel=0.15)


def test_extra_follows_the_seed(data: DataSet) -> None:
    visits, world = contexts(data), world_of("extra", data)
    runs = [Hidden(world, seed, 100).click_probabilities(visits, 0) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_drift_swaps_at_half_time_also_within_a_batch(data: DataSet) -> None:
    visits, world = contexts(data), world_of("drift", data)
    hidden = Hidden(world, 1, 200)
    before, after = hidden.click_probabilities(visits, 0), hidden.click_probabilities(visits, 100)
    across = hidden.click_probabilities(visits, 80)
    np.testing.assert_array_equal(across[:20], before[:20])
    np.testing.assert_array_equal(across[20:], after[20:])
    mornings = [i for i, context in enumerate(visits) if 6 <= context.occurred_at.hour < 12]
    weekdays = [i for i in mornings if visits[i].occurred_at.weekday() < 5]
    coffee = [i for i, product in enumerate(data.products) if product.is_coffee]
    pizza = [i for i, product in enumerate(data.products) if product.category == "Pizzas"]
    assert before[np.ix_(weekdays, coffee)].mean() > 0.3 > before[np.ix_(weekdays, pizza)].mean()
    assert after[np.ix_(weekdays, pizza)].mean() > 0.3 > after[np.ix_(weekdays, coffee)].mean()


def test_large_has_ten_thousand_products_with_features(data: DataSet) -> None:
    catalogue = large(data)
    assert len(catalogue.products) == len(catalogue.features) == 10_000
    assert catalogue.feature_names == data.feature_names
    assert catalogue.users is data.users
