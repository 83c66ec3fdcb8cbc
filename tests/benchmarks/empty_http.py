"""The HTTP server as it is, around a handler that reads its request and does nothing.

Prints its address, and ends when its standard input closes.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.guard import Gate, Guard, Limits
from server.http import Deadlines, HttpServer
from shared.metrics import HttpMetrics


async def empty(request: Request) -> Response:
    """The least that a POST costs."""
    await request.body()
    return Response(b"{}", media_type="application/json")


@contextmanager
def empty_server() -> Iterator[str]:
    """The address of one, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.empty_http"]
    with subprocess.Popen(
        command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(30.0)


def main() -> None:
    """Serve."""
    gate = Gate()
    app = Starlette(routes=[Route("/v1/rank", empty, methods=["POST"])])
    guarded = Guard(app, gate, Limits(in_flight=1_000), (), HttpMetrics(), time.monotonic)
    server = HttpServer("127.0.0.1:0", guarded, gate, Deadlines(drain_s=0.0))
    server.start()
    print(server.url, flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
