import numpy as np
import pytest
from msgspec import structs

from server.explain import contributions, encoded, explained, slate_of
from server.scorer import Model, Policy, rank, seeds_of
from shared.arm_statistics import Floats
from shared.catalogue import DataSet
from shared.events import Context
from shared.features import NotFinite
from tests.models import trained


@pytest.fixture
def context(data: DataSet) -> Context:
    user = data.users[0]
    return Context(
        age=user.age,
        gender=user.gender,
        latitude=user.latitude,
        longitude=user.longitude,
        traffic_source=user.traffic_source,
        occurred_at=data.encoder.decode([0.5] * data.encoder.d).occurred_at,
    )


@pytest.fixture
def model(data: DataSet) -> Model:
    draw = np.random.default_rng(5)
    looked_at = draw.choice(data.arms[:20], 400).tolist()
    X = draw.random((400, data.encoder.d))
    return trained(data.arms, X, looked_at, (draw.random(400) < 0.3).astype(float).tolist())


def rows(data: DataSet) -> dict[int, int]:
    return {arm: row for row, arm in enumerate(data.arms)}


def test_the_explained_slate_is_the_one_that_is_shown(
    data: DataSet, model: Model, context: Context
) -> None:
    policy = Policy(alpha=0.2)
    x = encoded(data.encoder, context)
    [shown] = rank(policy, model, x, seeds_of(["a decision"]), 5)
    slate = slate_of(policy, model, rows(data), x, 5)
    products = {product.product_id: product for product in data.products}
    items = explained(slate, x, data.encoder, products)
    assert [(i.product_id, i.score) for i in items] == [(i.product_id, i.score) for i in shown]
    for item in items:
        assert item.name == products[item.product_id].name
        assert item.score == pytest.approx(item.mean + item.bonus)
        assert item.n == model.n[rows(data)[item.product_id]]


def test_the_contributions_of_the_features_add_up_to_the_mean(
    data: DataSet, model: Model, context: Context
) -> None:
    x = encoded(data.encoder, context)
    slate = slate_of(Policy(alpha=0.2), model, rows(data), x, 5)
    products = {product.product_id: product for product in data.products}
    for item in explained(slate, x, data.encoder, products):
        parts = [part.contribution for part in item.contributions]
        assert sum(parts) == pytest.approx(item.mean)
        assert parts == sorted(parts, key=abs, reverse=True)
        assert all(part.value * part.weight == part.contribution for part in item.contributions)


def test_a_feature_that_is_absent_is_no_reason() -> None:
    found = contributions(["a", "b", "c"], np.array([1.0, 0.0, 0.5]), np.array([0.1, 9.0, -0.6]))
    assert [part.feature for part in found] == ["c", "a"]


def test_a_policy_that_explores_is_asked_for_what_it_thinks_best(
    data: DataSet, model: Model, context: Context
) -> None:
    x: Floats = encoded(data.encoder, context)
    greedy = slate_of(Policy("lingreedy", epsilon=0.0), model, rows(data), x, 5)
    explores = slate_of(Policy("lingreedy", epsilon=1.0), model, rows(data), x, 5)
    assert [i.product_id for i in explores.items] == [i.product_id for i in greedy.items]


def test_a_context_that_is_not_finite_is_refused(data: DataSet, context: Context) -> None:
    with pytest.raises(NotFinite, match="latitude"):
        encoded(data.encoder, structs.replace(context, latitude=float("nan")))
