"""Users are divided evenly, for good, and anew for every experiment; each gets its policy."""

from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import msgspec
import numpy as np
import pytest

from server.api_types import RankContext, RankRequest
from server.experiment import BadExperiment, Traffic, parse
from server.ranking import Job, Ranker
from server.scorer import Model, Policy, rank, seeds_of
from shared.catalogue import DataSet
from shared.linucb import untrained
from shared.reward_window import Waiting
from shared.testing import FakeClock
from tests.unit.server.api_bench import CONTEXT, StillView

stats: Any = import_module("scipy.stats")
USERS = range(4_000)
D = 3


def split(traffic: Traffic) -> list[str | None]:
    return [traffic.variant_of(user).name for user in USERS]


def model(arms: int) -> Model:
    zeros = np.zeros(arms, np.int64)
    numbers = np.arange(1, arms + 1)
    return Model(numbers, zeros, zeros.copy(), untrained(arms, D, 1.0), numbers - 1)


def test_users_are_divided_by_the_shares() -> None:
    names = split(parse("linucb:1,random:2,lints:1", Policy, "e"))
    found = [names.count(name) for name in ("linucb", "random", "lints")]
    expected = [len(USERS) * share for share in (0.25, 0.5, 0.25)]
    assert stats.chisquare(found, expected).pvalue > 1e-3


def test_a_user_stays_with_a_policy_and_the_next_experiment_divides_anew() -> None:
    first = split(parse("linucb:50,random:50", Policy, "first"))
    assert split(parse("linucb:50,random:50", Policy, "first")) == first
    second = split(parse("linucb:50,random:50", Policy, "second"))
    same = sum(a == b for a, b in zip(first, second, strict=True))
    assert stats.binomtest(same, len(USERS), 0.5).pvalue > 1e-3


def test_each_visit_is_ranked_by_its_users_policy() -> None:
    traffic = parse("linucb:50,random:50", Policy, "e")
    users, X = list(range(40)), np.random.default_rng(0).random((40, D))
    seeds = seeds_of([f"d-{user}" for user in users])
    ranked = traffic.rank(users, lambda policy: model(20), X, seeds, 5)
    for row, (user, (variant, slate)) in enumerate(zip(users, ranked, strict=True)):
        assert variant == traffic.variant_of(user)
        at = slice(row, row + 1)
        [alone] = rank(variant.policy, model(20), X[at], seeds[at], 5)
        assert slate == alone


def test_over_http_nobody_in_particular_is_divided_by_visit(data: DataSet) -> None:
    traffic = parse("linucb:50,random:50", Policy, "e")
    view, now = StillView(data), datetime(2026, 1, 1, tzinfo=UTC)
    ranker = Ranker(view, traffic, data.encoder, None, utc_now=lambda: now, clock=FakeClock())
    context = msgspec.convert(CONTEXT, RankContext)
    for user_id, variants in ((None, 2), (0, 2), (7, 1)):
        request = RankRequest(context=context, user_id=user_id)
        made = ranker.decide([Job(f"d-{number}", request) for number in range(40)])
        decisions = [each.decision for each in made if isinstance(each, Waiting)]
        assert len({decision.variant for decision in decisions}) == variants
        # So many are the units of the experiment.
        assert len({decision.visitor for decision in decisions}) == (1 if user_id else 40)


def test_without_an_experiment_everyone_gets_the_policy_and_no_variant() -> None:
    traffic = Traffic.to(Policy("popularity"))
    assert traffic.experiment is None
    assert {traffic.variant_of(user) for user in USERS} == {(None, Policy("popularity"))}


def test_variants_have_settings_of_their_own() -> None:
    traffic = parse(
        "linucb:1,linucb/alpha=1/epsilon=0.05:1", lambda name: Policy(name, alpha=0.3), "e"
    )
    plain, bold = (variant.policy for variant in traffic.variants)
    assert (plain.alpha, plain.mixing) == (0.3, 0.0)
    assert (bold.alpha, bold.mixing) == (1.0, 0.05)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("linucb", "no share"),
        ("linucb:50", "at least two"),
        ("linucb:50,linucb:50", "none of them twice"),
        ("linucb:50,oracle:50", "no policy 'oracle'"),
        ("linucb:50,random:-1", "no share"),
        ("linucb:50,random:nan", "no share"),
        ("linucb:50,linucb/beta=1:50", "no setting"),
        ("linucb:50,linucb/alpha=x:50", "no setting"),
        ("linucb:50,linucb/alpha=-1:50", "alpha at least 0"),
    ],
)
def test_what_is_no_experiment_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(BadExperiment, match=complaint):
        parse(text, Policy, "e")
