"""The description of the API: whole, and true of what is answered."""

import re
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest

from server.api_types import ExplainRequest
from server.openapi import EXAMPLES, openapi, page

PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi("1", keys=True)


def parameter(operation: dict[str, Any], name: str) -> dict[str, Any]:
    """The schema of one parameter."""
    [found] = [each for each in operation["parameters"] if each["name"] == name]
    schema: dict[str, Any] = found["schema"]
    return schema


def test_what_the_live_page_asks_is_described_too(document: dict[str, Any]) -> None:
    paths = document["paths"]
    stream = paths["/v1/live"]["get"]["responses"]["200"]["content"]["text/event-stream"]
    assert stream["schema"]["type"] == "string"
    assert stream["x-itemSchema"] == {"$ref": "#/components/schemas/Message"}
    body = paths["/v1/explain"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/ExplainRequest"}
    learning = paths["/v1/learning/{product_id}"]["get"]
    assert parameter(learning, "product_id")["type"] == "integer"
    assert parameter(learning, "age")["maximum"] == 150
    assert all(paths[path] for path in ("/", "/docs", "/openapi.json", "/metrics"))


def test_a_decision_id_in_a_path_is_described_as_in_a_body(document: dict[str, Any]) -> None:
    in_body = document["components"]["schemas"]["RankRequest"]["properties"]["decision_id"]
    for path, method in (
        ("/v1/decisions/{decision_id}", "get"),
        ("/v1/decisions/{decision_id}/click", "post"),
    ):
        assert parameter(document["paths"][path][method], "decision_id") in in_body["anyOf"]


@pytest.mark.parametrize(
    ("time", "taken"),
    [
        ("2026-01-26T07:29:00", True),
        ("2026-01-26 07:29:00.25", True),
        ("2026-01-26T07:29", False),
        ("20260126T072900", False),
        ("2026-01-26T07:29:00Z", False),
    ],
)
def test_a_time_is_described_as_it_is_taken(
    document: dict[str, Any], time: str, taken: bool
) -> None:
    described = document["components"]["schemas"]["RankContext"]["properties"]["occurred_at"]
    assert "RFC 3339 without a zone, with seconds" in described["description"]
    assert (re.search(described["pattern"], time) is not None) == taken
    example = EXAMPLES[ExplainRequest]
    asked = {**example, "context": {**example["context"], "occurred_at": time}}
    with nullcontext() if taken else pytest.raises(msgspec.ValidationError):
        msgspec.convert(asked, ExplainRequest)


def test_what_any_request_may_be_answered_is_said_of_all(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            answers = operation["responses"]
            assert answers.keys() >= {"400", "405", "408", "413", "431", "501"}, path
            assert answers["408"]["content"] == answers["431"]["content"] == PROBLEM
            assert ("503" in answers) == (path != "/metrics"), path
            if "{" in path:
                assert "There is nothing here" in answers["404"]["description"]


def test_all_that_the_description_refers_to_is_in_it(document: dict[str, Any]) -> None:
    names = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert names == document["components"]["schemas"].keys()
    shown = page(document)
    assert set(re.findall(r'href="#(\w+)"', shown)) <= set(re.findall(r'id="([\w-]+)"', shown))
    assert 'any number of <a href="#Point">' in shown


def test_an_operation_that_is_not_guarded_asks_for_no_key(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert ("security" in operation) == path.startswith("/v1/")
            assert ("401" in operation["responses"]) == path.startswith("/v1/")
