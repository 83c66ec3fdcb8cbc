"""What the gateway's configuration says by itself; `tests/integration/test_gateway.py` runs it."""

import re
from pathlib import Path

import msgspec

from server.api_types import Problem
from server.guard import MOST_BODY_BYTES
from server.guarded_protocol import MOST_HEADER_BYTES
from server.problems import HEADERS, KINDS, TOO_LARGE

CONF = (Path(__file__).parents[3] / "infra/nginx/nginx.conf").read_text(encoding="utf-8")
PROBLEMS = [
    msgspec.json.decode(text, type=Problem) for text in re.findall(r"\w+ '(\{.*\})';", CONF)
]
KILO = 1024


def test_what_the_gateway_refuses_is_called_as_a_replica_calls_it() -> None:
    known = {(kind.type, kind.title, kind.status) for kind in KINDS}
    said = {(each.type, each.title, each.status) for each in PROBLEMS}
    assert {each for each in said if each[0] != "about:blank"} <= known
    assert len(said) == len(PROBLEMS) >= 7


def test_the_gateway_names_the_limits_that_replicas_have() -> None:
    details = {each.type: each.detail for each in PROBLEMS}
    assert details[TOO_LARGE.type] == f"at most {MOST_BODY_BYTES} bytes"
    assert details[HEADERS.type] == f"at most 8 KiB a line, {MOST_HEADER_BYTES} bytes in all"
    assert f"client_max_body_size {MOST_BODY_BYTES // KILO}k;" in CONF


def test_the_gateway_lets_all_headers_through_that_a_replica_takes() -> None:
    [(count, size)] = re.findall(r"large_client_header_buffers (\d+) (\d+)k;", CONF)
    # Two neighbours hold more than one could: what begins the second had no room in the first.
    assert int(count) // 2 * int(size) * KILO >= MOST_HEADER_BYTES


def test_a_question_for_the_replicas_addresses_that_got_lost_is_asked_again_in_time() -> None:
    asked_again_s = 5  # by nginx; not to be set
    [limit] = re.findall(r"resolver_timeout (\d+)s;", CONF)
    assert int(limit) > asked_again_s
