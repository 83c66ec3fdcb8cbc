"""`shared.kafka_admin` beside a cluster that has just come up."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from shared.kafka_admin import Committed, KafkaAdmin
from shared.ports import BrokerUnavailable


class Groups:
    """The part of librdkafka's admin client that knows groups' offsets."""

    def __init__(self, refusals: list[Exception]) -> None:
        self.refusals = refusals
        self.partition_error: int | None = None
        self.address = "localhost:9092"
        self.admin = self

    def alter_consumer_group_offsets(self, asked: list[Any], **_: float) -> dict[str, Future[Any]]:
        answer: Future[Any] = Future()
        if self.refusals:
            answer.set_exception(self.refusals.pop(0))
        else:
            answer.set_result(self._noted(asked[0]))
        return {"g": answer}

    def _noted(self, request: Any) -> Any:
        if self.partition_error is not None:
            error = KafkaError(self.partition_error)
            return SimpleNamespace(topic_partitions=[SimpleNamespace(partition=0, error=error)])
        return request


def refused(code: int) -> KafkaException:
    return KafkaException(KafkaError(code))


def note(groups: Any) -> None:
    KafkaAdmin(groups).commit("g", "outcomes", {0: Committed(5)})


@pytest.mark.parametrize(
    "code", [KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS]
)
def test_a_coordinator_that_is_not_there_yet_is_asked_again(code: int) -> None:
    groups = Groups([refused(code), refused(code)])
    note(groups)
    assert groups.refusals == []


def test_a_refusal_that_stays_is_said_at_once() -> None:
    groups = Groups([refused(KafkaError.GROUP_AUTHORIZATION_FAILED)] * 2)
    with pytest.raises(BrokerUnavailable, match="authorization"):
        note(groups)
    assert len(groups.refusals) == 1


def test_a_partition_that_was_not_noted_is_no_success() -> None:
    groups = Groups([])
    groups.partition_error = KafkaError.GROUP_AUTHORIZATION_FAILED
    with pytest.raises(BrokerUnavailable, match="authorization"):
        note(groups)


class Configs:
    """The part of librdkafka's admin client that knows topics' settings."""

    def __init__(self, answer: str | Exception) -> None:
        self.answer = answer
        self.embedded = False
        self.address = "localhost:9092"
        self.admin = self

    def describe_configs(self, asked: list[Any], **_: float) -> dict[Any, Future[Any]]:
        found: Future[Any] = Future()
        if isinstance(self.answer, Exception):
            found.set_exception(self.answer)
        else:
            found.set_result({"cleanup.policy": SimpleNamespace(value=self.answer)})
        return {asked[0]: found}


def policy(answer: str | Exception) -> str | None:
    return KafkaAdmin(Configs(answer)).cleanup_policy("products")  # type: ignore[arg-type]


def test_what_becomes_of_old_records_is_what_the_broker_says() -> None:
    assert policy("compact,delete") == "compact,delete"


def test_a_broker_that_does_not_let_us_ask_has_not_said() -> None:
    assert policy(refused(KafkaError.TOPIC_AUTHORIZATION_FAILED)) is None


def test_a_broker_that_does_not_answer_what_becomes_of_old_records_is_away() -> None:
    with pytest.raises(BrokerUnavailable, match="does not answer"):
        policy(refused(KafkaError._TIMED_OUT))
