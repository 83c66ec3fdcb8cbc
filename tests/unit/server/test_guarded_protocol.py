"""Real sockets: who comes slowly, sends too much, talks nonsense, or hangs up."""

import pytest

from server.guard import MOST_BODY_BYTES
from server.guarded_protocol import MOST_HEADER_BYTES, MOST_WAITING, MOST_WIRE_BYTES
from server.http import HttpServer
from tests.unit.server.raw_http import (
    HEAD,
    LARGE,
    PATIENT,
    QUICK,
    SHORT,
    WAIT,
    App,
    connected,
    connections,
    half_closed,
    problem,
    reply_to,
    serving,
    until_closed,
)
from tests.waiting import until


def test_a_request_in_time_is_answered_and_the_connection_kept(patient: HttpServer) -> None:
    with connected(patient) as connection:
        for _ in range(3):
            connection.sendall(SHORT)
            answer = connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.endswith(b"hi")


@pytest.mark.parametrize(
    "part",
    [
        b"",
        b"POST /echo HT",
        HEAD,
        HEAD + b"x-endless: a",
        HEAD + b"content-length: 10\r\n\r\nhalf",
        HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
def test_who_comes_slowly_is_sent_away(server: HttpServer, part: bytes) -> None:
    assert problem(reply_to(server, part)) == "slow"


def test_who_comes_slowly_on_a_kept_connection_is_sent_away_too(unhurried: HttpServer) -> None:
    with connected(unhurried) as connection:
        connection.sendall(SHORT)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"POST /ec")
        assert problem(until_closed(connection)) == "slow"


def test_who_was_answered_before_the_whole_body_came_is_answered_once(
    unhurried: HttpServer,
) -> None:
    half = b"POST /nowhere HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf"
    answer = reply_to(unhurried, half)
    assert answer.startswith(b"HTTP/1.1 404")
    assert answer.count(b"HTTP/1.1") == 1


def test_headers_that_are_too_large_are_refused(patient: HttpServer) -> None:
    large = b"x-large: " + b"a" * MOST_HEADER_BYTES + b"\r\n"
    path = b"GET /" + b"a" * MOST_HEADER_BYTES + b" HTTP/1.1\r\nhost: a\r\n\r\n"
    many = b"a: b\r\n" * (MOST_HEADER_BYTES // 6)
    end = b"content-length: 0\r\n\r\n"
    for parts in ([HEAD + large + end], [HEAD, large], [path], [HEAD + many + end], [HEAD, many]):
        assert problem(reply_to(patient, *parts)) == "headers-too-large"


CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"2\r\nhi\r\n0\r\n"
TOO_MANY = b"x-t: aaaa\r\n" * (MOST_HEADER_BYTES // 8)


@pytest.mark.parametrize(
    "parts",
    [
        [LAST_CHUNK + TOO_MANY + b"\r\n"],
        [LAST_CHUNK + TOO_MANY],
        [LAST_CHUNK, *[b"x-t: " + b"a" * 1_000 + b"\r\n"] * 20],
    ],
    ids=["whole", "without an end", "one by one"],
)
def test_trailers_that_are_too_large_are_refused_before_their_end(
    patient: HttpServer, parts: list[bytes]
) -> None:
    assert problem(reply_to(patient, HEAD + CHUNKED, *parts)) == "headers-too-large"


@pytest.mark.parametrize(
    "endless",
    [LAST_CHUNK + b"x-t: ", b"1;", b"1\r\na\r\n1;", b"1;b=" + b"c" * 200 + b"\r\na\r\n"],
    ids=["a trailer", "a first chunk's extension", "a next one's", "many chunks' extensions"],
)
def test_what_stands_around_chunks_is_bounded(patient: HttpServer, endless: bytes) -> None:
    more = endless if endless.endswith(b"\n") else b"a" * 1_000
    parts = [endless, *[more] * (2 * MOST_WIRE_BYTES // len(more) + 1_000)]
    assert problem(reply_to(patient, HEAD + CHUNKED, *parts)) == "too-large"


def test_a_body_of_the_smallest_chunks_is_taken(patient: HttpServer) -> None:
    body = b"1\r\na\r\n" * MOST_BODY_BYTES + b"0\r\nx-t: a\r\n\r\n"
    with connected(patient) as connection:
        connection.sendall(HEAD + b"connection: close\r\n" + CHUNKED + body)
        assert until_closed(connection).endswith(b"a" * MOST_BODY_BYTES)


def test_a_trailer_is_taken_for_no_header(patient: HttpServer) -> None:
    head = b"POST /names HTTP/1.1\r\nhost: a\r\nconnection: close\r\n" + CHUNKED
    answer = reply_to(patient, head + LAST_CHUNK + b"authorization: Bearer k\r\n\r\n")
    assert answer.endswith(b"host connection transfer-encoding")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"GET / HTTP/9.1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
def test_what_is_not_http_is_refused_and_the_server_lives(
    patient: HttpServer, nonsense: bytes
) -> None:
    assert problem(reply_to(patient, nonsense)) == "not-http"
    assert reply_to(patient, HEAD + b"content-length: 0\r\nconnection: close\r\n\r\n").startswith(
        b"HTTP/1.1 200"
    )


@pytest.mark.parametrize(
    "begin", [b"FOO /echo HTTP/1.1\r\n", b"DESCRIBE / HTTP/1.1\r\n", b"hello\r\n", b"\x16\x03\x01"]
)
def test_a_method_that_nobody_knows_is_called_that(patient: HttpServer, begin: bytes) -> None:
    assert problem(reply_to(patient, begin + b"host: a\r\n\r\n")) == "unknown-method"


@pytest.mark.parametrize("wanted", [b"GET /stream", b"HEAD /stream", b"GET /stream?more=1"])
@pytest.mark.parametrize("at_once", [True, False])
def test_who_hangs_up_is_noticed_whatever_was_sent_behind_and_is_no_failure(
    patient: HttpServer, app: App, wanted: bytes, at_once: bool
) -> None:
    request = wanted + b" HTTP/1.1\r\nhost: a\r\n\r\n"
    with connected(patient) as connection:
        connection.sendall(request + WAIT if at_once else request)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        if not at_once:
            connection.sendall(WAIT)
    assert app.left.wait(10.0)
    patient.stop()
    assert app.failures == []


@pytest.mark.parametrize("asked", [1, 2])
def test_who_has_asked_and_sends_no_more_is_answered(
    patient: HttpServer, app: App, asked: int
) -> None:
    with connected(patient) as connection:
        connection.sendall(WAIT * asked)
        assert app.entered.wait(10.0)
        half_closed(patient, connection)
        app.go.set()
        assert until_closed(connection).count(b"HTTP/1.1 200") == asked


@pytest.mark.parametrize(
    "part", [b"", HEAD, HEAD + b"content-length: 9\r\n\r\nhalf", HEAD + CHUNKED]
)
def test_who_sends_no_more_before_all_was_asked_is_hung_up_on(
    patient: HttpServer, part: bytes
) -> None:
    with connected(patient) as connection:
        connection.sendall(part)
        half_closed(patient, connection)
        assert until_closed(connection) == b""


def test_who_sends_no_more_gets_no_stream_without_an_end(app: App) -> None:
    deadlines = PATIENT._replace(request_s=3.0)
    with serving(app, deadlines) as server, connected(server) as connection:
        connection.sendall(WAIT + b"GET /stream HTTP/1.1\r\nhost: a\r\n\r\n")
        assert app.entered.wait(10.0)
        half_closed(server, connection)
        app.go.set()
        assert b"first" in until_closed(connection)
        assert app.left.wait(10.0)


def test_requests_that_wait_behind_another_are_answered(patient: HttpServer, app: App) -> None:
    with connected(patient) as connection:
        connection.sendall(WAIT)
        assert app.entered.wait(10.0)
        behind = [WAIT] * (MOST_WAITING - 1) + [b"GET /wait HTTP/1.0\r\n\r\n"]
        connection.sendall(b"".join(behind))
        app.go.set()
        assert until_closed(connection).count(b"HTTP/1.1 200") == 1 + MOST_WAITING


def test_not_any_number_of_requests_waits_behind_another(patient: HttpServer, app: App) -> None:
    with connected(patient) as connection:
        connection.sendall(WAIT)
        assert app.entered.wait(10.0)
        connection.sendall(WAIT * (10 * MOST_WAITING))
        assert problem(until_closed(connection)) == "overloaded"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (HEAD, "slow"),
        (b"GET / HTTP/9.1\r\n\r\n", "not HTTP"),
        (b"hello\r\n\r\n", "not HTTP"),
        (HEAD + b"x-large: " + b"a" * MOST_HEADER_BYTES + b"\r\n\r\n", "headers too large"),
        (HEAD + CHUNKED + b"1;" + b"a" * (2 * MOST_WIRE_BYTES), "too large"),
        (WAIT * (MOST_WAITING + 2), "overload"),
    ],
    ids=["slow", "version", "method", "headers", "body", "requests"],
)
def test_whoever_is_turned_away_is_counted_once(app: App, asked: bytes, reason: str) -> None:
    with serving(app, QUICK if reason == "slow" else PATIENT) as server:
        reply_to(server, asked)
        app.go.set()
        assert turned_away(server) == {reason: 1}


def test_too_many_connections_are_not_taken_and_counted(
    patient: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.guarded_protocol.MOST_CONNECTIONS", 1)
    with connected(patient) as first, connected(patient) as second:
        assert until_closed(second) == b""
        first.sendall(SHORT)
        assert first.recv(65_536).startswith(b"HTTP/1.1 200")
    assert turned_away(patient) == {"connections": 1}


def turned_away(server: HttpServer) -> dict[str, int]:
    """How many, by why."""
    return {reason: n for reason, n in server._gate.rejected.items() if n}


LARGE_ONE = b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n"
FLOOD = b"GET /flood HTTP/1.1\r\nhost: a\r\n\r\n"
UNREAD = PATIENT._replace(answer_s=0.3)


@pytest.mark.parametrize("asked", [LARGE_ONE * 3, FLOOD], ids=["one behind another", "a stream"])
def test_who_does_not_read_is_hung_up_on_and_no_handler_waits(app: App, asked: bytes) -> None:
    with serving(app, UNREAD) as server, connected(server) as connection:
        connection.sendall(asked)
        assert connection.recv(1) == b"H"
        until(lambda: not connections(server), "hung up on", 60.0)
        until(lambda: not server._server.server_state.tasks, "let go of", 60.0)
        assert app.failures == []
        assert turned_away(server) == {"unread": 1}


def test_who_does_not_read_the_last_of_an_answer_is_hung_up_on_too(app: App) -> None:
    """It is too little to make a handler wait, so nothing but the connection is held."""
    with serving(app, UNREAD) as server, connected(server) as connection:

        def unsent() -> int:
            return sum(each.transport.get_write_buffer_size() for each in connections(server))

        app.enough = lambda: unsent() > 0
        connection.sendall(FLOOD)
        assert app.left.wait(60.0)
        assert unsent() < 65_536
        until(lambda: not connections(server), "hung up on", 60.0)


def test_who_reads_an_answer_that_is_large_keeps_the_connection(app: App) -> None:
    deadlines = PATIENT._replace(answer_s=3.0)
    with serving(app, deadlines) as server, connected(server) as one, connected(server) as another:
        one.sendall(LARGE_ONE)
        left = LARGE
        while left > 0:
            part = one.recv(1_048_576)
            assert part, "it was hung up on"
            left -= len(part)
        another.sendall(LARGE_ONE)
        assert another.recv(1) == b"H"
        until(lambda: len(connections(server)) == 1, "the other hung up on", 60.0)
        one.sendall(HEAD + b"content-length: 0\r\nconnection: close\r\n\r\n")
        assert b"HTTP/1.1 200" in until_closed(one)
