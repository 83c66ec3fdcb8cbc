import msgspec
import pytest

from shared.catalogue import DataSet
from shared.dead_letter import MAX_BYTES
from shared.events import DEAD_LETTERS, OUTCOMES, VISITS, Outcome, encode
from tests.scenario import NESTED, NOON
from tests.unit.server.stream_bench import TOPICS, World


@pytest.fixture
def world(data: DataSet) -> World:
    return World(data)


def test_every_visit_gets_a_decision_that_says_all_that_is_needed_to_repeat_it(
    world: World,
) -> None:
    visits = {visit.visit_id: visit for visit in world.arrive(range(20))}
    served = world.server().run_once(0.0)
    decisions = world.decisions()
    assert {decision.visit_id for decision in decisions} == visits.keys()
    assert sorted(d.decision_id for d in decisions) == sorted(
        item.decision.decision_id for item in served
    )
    for decision in decisions:
        visit = visits[decision.visit_id]
        assert decision.x == world.data.encoder.encode([visit.context]).X[0].tolist()
        assert decision.view == [3, 1, 4]
        assert decision.arms_id == "5c39e1b4d2f06a87"
        assert (decision.policy, decision.parameters) == ("linucb", {"alpha": 0.5, "lambda": 1.0})
        assert decision.encoder_id == world.data.encoder.id
        assert len({item.product_id for item in decision.slate}) == 5
        assert not decision.stale


def test_a_stale_view_is_said_in_the_decision(world: World) -> None:
    world.view.view = world.view.view._replace(stale=True)
    world.arrive([1])
    world.server().run_once(0.0)
    assert world.decisions()[0].stale


def test_ranks_up_to_the_click_get_outcomes_and_those_behind_it_none(world: World) -> None:
    world.arrive(range(200))
    served = world.server().run_once(0.0)
    by_decision: dict[str, list[Outcome]] = {}
    for outcome in world.outcomes():
        by_decision.setdefault(outcome.decision_id, []).append(outcome)
    clicked = 0
    for item in served:
        outcomes = sorted(by_decision[item.decision.decision_id], key=lambda o: o.rank)
        slate = [each.product_id for each in item.decision.slate]
        assert [o.product_id for o in outcomes] == slate[: len(outcomes)]
        assert [o.outcome_id for o in outcomes] == [
            f"{item.decision.decision_id}:{rank}" for rank in range(1, len(outcomes) + 1)
        ]
        expected = [0.0] * len(outcomes)
        if item.clicked is not None:
            clicked += 1
            assert outcomes[-1].product_id == item.clicked
            expected[-1] = 1.0
        else:
            assert len(outcomes) == 5
        assert [o.reward for o in outcomes] == expected
        assert all(o.x == item.decision.x for o in outcomes)
    assert 50 < clicked < 150


def test_a_shopper_who_looks_at_two_ranks_tells_of_two_at_most(world: World) -> None:
    world.arrive(range(50))
    world.server(depth=2).run_once(0.0)
    assert {outcome.rank for outcome in world.outcomes()} == {1, 2}


def test_top1_feedback_gives_one_outcome_a_visit(world: World) -> None:
    world.arrive(range(50))
    served = world.server(feedback="top1").run_once(0.0)
    outcomes = world.outcomes()
    assert len(outcomes) == 50
    clicks = {item.decision.decision_id: item.clicked for item in served}
    for outcome in outcomes:
        assert outcome.reward == float(clicks[outcome.decision_id] is not None)
        assert clicks[outcome.decision_id] in (None, outcome.product_id)


def test_the_same_visit_reacts_the_same_on_every_replica(data: DataSet) -> None:
    one, other = World(data), World(data)
    one.arrive(range(30))
    for number in reversed(range(30)):
        other.arrive([number])
    clicks = [
        {item.visit.visit_id: item.clicked for item in world.server().run_once(0.0)}
        for world in (one, other)
    ]
    assert clicks[0] == clicks[1]


def test_poison_among_visits_is_set_aside_and_the_rest_is_served(world: World) -> None:
    [good] = world.arrive([1])
    far_too_long = msgspec.structs.replace(good, visit_id="y" * 600_000)
    for value in (
        b"{",
        b"",
        None,
        NESTED,
        encode(good).replace(b'"age":', b'"age":"x'),
        encode(good).replace(b'"age":', b'"age":' + b"9" * 400),  # more than a float can be
        encode(far_too_long),  # its decision would repeat it
    ):
        world.broker.append(VISITS, 0, b"k", value)
    server = world.server()
    assert len(server.run_once(0.0)) == 1
    letters = world.broker.records(DEAD_LETTERS, 0)
    assert [letter.value for letter in letters][:2] == [b"{", b""]
    assert all(dict(letter.headers)["topic"] == VISITS.encode() for letter in letters)
    assert all(len(letter.value or b"") <= MAX_BYTES for letter in letters)
    assert server.counts.dead_letters == 7


def test_an_unknown_category_and_a_number_out_of_range_are_counted(world: World) -> None:
    visit = world.shoppers.visit(1, NOON)
    odd = msgspec.structs.replace(visit.context, traffic_source="Carrier pigeon", age=200)
    world.broker.append(VISITS, 0, b"1", encode(msgspec.structs.replace(visit, context=odd)))
    server = world.server()
    server.run_once(0.0)
    assert (server.counts.unknown_categories, server.counts.clipped) == (1, 1)


def test_freshness_runs_from_the_reaction_once_a_visit(world: World) -> None:
    world.arrive([1])
    world.server().run_once(0.0)
    world.clock.now_s = 0.003
    for partition in range(TOPICS[OUTCOMES]):
        world.freshness.advanced(partition, 100)
    samples = world.freshness.take_ms()
    assert samples == [3.0] * len(world.decisions())


def test_servers_of_a_group_share_the_visits(world: World) -> None:
    one, other = world.server(), world.server()
    for server in (one, other, one, other):
        server.run_once(0.0)
    world.arrive(range(40))
    served = [len(server.run_once(0.0)) for server in (one, other)]
    assert sum(served) == 40
    assert min(served) > 0
