import gzip
from typing import Any

import numpy as np
import pytest

from server.api import Settings
from server.guard import Limits
from server.openapi import EXAMPLES
from server.problems import KINDS
from shared.catalogue import DataSet
from shared.testing import FakeWindow
from tests.unit.server.api_bench import ARMS_ID, CONTEXT, RULES, Bench, MakeBench, problem


def test_a_slate_is_ranked_and_explained(bench: Bench, data: DataSet) -> None:
    answer = bench.rank(user_id=327)
    assert answer.status_code == 200
    body = answer.json()
    assert body.keys() == {"decision_id", "slate", "view", "stale"}
    assert (body["view"], body["stale"]) == ([3, 5], False)
    best = data.products[-1]
    assert [item["product_id"] for item in body["slate"]] == [*data.arms[:-6:-1]]
    assert body["slate"][0].keys() == {"product_id", "name", "score", "mean", "bonus"}
    assert body["slate"][0]["name"] == best.name
    assert body["slate"][0]["score"] == pytest.approx(
        body["slate"][0]["mean"] + body["slate"][0]["bonus"]
    )


def test_the_example_of_the_documentation_works(bench: Bench) -> None:
    example = next(iter(EXAMPLES.values()))
    assert bench.ask("POST", "/v1/rank", json=example).status_code == 200


def test_candidates_exclude_and_k_choose_what_is_ranked(bench: Bench, data: DataSet) -> None:
    def ranked(**request: Any) -> list[int]:
        return [item["product_id"] for item in bench.rank(**request).json()["slate"]]

    assert ranked(k=2) == data.arms[:-3:-1]
    assert ranked(candidates=[8, 42, 192], k=2) == [192, 42]
    assert ranked(candidates=[8], k=50) == [8]
    assert ranked(exclude=data.arms[-3:], k=1) == [data.arms[-4]]
    assert ranked(exclude=[], k=1) == [data.arms[-1]]


@pytest.mark.parametrize(
    ("asked", "candidates", "exclude"),
    [
        ({}, None, None),
        ({"candidates": [8, 42, 192]}, [8, 42, 192], None),
        ({"exclude": [42]}, None, [42]),
        ({"exclude": []}, None, None),
    ],
)
def test_the_record_says_what_the_slate_was_chosen_from(
    bench: Bench, asked: dict[str, Any], candidates: list[int] | None, exclude: list[int] | None
) -> None:
    answer = bench.rank(**asked).json()
    assert bench.click(answer["decision_id"], answer["slate"][0]["product_id"]).is_success
    [decision] = bench.decisions()
    assert decision.arms_id == ARMS_ID
    assert (decision.candidates, decision.exclude) == (candidates, exclude)


def test_requests_at_the_same_moment_are_each_answered_with_their_own(
    bench: Bench, data: DataSet
) -> None:
    requests = [
        ("POST", "/v1/rank", {"json": {"context": CONTEXT, "decision_id": f"d{i}", "k": i % 4 + 1}})
        for i in range(40)
    ]
    for i, answer in enumerate(bench.ask_all(requests)):
        body = answer.json()
        assert body["decision_id"] == f"d{i}"
        assert len(body["slate"]) == i % 4 + 1


def test_a_retried_request_gets_the_same_slate_and_another_request_a_conflict(
    bench: Bench,
) -> None:
    first = bench.rank(decision_id="d1")
    bench.view.model.solution.theta[0, 0] = 9.0  # learned meanwhile
    assert bench.rank(decision_id="d1").json() == first.json()
    assert problem(bench.rank(decision_id="d1", k=3)) == (409, "decision-id-reused")
    bench.window.now_ms += 30_000
    bench.sweep()
    assert len(bench.outcomes()) == 5


@pytest.mark.parametrize(
    "same",
    [{"exclude": []}, {"exclude": None}, {"candidates": None, "user_id": None}, {"k": 5}],
    ids=str,
)
def test_a_retry_may_leave_out_what_says_nothing(bench: Bench, same: dict[str, Any]) -> None:
    first = bench.rank(decision_id="d1", **same)
    assert first.status_code == 200
    assert bench.rank(decision_id="d1").json() == first.json()


def test_what_waited_longer_than_the_budget_is_turned_away(make: MakeBench) -> None:
    bench = make(budget_s=0.0)
    assert problem(bench.rank()) == (503, "window-unavailable")


def test_too_many_waiting_decisions_are_an_overload(make: MakeBench) -> None:
    bench = make(window=FakeWindow(RULES._replace(most_waiting=10)))
    answers = bench.ask_all([("POST", "/v1/rank", {"json": {"context": CONTEXT}})] * 11)
    [rejected] = [answer for answer in answers if answer.status_code != 200]
    assert problem(rejected) == (503, "overloaded")
    assert rejected.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"content": b"{"}, (400, "malformed")),
        ({"content": b"\xff\xfe"}, (400, "malformed")),
        ({"content": b"[" * 60_000}, (400, "malformed")),
        ({"content": b"{} x"}, (400, "malformed")),
        ({"content": b'{"context": 1, "k": "\xff"}'}, (400, "malformed")),
        ({"content": b'{"context": 1, "k": 1e999} '}, (422, "invalid")),
        ({"content": b""}, (400, "malformed")),
        ({"json": []}, (422, "invalid")),
        ({"json": {}}, (422, "invalid")),
        ({"json": {"context": CONTEXT, "k": 0}}, (422, "invalid")),
        ({"json": {"context": CONTEXT, "k": 51}}, (422, "invalid")),
        ({"json": {"context": CONTEXT, "K": 5}}, (422, "invalid")),
        ({"json": {"context": CONTEXT, "candidates": []}}, (422, "invalid")),
        ({"json": {"context": CONTEXT, "candidates": [10**6]}}, (422, "invalid")),
        ({"json": {"context": CONTEXT, "candidates": [1] * 1_001}}, (422, "invalid")),
        ({"json": {"context": CONTEXT, "candidates": [8], "exclude": [9]}}, (422, "invalid")),
        ({"json": {"context": CONTEXT, "exclude": [*range(1, 201)]}}, (422, "invalid")),
        ({"json": {"context": CONTEXT, "decision_id": "a/b"}}, (422, "invalid")),
        ({"json": {"context": CONTEXT, "decision_id": "a" * 65}}, (422, "invalid")),
        ({"json": {"context": CONTEXT, "decision_id": "a\n"}}, (422, "invalid")),
        ({"json": {"context": {**CONTEXT, "age": -1}}}, (422, "invalid")),
        ({"json": {"context": {**CONTEXT, "age": 10**400}}}, (422, "invalid")),
        ({"json": {"context": {**CONTEXT, "latitude": "north"}}}, (422, "invalid")),
        (
            {"json": {"context": {**CONTEXT, "occurred_at": "2026-01-26T07:29:00Z"}}},
            (422, "invalid"),
        ),
        (
            {"content": b'{"context": {"age": 1e999}}'},
            (422, "invalid"),
        ),
        ({"data": {"a": "b"}}, (415, "media-type")),
        ({"content": b"x" * 65_537}, (413, "too-large")),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(
    bench: Bench, how: dict[str, Any], expected: tuple[int, str]
) -> None:
    if "content" in how:
        how = {**how, "headers": {"content-type": "application/json"}}
    assert problem(bench.ask("POST", "/v1/rank", **how)) == expected


@pytest.mark.parametrize("body", [b"%b%b", b'{"context": 1, "k": %b%b}', b'{"more": %b%b}'])
def test_json_that_is_nested_too_deeply_is_not_called_something_else(
    bench: Bench, body: bytes
) -> None:
    content = body % (b"[" * 20_000, b"]" * 20_000)
    headers = {"content-type": "application/json"}
    answer = bench.ask("POST", "/v1/rank", content=content, headers=headers)
    assert problem(answer) == (400, "malformed")
    assert answer.json()["title"] == "The body can't be read as JSON"
    assert answer.json()["detail"] == "the body is nested too deeply"


@pytest.mark.parametrize("path", ["/v1/rank", "/v1/decisions/d1/click"])
@pytest.mark.parametrize("body", [b"{}", gzip.compress(b"{}", mtime=0)], ids=["plain", "gzip"])
def test_a_body_that_is_encoded_is_refused_and_told_so(
    bench: Bench, path: str, body: bytes
) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = bench.ask("POST", path, content=body, headers=headers)
    assert problem(answer) == (415, "media-type")
    assert "without Content-Encoding" in answer.json()["detail"]


def test_a_body_that_is_encoded_as_itself_is_taken(bench: Bench) -> None:
    asked = {"json": {"context": CONTEXT}, "headers": {"content-encoding": "Identity"}}
    assert bench.ask("POST", "/v1/rank", **asked).status_code == 200


@pytest.mark.parametrize("decision_id", [".", ".."])
def test_a_decision_id_that_a_path_would_lose_is_refused_and_told_so(
    bench: Bench, decision_id: str
) -> None:
    answer = bench.rank(decision_id=decision_id)
    assert problem(answer) == (422, "invalid")
    assert "`decision_id` can't be `.` or `..`" in answer.json()["detail"]


@pytest.mark.parametrize("decision_id", ["...", ".a", "-", "_", "a" * 64])
def test_a_decision_id_that_is_given_can_be_asked_for(bench: Bench, decision_id: str) -> None:
    assert bench.rank(decision_id=decision_id).json()["decision_id"] == decision_id
    found = bench.ask("GET", f"/v1/decisions/{decision_id}")
    assert found.json()["decision_id"] == decision_id


def test_a_body_without_a_length_is_counted(bench: Bench) -> None:
    async def endless() -> Any:
        for _ in range(20):
            yield b" " * 8_192

    headers = {"content-type": "application/json", "transfer-encoding": "chunked"}
    answer = bench.ask("POST", "/v1/rank", content=endless(), headers=headers)
    assert problem(answer) == (413, "too-large")


@pytest.mark.parametrize(
    ("length", "status"),
    [(b"9" * 5_000, 413), (b"65537", 413), (b"%05000d" % 2, 200), (b"0", 200)],
    ids=["5,000 nines", "64 KiB and 1", "zeros before 2", "0"],
)
def test_a_length_may_have_any_number_of_digits(bench: Bench, length: bytes, status: int) -> None:
    answer = bench.ask("GET", "/livez", headers={b"content-length": length})
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    if status != 200:
        assert problem(answer) == (413, "too-large")


def test_what_is_not_there_or_not_allowed_is_a_problem_too(bench: Bench) -> None:
    for method, path in (("GET", "/nowhere"), ("POST", "/v1/rank/"), ("GET", "/docs/")):
        assert problem(bench.ask(method, path)) == (404, "not-found")
    answer = bench.ask("GET", "/v1/rank")
    assert problem(answer) == (405, "method")
    assert answer.headers["allow"] == "POST"
    assert problem(bench.ask("GET", "/v1/decisions/%00")) == (404, "unknown-decision")
    for name in ("0", "x", "9" * 400, "-1"):
        assert problem(bench.ask("GET", f"/v1/arms/{name}")) == (404, "unknown-product")


def test_products_and_arms_can_be_looked_up(bench: Bench, data: DataSet) -> None:
    products = bench.ask("GET", "/v1/products").json()["products"]
    assert [product["product_id"] for product in products] == data.arms
    assert products[0].keys() == {"product_id", "name", "category", "price", "retired"}
    arm = bench.ask("GET", "/v1/arms/192").json()
    assert (arm["product_id"], arm["name"]) == (192, "Long Black")
    assert (arm["examinations"], arm["clicks"]) == (1, 0)
    assert len(arm["coefficients"]) == data.config.d
    age = arm["coefficients"][0]
    assert (age["feature"], age["deviation"]) == ("age", 1.0)
    assert 0.9 < age["theta"] < 1.0


def test_readiness_says_why_not(bench: Bench) -> None:
    assert bench.ask("GET", "/livez").json()["status"] == "alive"
    assert bench.ask("GET", "/readyz").status_code == 200
    bench.not_ready = ["the model is 99 s old"]
    answer = bench.ask("GET", "/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"status": "not ready", "reasons": ["the model is 99 s old"]}
    bench.not_ready.append("the broker at 10.0.0.7:9092 does not answer")
    assert bench.ask("GET", "/readyz").json()["reasons"][1] == "the broker does not answer"
    assert bench.rank().status_code == 200  # what still comes is served, from the last view
    bench.view.ready = False
    assert problem(bench.rank()) == (503, "not-ready")


def test_a_process_that_does_not_get_on_says_why(bench: Bench) -> None:
    assert bench.ask("GET", "/livez").json() == {"status": "alive", "reasons": []}
    bench.not_alive = ["the loop has not come round for 61 s"]
    answer = bench.ask("GET", "/livez")
    assert answer.status_code == 503
    assert answer.json() == {"status": "not alive", "reasons": bench.not_alive}
    assert bench.ask("GET", "/readyz").json() == {"status": "not ready", "reasons": bench.not_alive}


def test_a_server_that_leaves_says_so_and_still_answers(bench: Bench) -> None:
    bench.gate.draining = True
    answer = bench.rank()
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"
    assert bench.ask("GET", "/readyz").status_code == 503


def test_too_much_at_once_is_turned_away_instead_of_queued(make: MakeBench) -> None:
    bench = make(Settings(limits=Limits(in_flight=8)))
    requests = [("POST", "/v1/rank", {"json": {"context": CONTEXT}})] * 20
    answers = bench.ask_all(requests)
    rejected = [answer for answer in answers if answer.status_code == 503]
    assert len(rejected) == 12
    assert problem(rejected[0]) == (503, "overloaded")
    assert rejected[0].headers["retry-after"] == "1"
    assert bench.registry.get_sample_value(
        "reco_http_rejected_total", {"reason": "overload"}
    ) == len(rejected)


def test_every_reason_to_be_turned_away_is_explained(bench: Bench) -> None:
    [family] = [f for f in bench.registry.collect() if f.name == "reco_http_rejected"]
    assert len(family.samples) == len(bench.gate.rejected)
    assert all(reason in family.documentation for reason in bench.gate.rejected)


def test_with_keys_only_who_has_one_is_served(make: MakeBench) -> None:
    bench = make(Settings(keys=[b"first-key-of-the-shop", b"second-key-of-the-shop"]))
    body = {"context": CONTEXT}

    def asked(headers: dict[str, bytes]) -> Any:
        return bench.ask("POST", "/v1/rank", json=body, headers=headers)

    for header in ("", "Bearer", "Bearer wrong", "Basic first-key-of-the-shop", "Bearer ünknown"):
        answer = asked({"authorization": header.encode()} if header else {})
        assert problem(answer) == (401, "unauthorised")
        assert answer.headers["www-authenticate"] == "Bearer"
    for key in ("first-key-of-the-shop", "second-key-of-the-shop"):
        assert asked({"authorization": f"Bearer {key}".encode()}).status_code == 200
    for path in ("/livez", "/readyz", "/docs", "/openapi.json"):
        assert bench.ask("GET", path).status_code == 200


def test_answers_carry_security_headers(bench: Bench) -> None:
    for answer in (bench.rank(), bench.ask("GET", "/nowhere"), bench.ask("GET", "/docs")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers


def test_another_origin_may_call_only_where_that_is_said(make: MakeBench) -> None:
    headers = {"origin": "https://shop.example"}
    assert "access-control-allow-origin" not in make().ask("GET", "/livez", headers=headers).headers
    bench = make(Settings(origins=["https://shop.example"]))
    answer = bench.ask("GET", "/livez", headers=headers)
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    other = bench.ask("GET", "/livez", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


ORIGIN = "https://shop.example"


def preflight(bench: Bench, origin: str = ORIGIN) -> Any:
    """What a browser asks before it lets a page call."""
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    return bench.ask("OPTIONS", "/v1/rank", headers=headers)


def test_a_page_of_another_origin_may_ask_for_leave_without_its_key(make: MakeBench) -> None:
    bench = make(Settings(keys=[b"first-key-of-the-shop"], origins=[ORIGIN]))
    answer = preflight(bench)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    refused = preflight(bench, "https://evil.example")
    assert problem(refused) == (400, "cross-origin")
    assert "access-control-allow-origin" not in refused.headers
    assert bench.ask("OPTIONS", "/v1/rank", headers={"origin": ORIGIN}).status_code == 401


@pytest.mark.parametrize(
    ("limits", "status"), [(Limits(), 401), (Limits(body_bytes=1), 413), (Limits(in_flight=0), 503)]
)
def test_a_page_of_another_origin_is_told_why_it_is_refused(
    make: MakeBench, limits: Limits, status: int
) -> None:
    bench = make(Settings(limits=limits, keys=[b"first-key-of-the-shop"], origins=[ORIGIN]))
    answer = bench.ask("POST", "/v1/rank", json={}, headers={"origin": ORIGIN})
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-expose-headers"] == "Retry-After"


def test_a_fault_of_ours_shows_nothing_of_its_inside(bench: Bench) -> None:
    bench.view.model = bench.view.model._replace(arms=np.zeros(1, np.int64))
    answer = bench.rank()
    assert problem(answer) == (500, "failed")
    assert "index" not in answer.text
    assert answer.json()["detail"] == "the server's log says more"


def test_requests_are_measured_by_route_never_by_path(bench: Bench) -> None:
    bench.ask("GET", "/v1/arms/8")
    bench.ask("GET", "/v1/arms/9")
    bench.ask("GET", "/made/up/by/a/scanner")
    text = bench.ask("GET", "/metrics").text
    assert (
        'reco_http_requests_total{method="GET",route="/v1/arms/{product_id}",status="200"} 2.0'
        in (text)
    )
    assert "scanner" not in text


def test_every_problem_is_described_on_the_page(bench: Bench) -> None:
    page = bench.ask("GET", "/docs").text
    for kind in KINDS:
        assert f'id="{kind.name}"' in page
    assert "http://" not in page
    assert "https://" not in page
