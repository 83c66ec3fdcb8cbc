import logging
import socket
import struct
import threading
from collections.abc import Iterator

import httpx
import pytest

from shared.exporter import CannotListen, Exporter
from shared.health import Health
from shared.metrics import CONTENT_TYPE, ServerMetrics


class Service:
    def __init__(self) -> None:
        self.metrics = ServerMetrics()
        self.metrics.visits.read(lambda: 3)
        self.not_alive: list[str] = []
        self.not_ready: list[str] = []
        health = Health(lambda: self.not_alive, lambda: self.not_ready)
        self.exporter = Exporter("127.0.0.1", 0, self.metrics.registry, health)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.exporter.url.removeprefix("http://").split(":")
        return host, int(port)

    def get(self, path: str, method: str = "GET") -> httpx.Response:
        return httpx.request(method, self.exporter.url + path)


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.exporter.close()


def test_metrics_are_served_as_text(service: Service) -> None:
    response = service.get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == CONTENT_TYPE
    assert "\nreco_visits_total 3.0\n" in response.text


def test_ready_and_alive_are_answered_apart_and_with_reasons(service: Service) -> None:
    service.not_ready = ["the model is not whole yet"]
    assert service.get("/livez").status_code == 200
    response = service.get("/readyz")
    assert (response.status_code, response.json()["reasons"]) == (503, service.not_ready)
    service.not_ready, service.not_alive = [], ["stuck"]
    assert service.get("/readyz").status_code == 200
    assert service.get("/livez").status_code == 503


def test_anything_else_is_not_found_and_not_reflected(service: Service) -> None:
    response = service.get("/<script>")
    assert response.status_code == 404
    assert "script" not in response.text
    assert service.get("/metrics", "POST").status_code == 501


def test_a_head_request_gets_the_head_alone(service: Service) -> None:
    response = service.get("/readyz", "HEAD")
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["Content-Length"]) > 0


def test_a_visitor_that_says_nothing_holds_nobody_up(service: Service) -> None:
    with socket.create_connection(service.address):
        assert service.get("/livez").status_code == 200


def test_an_address_that_is_taken_is_named(service: Service) -> None:
    port = int(service.exporter.url.rpartition(":")[2])
    with pytest.raises(CannotListen, match=f"127.0.0.1:{port}"):
        Exporter("127.0.0.1", port, ServerMetrics().registry, Health(list, list))


@pytest.mark.parametrize("said", [b"", b"GET /met", b"GET /metrics HTTP/1.0\r\n\r\n"])
def test_a_visitor_that_hangs_up_is_no_error(
    service: Service, said: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(service.address) as visitor:
        visitor.sendall(said)
        # Closed with a reset, as many probes do.
        visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert service.get("/livez").status_code == 200  # whoever came first is being served
    answered()
    assert capfd.readouterr() == ("", "")


def test_what_fails_while_it_answers_is_logged(
    service: Service, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    service.metrics.clicks.read(lambda: 1 // 0)
    with pytest.raises(httpx.RemoteProtocolError):
        service.get("/metrics")
    answered()
    [record] = caplog.records
    assert (record.levelno, "ZeroDivisionError" in caplog.text) == (logging.ERROR, True)
    assert capfd.readouterr() == ("", "")
    assert service.get("/livez").status_code == 200


def answered() -> None:
    """Wait until no request is being answered any more."""
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join()
