import pytest

from server.publication import records_of
from shared.cascade import outcomes_of
from shared.events import DECISIONS, OUTCOMES, decode_decision, decode_outcome
from shared.testing import FakeBroker
from tests.contract.window_suite import NOON, waiting

HEADERS, OUTCOME_HEADERS = (("traceparent", b"ranked"),), (("traceparent", b"clicked"),)


def published(rewards: list[tuple[int, int]]) -> tuple[FakeBroker, list[tuple[int, int]]]:
    """The log with a decision that came to these rewards, and what was told of it."""
    broker, told = FakeBroker({DECISIONS: 1, OUTCOMES: 1}), list[tuple[int, int]]()
    producer, decision = broker.producer(), waiting(1).decision

    def delivered(partition: int, offset: int) -> None:
        told.append((partition, offset))

    outcomes = outcomes_of(decision, rewards, NOON)
    producer.send_all(records_of(decision, outcomes, delivered, HEADERS, OUTCOME_HEADERS))
    producer.flush(1.0)
    return broker, told


@pytest.mark.parametrize("rewards", [[(1, 0), (2, 0), (3, 1)], [(1, 1)], []])
def test_where_the_last_outcome_went_is_told_once(rewards: list[tuple[int, int]]) -> None:
    broker, told = published(rewards)
    assert told == ([(0, len(rewards) - 1)] if rewards else [])
    outcomes = [decode_outcome(record.value or b"") for record in broker.records(OUTCOMES, 0)]
    assert [(each.rank, each.reward) for each in outcomes] == rewards


def test_the_decision_and_its_outcomes_carry_the_traces_of_what_made_them() -> None:
    broker, _ = published([(1, 1)])
    [decision], [outcome] = broker.records(DECISIONS, 0), broker.records(OUTCOMES, 0)
    assert decode_decision(decision.value or b"") == waiting(1).decision
    assert (decision.headers, outcome.headers) == (HEADERS, OUTCOME_HEADERS)
    assert (decision.key, outcome.key) == (b"d-1", b"8")
