"""The live page over HTTP: the page itself, its stream of events, and the questions it asks."""

import asyncio
import base64
import hashlib
import logging
import re
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from server.api_types import ExplainRequest, ProductId, RankContext
from server.endpoint import announced, decoded
from server.guard import MOST_BODY_BYTES
from server.live_feed import LiveFeed
from server.problems import (
    INVALID,
    OVERLOADED,
    TOO_LARGE,
    UNKNOWN_PRODUCT,
    Trouble,
    check_loaded,
)
from shared.features import NotFinite

EVERY_S: Final = 0.25
WORD_S: Final = 2.0
"""A page hears something at least this often, or could not tell quiet from a server that hangs."""
MOST_CLIENTS: Final = 64
QUEUED: Final = 8
"""Messages that wait for a client: one that is further behind is let go."""
RETRY_AFTER_S: Final = 5

_log = logging.getLogger(__name__)

_EVENTS: Final = "text/event-stream"
_CLOSE: Final = {"Connection": "close"}
"""So that nothing is awaited behind the request: the protocol sees at once who hangs up."""


def live_routes(
    feed: LiveFeed, loaded: Callable[[], bool], stopping: Callable[[], bool] = lambda: False
) -> list[Route]:
    """`/`, `/v1/live`, `/v1/explain` and `/v1/learning/{product_id}`.

    Args:
        feed: what there is to show.
        loaded: whether there is a whole model to answer questions by.
        stopping: true once the process is to end, so that open streams do not hold it up.
    """
    live = _Live(feed, loaded, Hub(feed, stopping))
    return [
        Route("/", live.page),
        Route("/v1/live", live.stream),
        Route("/v1/explain", live.explain, methods=["POST"]),
        Route("/v1/learning/{product_id}", live.learning),
    ]


class _Live:
    def __init__(self, feed: LiveFeed, loaded: Callable[[], bool], hub: "Hub") -> None:
        self._feed = feed
        self._loaded = loaded
        self._hub = hub
        self._page = resources.files("server").joinpath("dashboard/index.html").read_bytes()
        self._page_headers = {"Content-Security-Policy": policy_of(self._page.decode())}

    async def page(self, _: Request) -> Response:
        return Response(self._page, media_type="text/html", headers=self._page_headers)

    async def stream(self, request: Request) -> ASGIApp:
        if request.method == "HEAD" and not self._hub.full:
            answer = Response(media_type=_EVENTS)
            del answer.headers["Content-Length"]  # that of no stream
            return answer
        return self._streamed

    async def _streamed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Server-sent events to one client. It has a place from here on, until it has left.

        One that does not read them is hung up on by the protocol.
        """
        with self._hub.place() as events:
            answer = (
                Trouble(OVERLOADED, "too many pages are open", RETRY_AFTER_S).response()
                if events is None
                else StreamingResponse(events, media_type=_EVENTS, headers=_CLOSE)
            )
            await answer(scope, receive, send)

    async def explain(self, request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return Trouble(TOO_LARGE, f"at most {MOST_BODY_BYTES} bytes").response()
        try:
            asked = decoded(announced(request.scope["headers"]), body, _decode_question)
            check_loaded(self._loaded())
        except Trouble as trouble:
            return trouble.response()
        return _json(self._feed.explain(asked.context, asked.k))

    async def learning(self, request: Request) -> Response:
        try:
            check_loaded(self._loaded())
            context = msgspec.convert(dict(request.query_params), RankContext, strict=False)
            arm = msgspec.convert(request.path_params["product_id"], ProductId, strict=False)
            return _json(self._feed.learning(arm, context))
        except Trouble as trouble:
            return trouble.response()
        except KeyError:
            return Trouble(UNKNOWN_PRODUCT, "there is no product of this id").response()
        except (msgspec.ValidationError, NotFinite) as error:
            return Trouble(INVALID, str(error)).response()


def policy_of(page: str) -> str:
    """The content security policy: this script and this style, this server, and nothing else."""
    [script] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    [style] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


class Hub:
    """One message for all clients, four times a second at the most, every two seconds at least.

    Only the loop's own thread may touch it.
    """

    def __init__(
        self,
        feed: LiveFeed,
        stopping: Callable[[], bool],
        every_s: float = EVERY_S,
        word_s: float = WORD_S,
    ) -> None:
        self._feed = feed
        self._stopping = stopping
        self._every_s = every_s
        self._word_s = word_s
        self._places = 0
        """Those that are taken. A client that is too slow has its own until it is gone."""
        self._clients: set[asyncio.Queue[bytes | None]] = set()
        self._beat: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """Whether no further client is taken."""
        return self._places >= MOST_CLIENTS

    @contextmanager
    def place(self) -> Iterator[AsyncGenerator[bytes] | None]:
        """The stream of one client, which has its place for the length of the block.

        The stream ends when the client is too slow, or the process stops. None if there is no
        place left.
        """
        if self.full:
            yield None
            return
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUED)
        self._places += 1
        self._clients.add(queue)
        if self._beat is None or self._beat.done():
            self._beat = asyncio.create_task(self._broadcast())
        try:
            yield self._events(queue)
        finally:
            self._places -= 1
            self._clients.discard(queue)

    async def _events(self, queue: "asyncio.Queue[bytes | None]") -> AsyncGenerator[bytes]:
        yield _event(self._feed.first())
        while (message := await queue.get()) is not None:
            yield message

    async def _broadcast(self) -> None:
        after = sampled = 0
        now_s = asyncio.get_running_loop().time
        said_s = now_s()
        try:
            while self._clients and not self._stopping():
                message, after, sampled = self._feed.next(after, sampled)
                if message is None and now_s() - said_s >= self._word_s:
                    message = self._feed.word()
                if message is not None:
                    said_s = now_s()
                    self._give(_event(message))
                await asyncio.sleep(self._every_s)
        except Exception:  # pages whose stream ends say so, and try again
            _log.exception("the live page has no more to show")
        finally:
            for queue in self._clients:
                _end(queue)

    def _give(self, event: bytes) -> None:
        for queue in list(self._clients):
            if queue.full():
                self._clients.discard(queue)
                _end(queue)
            else:
                queue.put_nowait(event)


def _end(queue: "asyncio.Queue[bytes | None]") -> None:
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


async def _body(request: Request) -> bytes | None:
    """The body, or None if it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY_BYTES:
            return None
    return bytes(body)


_decode_question = msgspec.json.Decoder(ExplainRequest).decode
