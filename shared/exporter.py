"""A small HTTP server beside a service: `/metrics`, `/livez`, `/readyz`."""

import logging
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from typing import Final

from prometheus_client.registry import CollectorRegistry

from shared.health import Health, answer
from shared.metrics import CONTENT_TYPE, exposition

_REQUEST_TIMEOUT_S: Final = 5.0
_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"

_log = logging.getLogger(__name__)


class CannotListen(OSError):
    """The address is taken, or not ours."""


class Exporter:
    """Answers from threads of its own, so a scrape never waits for the service, nor it for one.

    Args:
        host: where to listen.
        port: where to listen; 0 for any that is free.
        registry: what `/metrics` shows.
        health: what `/livez` and `/readyz` ask.

    Raises:
        CannotListen: the address is taken, or not ours.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, health: Health) -> None:
        server = _Server6 if ":" in host else _Server
        try:
            self._server = server((host, port), _Handler)
        except OSError as error:
            raise CannotListen(f"can't listen on {host}:{port}: {error.strerror}") from error
        self._server.registry = registry
        self._server.health = health
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="exporter", daemon=True
        )
        self._thread.start()
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a scraper that hangs must not keep the service from ending
    registry: CollectorRegistry
    health: Health

    def handle_error(self, request: object, client_address: object) -> None:
        """Into the log, not beside it; a visitor who hangs up, as probes do, is no error."""
        if isinstance(sys.exception(), ConnectionError | TimeoutError):
            _log.debug("%s has hung up", client_address, exc_info=True)
        else:
            _log.exception("a request of %s has no answer", client_address)


class _Server6(_Server):
    address_family = AF_INET6


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_TIMEOUT_S

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._send(200, CONTENT_TYPE, exposition(self.server.registry))
        elif path == "/livez":
            status, body = answer(self.server.health.not_alive())
            self._send(status, _JSON, body)
        elif path == "/readyz":
            status, body = answer(self.server.health.not_ready())
            self._send(status, _JSON, body)
        else:
            self._send(404, _TEXT, b"there are /metrics, /livez and /readyz\n")

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object, **__: object) -> None:
        """Say nothing of each scrape."""

    def version_string(self) -> str:
        """Say nothing of what software this is."""
        return "livereco"

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
