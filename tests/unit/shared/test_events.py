"""What is on the wire stays readable: golden records, and schemas that say what is promised.

The schemas are written by `python -m tests.unit.shared.test_events`.
"""

import inspect
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import pytest

import shared
from shared.events import (
    DECISIONS,
    OUTCOMES,
    PRODUCTS,
    SCHEMA_VERSION,
    UNDECODABLE,
    VISITS,
    Context,
    Decision,
    Outcome,
    ProductChange,
    SlateItem,
    Visit,
    decode_decision,
    decode_outcome,
    decode_product_change,
    decode_visit,
    encode,
    key_of,
)
from shared.ports import Source
from tests.scenario import NESTED

SCHEMAS: Final = Path(shared.__file__).parent / "schemas"
GOLDEN: Final = Path(__file__).parent / "golden"
AT: Final = datetime(2026, 11, 24, 7, 29, 30, 125_000, tzinfo=UTC)
X: Final = [0.25, 0.5, 1 / 3, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0]
RECORDS: Final[dict[str, msgspec.Struct]] = {
    VISITS: Visit(
        visit_id="run-0000001",
        user_id=327,
        context=Context(
            age=23,
            gender="F",
            latitude=-33.86785,
            longitude=151.20732,
            traffic_source="Search",
            occurred_at=datetime(2026, 1, 5, 7, 29),  # noqa: DTZ001 (shop-local)
        ),
        emitted_at=AT,
    ),
    DECISIONS: Decision(
        decision_id="run-0000001",
        visit_id="run-0000001",
        user_id=327,
        policy="linucb",
        parameters={"alpha": 0.2, "lambda": 1.0},
        x=X,
        encoder_id="8359b8672b67c3f2",
        view=[104, 0, 99],
        slate=[
            SlateItem(product_id=192, score=0.75, mean=0.625, bonus=0.125, propensity=1.0),
            SlateItem(product_id=189, score=0.5, mean=0.5, bonus=0.0, propensity=None),
        ],
        decided_at=AT,
        stale=True,
        experiment="coffee",
        variant="linucb",
        arms_id="5c39e1b4d2f06a87",
        exclude=[42, 7],
    ),
    OUTCOMES: Outcome(
        outcome_id="run-0000001:2",
        decision_id="run-0000001",
        product_id=189,
        rank=2,
        reward=1.0,
        x=X,
        encoder_id="8359b8672b67c3f2",
        decided_at=AT,
        resolved_at=AT + timedelta(seconds=1),
    ),
    PRODUCTS: ProductChange(
        product_id=201,
        name="Cold Brew",
        category="Drinks & Desserts",
        price=6.5,
        is_coffee=True,
        features={"text_0": 0.25, "is_coffee": 1.0},
        retired=False,
        from_offset=104,
        changed_at=AT,
        outcomes_log=Source("cluster", OUTCOMES, 12, topic_id="cZAHyP6zTbuZrwKgBTYhAw"),
    ),
}
TOPICS: Final = sorted(RECORDS)


def schema_of(topic: str) -> bytes:
    schema = msgspec.json.schema(type(RECORDS[topic]))
    for each in schema["$defs"].values():
        # As Python has it from 3.13 on; before, a docstring is indented like the code around it.
        each["description"] = inspect.cleandoc(each["description"])
    return msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n"


def golden(topic: str) -> bytes:
    return (GOLDEN / f"{topic}.json").read_bytes().removesuffix(b"\n")


@pytest.mark.parametrize("topic", TOPICS)
def test_the_checked_in_schema_is_that_of_the_type(topic: str) -> None:
    checked_in = json.loads((SCHEMAS / f"{topic}.json").read_text(encoding="utf-8"))
    assert checked_in == json.loads(schema_of(topic)), "see the head of this file"


def test_every_topic_with_a_type_has_a_schema_and_a_golden_record() -> None:
    for folder in (SCHEMAS, GOLDEN):
        assert sorted(path.stem for path in folder.glob("*.json")) == TOPICS


@pytest.mark.parametrize("topic", TOPICS)
def test_a_golden_record_is_still_understood_and_written_to_the_byte(topic: str) -> None:
    record = msgspec.json.decode(golden(topic), type=type(RECORDS[topic]))
    assert record == RECORDS[topic]
    assert encode(record) == golden(topic)


@pytest.mark.parametrize("topic", TOPICS)
def test_fields_of_a_newer_writer_are_ignored(topic: str) -> None:
    newer = {**json.loads(golden(topic)), "added_later": {"a": [1]}}
    record = msgspec.json.decode(json.dumps(newer), type=type(RECORDS[topic]))
    assert record == RECORDS[topic]


@pytest.mark.parametrize("topic", TOPICS)
def test_a_record_without_what_is_required_is_refused(topic: str) -> None:
    fields = json.loads(golden(topic))
    for name in json.loads(schema_of(topic))["$defs"][type(RECORDS[topic]).__name__]["required"]:
        partial = {key: value for key, value in fields.items() if key != name}
        with pytest.raises(msgspec.ValidationError, match=f"missing required field `{name}`"):
            msgspec.json.decode(json.dumps(partial), type=type(RECORDS[topic]))


def test_a_record_of_before_the_optional_fields_gets_their_defaults() -> None:
    fields = json.loads(golden(DECISIONS))
    for name in ("stale", "experiment", "variant", "schema_version"):
        del fields[name]
    for name in ("arms_id", "candidates", "exclude"):
        del fields[name]
    decision = decode_decision(json.dumps(fields).encode())
    assert (decision.stale, decision.schema_version) == (False, SCHEMA_VERSION)
    assert (decision.experiment, decision.variant) == (None, None)
    assert (decision.arms_id, decision.candidates, decision.exclude) == (None, None, None)


def test_a_change_of_before_logs_were_named_has_an_offset_of_every_log() -> None:
    fields = json.loads(golden(PRODUCTS))
    del fields["outcomes_log"]
    change = decode_product_change(json.dumps(fields).encode())
    assert (change.from_offset, change.outcomes_log) == (104, None)


def test_numbers_and_times_come_back_as_they_were() -> None:
    visit, outcome = RECORDS[VISITS], RECORDS[OUTCOMES]
    assert decode_visit(encode(visit)) == visit
    again = decode_outcome(encode(outcome))
    assert again.x == X
    assert again.resolved_at - again.decided_at == timedelta(seconds=1)


def test_the_shops_time_has_no_zone_and_real_time_is_utc() -> None:
    visit = decode_visit(golden(VISITS))
    assert visit.context.occurred_at.tzinfo is None
    assert visit.emitted_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_number_that_json_does_not_have_is_refused(number: str) -> None:
    text = golden(OUTCOMES).replace(b'"reward":1.0', b'"reward":' + number.encode())
    with pytest.raises(msgspec.DecodeError):
        decode_outcome(text)


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"[]", b'{"visit_id": "\xff"}', pytest.param(NESTED, id="nested")],
)
@pytest.mark.parametrize(
    "decode", [decode_visit, decode_decision, decode_outcome, decode_product_change]
)
def test_whatever_can_not_be_decoded_raises_one_of_a_few(
    decode: Callable[[bytes], object], value: bytes
) -> None:
    with pytest.raises(UNDECODABLE):
        decode(value)


@pytest.mark.parametrize(("identifier", "key"), [(0, b"0"), (189, b"189"), (-1, b"-1")])
def test_a_key_is_the_decimal_text_of_the_id(identifier: int, key: bytes) -> None:
    assert key_of(identifier) == key


if __name__ == "__main__":
    for topic in TOPICS:
        (SCHEMAS / f"{topic}.json").write_bytes(schema_of(topic))
