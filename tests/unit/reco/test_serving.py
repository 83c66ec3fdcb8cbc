"""A server as a process: what ends it."""

import threading
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from starlette.applications import Starlette

from reco.serving import ServerProcess
from server.guard import Gate
from server.http import HttpServer, NotServing
from tests.unit.server.raw_http import QUICK


def test_serving_ends_when_the_api_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reco.serving.Reporter", MagicMock())
    http = HttpServer("127.0.0.1:0", Starlette(), Gate(), QUICK)
    http.start()
    process: Any = object.__new__(ServerProcess)
    process._options = SimpleNamespace(stream=False, lines_per_s=0, as_json=False)
    process._stop, process._http = threading.Event(), SimpleNamespace(server=http)
    process._ranked = process._freshness = None
    process._server, process._heartbeat = MagicMock(), MagicMock()
    process._server.run_once.side_effect = lambda _: http.stop()
    with pytest.raises(NotServing):
        process._serve()
    process._server.leave.assert_called_once()
