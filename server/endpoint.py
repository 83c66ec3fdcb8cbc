"""JSON in, JSON out, as plain ASGI: what is asked most goes without a framework's layers."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from server.problems import FAILED, INVALID, MALFORMED, MEDIA, Trouble
from shared.events import UNDECODABLE

JSON: Final = "application/json"

RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Names in lower case."""

HUNG_UP: Final = "hung_up"
"""In the state of an ASGI scope once its client has closed the connection without an answer, as the
protocol notes (`server.guarded_protocol`): to wait for that would take a task a request."""

_Body = TypeVar("_Body")
_log = logging.getLogger(__name__)


class JsonEndpoint(Generic[_Body]):
    """An ASGI app that answers 200, or with a problem.

    Args:
        decode: the body of a request.
        handle: its answer, encoded, by body and scope; may raise `Trouble`.
    """

    def __init__(
        self,
        decode: Callable[[bytes], _Body],
        handle: Callable[[_Body, Scope], Awaitable[bytes]],
    ) -> None:
        self._decode = decode
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        try:
            content_type = announced(scope["headers"])
            wanted = decoded(content_type, await _body(receive), self._decode)
            content = await self._handle(wanted, scope)
        except Exception as error:
            await refusal(error)(scope, receive, send)
            return
        headers = [(b"content-length", b"%d" % len(content)), _IS_JSON]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


class Shortcut:
    """ASGI middleware: hands one route its requests without asking the router.

    Args:
        app: gets all others.
        route: of one path without parameters.
        endpoint: what that route leads to.
    """

    def __init__(self, app: ASGIApp, route: Route, endpoint: ASGIApp) -> None:
        self._app = app
        self._route = route
        self._endpoint = endpoint
        self._methods = route.methods or set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if (
            scope["type"] == "http"
            and scope["path"] == self._route.path
            and scope["method"] in self._methods
        ):
            scope["route"] = self._route  # as the router says it
            await self._endpoint(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def hung_up(scope: Scope) -> Callable[[], bool]:
    """Tells, whenever it is asked, whether the client has closed the connection.

    One that sends no more may still read. But who gives up does the same, gateways included.
    """
    state = scope.get("state", {})
    return lambda: HUNG_UP in state


def announced(headers: RawHeaders) -> str:
    """The media type of a body.

    Raises:
        Trouble: it is encoded.
    """
    content_type = ""
    for name, value in headers:
        if name == b"content-type":
            content_type = value.decode("latin-1")
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            raise Trouble(MEDIA, "send the body as it is, without Content-Encoding")
    return content_type


def decoded(content_type: str, body: bytes, decode: Callable[[bytes], _Body]) -> _Body:
    """The body of a request.

    Raises:
        Trouble: it is not what the description says.
    """
    if content_type != JSON and content_type.partition(";")[0].strip().lower() != JSON:
        raise Trouble(MEDIA, "the body has to be announced as application/json")
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        _check_json(body)  # the schema's fault is met first, though the rest be rubbish
        raise Trouble(INVALID, str(error)) from error
    except UNDECODABLE as error:
        raise _malformed(error) from error


def refusal(error: Exception) -> Response:
    """The answer to a request that ended with this."""
    if isinstance(error, Trouble):
        return error.response()
    if isinstance(error, ClientDisconnect):  # nobody is there to read it
        return Response(status_code=400)
    _log.error("a request failed: %r", error)
    return Trouble(FAILED, "the server's log says more").response()


def _check_json(body: bytes) -> None:
    try:
        body.decode()
        msgspec.json.decode(body, type=msgspec.Raw)
    except UNDECODABLE as error:
        raise _malformed(error) from error


def _malformed(error: Exception) -> Trouble:
    if isinstance(error, RecursionError):  # it may well be JSON
        return Trouble(MALFORMED, "the body is nested too deeply")
    return Trouble(MALFORMED, "the body is not a JSON document in UTF-8")


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message["type"] == "http.request" and message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return body


_IS_JSON: Final = (b"content-type", JSON.encode())
