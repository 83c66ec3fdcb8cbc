"""The description of the API: whole, and true of what is answered."""

import re
from typing import Any

import pytest

from server.openapi import openapi, page

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


def test_what_any_request_may_be_answered_is_said_of_all(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            answers = operation["responses"]
            assert answers.keys() >= {"405", "408", "413", "431"}, path
            assert answers["431"]["content"] == PROBLEM
            assert "content" not in answers["408"]
            assert ("503" in answers) == (path not in {"/livez", "/metrics"}), path
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
