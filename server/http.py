"""The HTTP server: uvicorn on a thread of its own, with deadlines and limits that it lacks."""

import logging
import threading
import time
from typing import Final, NamedTuple

import uvicorn
from starlette.types import ASGIApp

from server.guard import Gate
from server.guarded_protocol import ANSWER_S, REQUEST_S, protocol_with
from server.listener import let_no_more_in, listening

KEEP_ALIVE_S: Final = 75
DRAIN_S: Final = 1.0
STOP_S: Final = 10.0


_log = logging.getLogger(__name__)
_of_clients = logging.getLogger("uvicorn.error")


class NotServing(Exception):
    """The HTTP server did not come up, or has ended without being told to."""


class Deadlines(NamedTuple):
    """How long a client may take."""

    request_s: float = REQUEST_S
    answer_s: float = ANSWER_S
    drain_s: float = DRAIN_S
    stop_s: float = STOP_S


class HttpServer:
    """Serves an app until it is stopped.

    Args:
        address: `HOST:PORT`; port 0 for a free one.
        app: what is served.
        gate: shared with the app's guard.
        deadlines: how long things may take.

    Raises:
        BadAddress: it is not `HOST:PORT`, or is taken.
    """

    def __init__(self, address: str, app: ASGIApp, gate: Gate, deadlines: Deadlines) -> None:
        self._gate = gate
        self._deadlines = deadlines
        self._socket = listening(address)
        host, port = self._socket.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        """Where it listens."""
        config = uvicorn.Config(
            app,
            http=protocol_with(gate, deadlines.request_s, deadlines.answer_s),
            ws="none",
            lifespan="on",  # else an app that does not start is served all the same
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(deadlines.stop_s),
            backlog=1_024,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether it serves."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Serve from now on, until `stop`.

        Raises:
            NotServing: it did not come up; the log says why.
        """
        _of_clients.setLevel(logging.ERROR)
        self._thread.start()
        deadline_s = time.monotonic() + self._deadlines.stop_s
        while not self._server.started and self.alive and time.monotonic() < deadline_s:
            time.sleep(0.005)
        if not self._server.started:
            raise NotServing(f"the HTTP API at {self.url} did not start")
        _of_clients.setLevel(logging.CRITICAL)  # clients' faults, mostly

    def check(self) -> None:
        """Whether it serves as it should, once it was started and until it is stopped.

        Raises:
            NotServing: it has ended; the log says why.
        """
        if not self.alive:
            raise NotServing(f"the HTTP API at {self.url} has ended")

    def stop(self) -> None:
        """Drain, then end: what was asked is answered, and no new connection is taken.

        While draining the server still answers, says on `/readyz` that it leaves, and asks every
        client to connect anew: elsewhere, once the gateway has noticed. Who connects until the end
        is served as well (`server.listener`).
        """
        self._gate.draining = True
        if self.alive:
            time.sleep(self._deadlines.drain_s)
            let_no_more_in(self._socket, self._deadlines.stop_s)
        self._server.should_exit = True
        if self._thread.ident is not None:  # it may have been stopped before it was to serve
            self._thread.join(self._deadlines.stop_s + 2.0)
        self._socket.close()

    def _serve(self) -> None:
        try:
            self._server.run([self._socket])
        except SystemExit:  # it did not start, and has said why
            pass
        except Exception:
            _log.exception("the HTTP server ended")
