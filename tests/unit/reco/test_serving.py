"""A server as a process: what ends it."""

import threading
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from starlette.applications import Starlette

from reco.serving import ServerProcess
from server.guard import Gate
from server.http import HttpServer, NotServing
from shared.ports import BrokerUnavailable
from tests.unit.server.raw_http import QUICK


def served_by(http: HttpServer) -> Any:
    """A process that serves nothing but this."""
    http.start()
    process: Any = object.__new__(ServerProcess)
    process._options = SimpleNamespace(stream=False, lines_per_s=0, as_json=False)
    process._stop, process._http = threading.Event(), SimpleNamespace(server=http)
    process._ranked = process._freshness = None
    process._server, process._heartbeat = MagicMock(), MagicMock()
    return process


@pytest.fixture
def http() -> HttpServer:
    return HttpServer("127.0.0.1:0", Starlette(), Gate(), QUICK)


def test_serving_ends_when_the_api_has_ended(
    http: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reco.serving.Reporter", MagicMock())
    process = served_by(http)
    process._server.run_once.side_effect = lambda _: http.stop()
    with pytest.raises(NotServing):
        process._serve()
    process._server.leave.assert_called_once()


@pytest.mark.parametrize("left", [None, BrokerUnavailable("away")], ids=["left", "not left"])
def test_the_last_report_tells_what_the_api_answered_while_it_drained(
    http: HttpServer, monkeypatch: pytest.MonkeyPatch, left: Exception | None
) -> None:
    told: list[tuple[str, bool]] = []
    report = MagicMock()
    report.http_lines.side_effect = lambda: told.append(("lines", http.alive))
    report.tick.side_effect = lambda last=False: told.append(("last" if last else "", http.alive))
    monkeypatch.setattr("reco.serving.Reporter", lambda *_: report)
    process = served_by(http)
    process._server.run_once.side_effect = lambda _: process._stop.set()
    process._server.leave.side_effect = left
    with pytest.raises(BrokerUnavailable) if left else nullcontext():
        process._serve()
    http.stop()
    assert told[-2:] == [("lines", False), ("last", False)]
