"""Which pages of other origins may call: starlette's CORS, with a problem where it says no."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from server.problems import CROSS_ORIGIN, Trouble


class Cors(CORSMiddleware):
    """ASGI middleware.

    Args:
        app: answers all but preflights.
        origins: whose pages may call.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
            expose_headers=["Retry-After"],
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """What the browser asks before it lets a page call."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        headers = {k: v for k, v in answer.headers.items() if not k.startswith("content-")}
        return Trouble(CROSS_ORIGIN, bytes(answer.body).decode()).response(headers)
