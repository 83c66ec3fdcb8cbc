"""Real sockets: who offers another protocol is answered by this one, and its body is a body."""

import pytest

from server.guarded_protocol import MOST_HEADER_BYTES, MOST_WAITING
from server.http import HttpServer
from tests.unit.server.raw_http import (
    HEAD,
    SHORT,
    App,
    connected,
    connections,
    problem,
    reply_to,
    until_closed,
)
from tests.waiting import until

OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nuPgRaDe: h2c\r\nHTTP2-Settings: AAMA\r\n"
OFFERED = HEAD + OFFER + b"content-length: %d\r\n\r\n" % len(SHORT)
"""The head of one whose body is a request."""
CHUNKED = HEAD + OFFER + b"transfer-encoding: chunked\r\n\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SHORT), SHORT)
LAST = HEAD + b"connection: close\r\ncontent-length: 4\r\n\r\nlast"
GOOD = b"HTTP/1.1 200 OK\r\n"


def bodies(answers: bytes) -> list[bytes]:
    """Of answers that are all good."""
    nothing, *each = answers.split(GOOD)
    assert nothing == b""
    return [answer.partition(b"\r\n\r\n")[2] for answer in each]


@pytest.mark.parametrize("to", [b"h2c", b"websocket"])
@pytest.mark.parametrize("asked", [OFFERED + SHORT, CHUNKED + CHUNKS], ids=["sized", "chunked"])
def test_the_body_behind_an_offer_to_upgrade_is_no_request(
    patient: HttpServer, to: bytes, asked: bytes
) -> None:
    answers = reply_to(patient, asked.replace(b"h2c", to) + LAST)
    assert bodies(answers) == [SHORT, b"last"]


@pytest.mark.parametrize(
    ("head", "body"), [(OFFERED, SHORT), (CHUNKED, CHUNKS)], ids=["sized", "chunked"]
)
def test_a_body_that_comes_after_an_offer_to_upgrade_is_no_request(
    patient: HttpServer, head: bytes, body: bytes
) -> None:
    with connected(patient) as connection:
        connection.sendall(head)
        until(lambda: [bool(each.cycle) for each in connections(patient)] == [True], "asked")
        connection.sendall(body + LAST)
        assert bodies(until_closed(connection)) == [SHORT, b"last"]


@pytest.mark.parametrize("before", [b"Upgrade", b"gRaDe", b"h2c", b"2c", b"\n\r\n", b"\n"])
def test_an_offer_to_upgrade_may_come_in_pieces(patient: HttpServer, before: bytes) -> None:
    at = OFFERED.rindex(before)
    with connected(patient) as connection:
        connection.sendall(OFFERED[:at])
        until(lambda: [each._received for each in connections(patient)] == [at], "received")
        connection.sendall(OFFERED[at:] + SHORT + LAST)
        assert bodies(until_closed(connection)) == [SHORT, b"last"]


@pytest.mark.parametrize("end", [b"HTTP/1.0", b"HTTP/1.1\r\nConnection: close"])
def test_an_offer_to_upgrade_may_be_the_last_request_of_its_connection(
    patient: HttpServer, end: bytes
) -> None:
    asked = OFFERED.replace(b"HTTP/1.1", end)
    assert bodies(reply_to(patient, asked + SHORT + LAST)) == [SHORT]


def test_what_follows_an_offer_to_upgrade_without_a_body_is_the_next_request(
    patient: HttpServer, app: App
) -> None:
    app.go.set()
    asked = b"GET /wait HTTP/1.1\r\nhost: a\r\n" + OFFER + b"\r\n"
    answers = reply_to(patient, asked * (MOST_WAITING - 1) + LAST)
    assert bodies(answers) == [b"done"] * (MOST_WAITING - 1) + [b"last"]


def test_only_the_offer_is_withheld_of_what_was_sent_with_it(patient: HttpServer) -> None:
    asked = b"POST /names HTTP/1.1\r\nhost: a\r\nx-a: upgrade\r\n" + OFFER
    answers = reply_to(patient, asked + b"connection: close\r\ncontent-length: 0\r\n\r\n")
    assert bodies(answers) == [
        b"host x-a connection offered http2-settings connection content-length"
    ]


@pytest.mark.parametrize("offered", [b"upgrade: ", OFFER + b"upgrade: "])
def test_an_offer_to_upgrade_counts_as_header(patient: HttpServer, offered: bytes) -> None:
    asked = HEAD + offered + b"a" * MOST_HEADER_BYTES + b"\r\ncontent-length: 0\r\n\r\n"
    assert problem(reply_to(patient, asked)) == "headers-too-large"


def test_the_body_behind_an_offer_to_upgrade_has_to_come_in_time(server: HttpServer) -> None:
    assert problem(reply_to(server, OFFERED + SHORT[:-1])) == "slow"


@pytest.mark.parametrize("more", [b"", OFFER], ids=["alone", "and an offer"])
def test_nothing_that_is_sent_through_a_tunnel_is_a_request(
    patient: HttpServer, more: bytes
) -> None:
    asked = b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n" + more + b"\r\n"
    assert problem(reply_to(patient, asked + LAST)) == "unknown-method"
