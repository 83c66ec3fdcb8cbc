"""The gateway (infra/nginx) before replicas that do as they are told."""

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httpx
import msgspec
import pytest
import yaml

from infra.free_ports import free_port
from server.api_types import Problem
from server.guard import NO_CONTENT_POLICY, SECURITY_HEADERS
from server.problems import HEADERS, METHOD, NO_HTTP, NO_SUCH_PAGE, TOO_LARGE
from tests.integration.compose import ROOT, docker, require_compose
from tests.waiting import until

pytestmark = [pytest.mark.xdist_group("compose"), pytest.mark.timeout(900)]

NAME: Final = f"reco-gateway-{os.getpid()}"
PYTHON: Final = os.environ.get("PYTHON_IMAGE", "python:3.13-slim")
NGINX: Final = os.environ.get("NGINX_IMAGE", "nginx:1.28-alpine")

REPLICA: Final = """
import http.server, os, socket, threading
release = threading.Event()

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = 0

    def do_GET(self):
        if self.path == "/die":
            os._exit(1)
        if self.path == "/v1/live":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"data: first\\n\\n")
            release.wait()
            self.wfile.write(b"data: second\\n\\n")
            self.close_connection = True
            return
        if self.path == "/release":
            release.set()
        self.answer(f"{socket.gethostname()} {Handler.seen}")

    def do_POST(self):
        Handler.seen += 1
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/die/" + socket.gethostname():
            os._exit(1)
        busy = self.path == "/busy/" + socket.gethostname()
        self.answer(socket.gethostname(), 503 if busy else 200)

    def answer(self, text, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"""
DEAF: Final = "import threading; threading.Event().wait()"

_numbers = itertools.count()


@pytest.fixture(scope="module")
def gateway() -> Iterator[httpx.Client]:
    """nginx as compose runs it; replicas join its network under the name `server`."""
    require_compose()
    port = free_port()
    docker("network", "create", NAME)
    try:
        docker(
            *("run", "--detach", "--name", NAME, "--network", NAME, "--read-only"),
            *("--user", "101:101", "--cap-drop", "ALL", "--tmpfs", "/tmp:mode=1777"),
            *("--publish", f"127.0.0.1:{port}:8080"),
            *("--volume", f"{ROOT}/infra/nginx/nginx.conf:/etc/nginx/nginx.conf:ro"),
            *(NGINX, "nginx", "-g", "daemon off;"),
        )
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30.0) as client:
            until(lambda: answers(client), "an answer of the gateway")
            yield client
    finally:
        docker("rm", "--force", "--volumes", NAME, check=False)
        docker("network", "rm", NAME, check=False)


def answers(client: httpx.Client) -> bool:
    try:
        client.get("/")
    except httpx.TransportError:
        return False
    return True


@contextmanager
def replicas(gateway: httpx.Client, *programs: str) -> Iterator[list[str]]:
    """So many replicas, by their host names, once those that serve are known to the gateway."""
    names = [f"{NAME}-{next(_numbers)}" for _ in programs]
    serving = {n for n, program in zip(names, programs, strict=True) if program == REPLICA}
    try:
        for name, program in zip(names, programs, strict=True):
            docker(
                *("run", "--detach", "--name", name, "--hostname", name, "--network", NAME),
                *("--network-alias", "server", PYTHON, "python", "-c", program),
            )
        met: set[str] = set()

        def all_met() -> bool:
            answer = gateway.get("/who")
            if answer.status_code == 200:
                met.add(answer.text.split()[0])
            return met == serving

        until(all_met, f"answers of all of {serving}")
        yield names
    finally:
        docker("rm", "--force", *names, check=False)


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and title of a problem, checked for its form and its headers."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert {(k.lower().encode(), v.encode()) for k, v in answer.headers.items()} >= {
        *SECURITY_HEADERS,
        NO_CONTENT_POLICY,
    }
    found = msgspec.json.decode(answer.content, type=Problem)
    assert found.status == answer.status_code
    return found.status, found.title


def test_one_address_serves_all_replicas(gateway: httpx.Client) -> None:
    with replicas(gateway, REPLICA, REPLICA, REPLICA) as names:
        served = {gateway.post("/v1/rank", content=b"{}").text for _ in range(60)}
    assert served == set(names)


def test_a_replica_that_does_not_listen_costs_no_request(gateway: httpx.Client) -> None:
    with replicas(gateway, REPLICA, DEAF) as [name, _]:
        for _ in range(20):
            answer = gateway.post("/v1/rank", content=b"{}")
            assert (answer.status_code, answer.text) == (200, name)


def test_several_replicas_that_are_still_starting_fail_no_request(gateway: httpx.Client) -> None:
    with replicas(gateway, REPLICA, DEAF, DEAF, DEAF, DEAF) as names:
        for _ in range(20):
            answer = gateway.post("/v1/rank", content=b"{}")
            assert (answer.status_code, answer.text) == (200, names[0])


def test_replicas_come_and_go_without_a_failed_request(gateway: httpx.Client) -> None:
    with replicas(gateway, REPLICA, REPLICA, REPLICA) as names:
        codes = []
        for name in names[1:]:
            docker("kill", name)
            codes += [gateway.post("/v1/rank", content=b"{}").status_code for _ in range(10)]
        docker("start", names[1])
        until(lambda: gateway.get("/who").text.startswith(names[1]), "the replica that came back")
        codes += [gateway.post("/v1/rank", content=b"{}").status_code for _ in range(10)]
    assert set(codes) == {200}


def test_what_a_dying_replica_had_been_sent_goes_to_another(gateway: httpx.Client) -> None:
    with replicas(gateway, REPLICA, REPLICA) as [doomed, other]:
        while running(doomed):
            answer = gateway.post(f"/die/{doomed}", content=b"{}")
            assert (answer.status_code, answer.text) == (200, other)


def test_a_replica_that_can_not_serve_yet_costs_no_request(gateway: httpx.Client) -> None:
    with replicas(gateway, REPLICA, REPLICA) as [busy, other]:
        answers = [gateway.post(f"/busy/{busy}", content=b"{}") for _ in range(20)]
        assert {(answer.status_code, answer.text) for answer in answers} == {(200, other)}
        asked: dict[str, int] = {}
        while len(asked) < 2:
            name, _, seen = gateway.get("/who").text.partition(" ")
            asked[name] = int(seen)
        assert asked[busy] > 0


def test_where_nobody_answers_it_says_so(gateway: httpx.Client) -> None:
    with replicas(gateway, REPLICA) as [name]:
        docker("kill", name)
        answer = gateway.post("/v1/rank", content=b"{}")
    assert problem(answer) == (503, "No replica answers")
    assert answer.headers["Retry-After"] == "1"


def test_without_a_replica_the_gateway_itself_is_healthy(gateway: httpx.Client) -> None:
    assert problem(gateway.get("/readyz")) == (503, "No replica answers")
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    kind, check = compose["services"]["gateway"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    docker("exec", NAME, "sh", "-c", check)


def test_events_pass_one_by_one(gateway: httpx.Client) -> None:
    with (
        replicas(gateway, REPLICA),
        gateway.stream("GET", "/v1/live") as live,
    ):
        lines = (line for line in live.iter_lines() if line)
        assert next(lines) == "data: first"
        gateway.get("/release")  # only now the replica goes on: nothing was held back
        assert next(lines) == "data: second"


def test_what_is_for_inside_or_too_large_stops_here(gateway: httpx.Client) -> None:
    with replicas(gateway, REPLICA):
        for answer, kind in (
            (gateway.get("/metrics"), NO_SUCH_PAGE),
            (gateway.get("/problem"), NO_SUCH_PAGE),
            (gateway.post("/v1/rank", content=b"x" * 65_537), TOO_LARGE),
            (gateway.get("/", headers={"X-Long": "x" * 40_000}), HEADERS),
            (gateway.get("/" + "x" * 10_000), HEADERS),
            (gateway.request("TRACE", "/"), METHOD),
            (gateway.get("/", headers={"Host": "a b"}), NO_HTTP),
        ):
            assert problem(answer) == (kind.status, kind.title)
            assert answer.json()["type"] == kind.type
            assert "Retry-After" not in answer.headers


def running(name: str) -> bool:
    state = ["docker", "inspect", "--format", "{{.State.Running}}", name]
    return subprocess.run(state, capture_output=True, text=True).stdout.strip() == "true"
