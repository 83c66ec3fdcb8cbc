"""A policy that is evaluated by its own log would have shown just that, whatever it ranked."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec import structs
from threadpoolctl import threadpool_limits

from reco.catalogue_history import CatalogueHistory
from reco.log_evaluation import LogEvaluation, evaluate_log
from reco.logged_rounds import NothingToEvaluate, rounds
from server.scorer import Policy
from shared.catalogue import DataSet
from shared.events import ProductChange
from shared.shared_linucb import Hyperparameters
from tests.products import change
from tests.unit.reco.logged import Ends, Logged

LINUCB = Policy("linucb", 0.2, epsilon=0.3)
SHARED = Policy("shared-linucb", 1.4, epsilon=0.3)
VISITS = 80


@pytest.fixture(autouse=True)
def one_blas_thread() -> Iterator[None]:
    """Small products, which threads would only wait for."""
    with threadpool_limits(1, user_api="blas"):
        yield


def halves(data: DataSet) -> Callable[[int], dict[str, Any]]:
    """Every third request excludes a half of the products, every third names the other half.

    But never one that is retired meanwhile, which would be refused.
    """
    retired = {change.product_id for change in CHANGES.values() if change.retired}
    one, other = data.arms[::2], [arm for arm in data.arms[1::2] if arm not in retired]
    return lambda number: [{}, {"exclude": one}, {"candidates": other[number % 7 :]}][number % 3]


def two_replicas(batch: int, ends: Ends) -> Ends:
    """Two servers in turns, each without news of half of the partitions."""
    return [end if partition % 2 == batch % 2 else 0 for partition, end in enumerate(ends)]


def itself(data: DataSet, logged: Logged, policy: Policy) -> LogEvaluation:
    log = rounds(logged.decisions, logged.outcomes, logged.history, data.encoder.id)
    return evaluate_log(log, policy, logged.models, frozen=False)


def assert_same(result: LogEvaluation, visits: int = VISITS) -> None:
    assert result.decisions == visits
    assert result.overlap.mean_weight == pytest.approx(1.0, abs=1e-9)
    assert result.overlap.effective_sample_size == pytest.approx(visits)
    values = {estimate.estimator: estimate.value for estimate in result.estimates}
    assert values["ips"] == pytest.approx(values["logged"], rel=1e-9)


CHANGES = {1: change(1, retired=True), 2: change(201), 3: change(192, retired=True)}


@pytest.mark.parametrize("policy", [LINUCB, SHARED, Policy("random")], ids=lambda p: p.name)
@pytest.mark.parametrize("changes", [{}, CHANGES], ids=["one catalogue", "several"])
def test_each_decision_is_asked_about_what_it_was_chosen_from(
    data: DataSet, policy: Policy, changes: dict[int, ProductChange]
) -> None:
    logged = Logged(data, policy, request=halves(data), changes=changes, visits=VISITS)
    assert len({decision.arms_id for decision in logged.decisions}) == len(changes) + 1
    assert_same(itself(data, logged, policy))


@pytest.mark.parametrize("policy", [LINUCB, SHARED], ids=lambda p: p.name)
def test_with_forgetting_too(data: DataSet, policy: Policy) -> None:
    logged = Logged(data, policy, gamma=0.9, visits=VISITS)
    result = itself(data, logged, policy)
    assert_same(result)
    assert result.parameters["gamma"] == 0.9


def test_with_other_variances_than_the_default_too(data: DataSet) -> None:
    hyper = Hyperparameters(0.01, 0.05, 0.15)
    logged = Logged(data, SHARED, hyper=hyper, visits=VISITS)
    result = itself(data, logged, SHARED)
    assert_same(result)
    assert result.parameters["omega2"] == 0.05


@pytest.mark.parametrize("policy", [LINUCB, SHARED], ids=lambda p: p.name)
def test_with_replicas_that_are_ahead_of_each_other_too(data: DataSet, policy: Policy) -> None:
    logged = Logged(data, policy, view=two_replicas, visits=VISITS)
    assert_same(itself(data, logged, policy))


def test_a_slate_that_was_chosen_together_is_asked_for_at_its_length(data: DataSet) -> None:
    # σ² so that some slates are left as they are, and others would be if they were shorter.
    logged = Logged(data, SHARED, hyper=Hyperparameters(sigma2=1.0), visits=VISITS)
    seen = [outcome for outcome in logged.outcomes if outcome.rank <= 2]
    log = rounds(logged.decisions, seen, logged.history, data.encoder.id)
    assert log.slates.shape == (VISITS, 2)
    assert_same(evaluate_log(log, SHARED, logged.models, frozen=False))


def test_what_is_not_known_to_have_been_ranked_is_left_out(data: DataSet) -> None:
    logged = Logged(data, LINUCB, changes={2: change(1, retired=True)}, visits=VISITS)
    prepared = CatalogueHistory(data.products)
    log = rounds(logged.decisions, logged.outcomes, prepared, data.encoder.id)
    assert log.skipped == {"a set of products that the catalogue is not known to have had": 40}
    assert len(log.decisions) == 40


def test_records_of_before_sets_had_names_count_while_the_catalogue_never_changed(
    data: DataSet,
) -> None:
    logged = Logged(data, LINUCB, visits=VISITS)
    logged.decisions = [structs.replace(each, arms_id=None) for each in logged.decisions]
    assert_same(itself(data, logged, LINUCB))
    logged.history.take(change(1, retired=True))
    with pytest.raises(NothingToEvaluate, match="80 with no name of the set of products"):
        itself(data, logged, LINUCB)
