"""The HTTP API as a Starlette app: decode, ask, answer. Made by a factory; nothing is global."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Scope

from server.answers import Answers
from server.api_types import ClickRequest, HealthResponse, RankRequest
from server.cors import Cors
from server.endpoint import (
    JSON,
    JsonEndpoint,
    Shortcut,
    announced,
    decoded,
    hung_up,
    refusal,
)
from server.guard import Gate, Guard, Limits
from server.http_traces import HttpTraces
from server.openapi import PAGE_POLICY, openapi, page
from server.operations import OPERATIONS
from server.problems import (
    ALREADY_CLICKED,
    LATE,
    METHOD,
    NO_STORE,
    NO_SUCH_PAGE,
    NOT_ON_SLATE,
    RETRY_AFTER_S,
    UNCONFIRMED,
    UNKNOWN_DECISION,
    UNKNOWN_PRODUCT,
    UNREADABLE,
    Kind,
    Trouble,
    check_loaded,
)
from server.rank_service import RankService
from server.readiness import api_not_ready, without_addresses
from server.resolver import Resolver
from server.view import Viewing
from shared.metrics import CONTENT_TYPE, HttpMetrics, exposition
from shared.ports import BrokerUnavailable, CorruptState, StoreUnavailable
from shared.reward_window import Answer, Click, RewardWindow

CLICK_BUDGET_S: Final = 3.0
"""How long a click may wait for the store and Kafka."""

_log = logging.getLogger(__name__)

_DECISION_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

_REFUSALS: Final[dict[Answer, tuple[Kind, str]]] = {
    Answer.OTHER: (ALREADY_CLICKED, "this decision was resolved by a click on another product"),
    Answer.LATE: (LATE, "the reward window ended before the click came"),
    Answer.UNKNOWN: (UNKNOWN_DECISION, "there is no decision of this id, or no longer"),
    Answer.NOT_ON_SLATE: (NOT_ON_SLATE, "this decision did not show the product"),
    Answer.UNREADABLE: (UNREADABLE, "this decision is damaged"),
}


class Parts(NamedTuple):
    """What the API is made of."""

    ranks: RankService
    resolver: Resolver
    window: RewardWindow
    view: Viewing
    answers: Answers
    loaded: Callable[[], bool]
    """Whether there is a whole model to rank with."""
    not_ready: Callable[[], Sequence[str]]
    """Why its model should not be ranked by now; nothing if it should."""
    not_alive: Callable[[], Sequence[str]]
    """Why it has to be started anew; nothing if it gets on."""
    gate: Gate
    metrics: HttpMetrics
    clock: Callable[[], float]
    traces: HttpTraces = HttpTraces()


class Settings(NamedTuple):
    """How the API is offered."""

    version: str = "0"
    limits: Limits = Limits()
    keys: Sequence[bytes] = ()
    origins: Sequence[str] = ()
    """Web pages of these origins may call it (CORS); none by default."""


def create_app(parts: Parts, settings: Settings, extra_routes: Sequence[BaseRoute] = ()) -> ASGIApp:
    """The API, to be run by one server.

    Args:
        parts: what it is made of; its background work begins and ends with the app.
        settings: limits, keys and origins.
        extra_routes: what else is served beside it; behind the same guard.
    """
    api = Api(parts, settings)
    handlers: dict[str, Callable[..., Any]] = {
        operation.name: getattr(api, operation.name) for operation in OPERATIONS
    }
    operations = {o.name: Route(o.path, handlers[o.name], methods=[o.method]) for o in OPERATIONS}
    routes = [
        *operations.values(),
        Route("/metrics", api.metrics),
        Route("/openapi.json", api.openapi),
        Route("/docs", api.docs),
    ]
    starlette = Starlette(
        routes=[*routes, *extra_routes],
        lifespan=api.lifespan,
        exception_handlers={
            HTTPException: api.not_found,
            **dict.fromkeys((Trouble, ClientDisconnect, Exception), api.failed),
        },
    )
    # A redirect's address would be made of the Host that the client sent.
    starlette.router.redirect_slashes = False
    app = Shortcut(starlette, operations["rank"], api.rank)
    doors = parts.gate, settings.limits, settings.keys, parts.metrics, parts.clock
    if settings.origins:
        return Guard(app, *doors, lambda admitting: Cors(admitting, settings.origins))
    return Guard(app, *doors)


class Api:
    """The handlers, by the names of `server.operations`."""

    def __init__(self, parts: Parts, settings: Settings) -> None:
        self._parts = parts
        document = openapi(settings.version, bool(settings.keys))
        self._document = msgspec.json.encode(document)
        self._page = page(document)
        self.rank = JsonEndpoint(msgspec.json.Decoder(RankRequest).decode, self._rank)
        """POST /v1/rank"""
        self._decode_click = msgspec.json.Decoder(ClickRequest).decode

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Sweep and publish for as long as the app is served."""
        sweeping = asyncio.create_task(self._parts.resolver.run())
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
            await self._parts.ranks.settle()
            await self._parts.resolver.close()
            await self._parts.window.close()

    async def click(self, request: Request) -> Response:
        """POST /v1/decisions/{decision_id}/click"""
        decision_id = _decision_id(request)
        content_type = announced(request.scope["headers"])
        wanted = decoded(content_type, await request.body(), self._decode_click)
        traces, product_id = self._parts.traces, wanted.product_id
        came = traces.came(request.scope["headers"])
        trace = traces.clicked(came, decision_id, product_id) if came else ""
        try:
            async with asyncio.timeout(CLICK_BUDGET_S):
                clicked = await self._parts.resolver.click(Click(decision_id, product_id, trace))
        except (TimeoutError, BrokerUnavailable, StoreUnavailable) as error:
            detail = "store or broker did not confirm the click in time"
            raise Trouble(UNCONFIRMED, detail, RETRY_AFTER_S) from error
        except CorruptState as error:
            raise _unreadable(decision_id, error) from error
        if clicked.answer in _REFUSALS:
            raise Trouble(*_REFUSALS[clicked.answer])
        return _json(self._parts.answers.clicked(clicked))

    async def decision(self, request: Request) -> Response:
        """GET /v1/decisions/{decision_id}"""
        decision_id = _decision_id(request)
        try:
            found = await self._parts.window.find(decision_id)
        except StoreUnavailable as error:
            detail = "the store can't be asked just now"
            raise Trouble(NO_STORE, detail, RETRY_AFTER_S) from error
        except CorruptState as error:
            raise _unreadable(decision_id, error) from error
        if found is None:
            raise Trouble(*_REFUSALS[Answer.UNKNOWN])
        return _json(self._parts.answers.found(found))

    async def arm(self, request: Request) -> Response:
        """GET /v1/arms/{product_id}"""
        text = request.path_params["product_id"]
        product_id = int(text) if text.isascii() and text.isdigit() and len(text) < 17 else -1
        check_loaded(self._parts.loaded())
        with self._parts.view.locked() as view:
            at = np.flatnonzero(view.model.arms == product_id)
            if not len(at):
                raise Trouble(UNKNOWN_PRODUCT, "there is no product of this id, or it is retired")
            return _json(self._parts.answers.arm(view, int(at[0])))

    async def products(self, _: Request) -> Response:
        """GET /v1/products"""
        return _json(self._parts.answers.products)

    async def livez(self, _: Request) -> Response:
        """GET /livez"""
        reasons = [without_addresses(reason) for reason in self._parts.not_alive()]
        status = "not alive" if reasons else "alive"
        return _json(HealthResponse(status=status, reasons=reasons), 503 if reasons else 200)

    async def readyz(self, _: Request) -> Response:
        """GET /readyz"""
        reasons = self._reasons()
        status = "not ready" if reasons else "ready"
        return _json(HealthResponse(status=status, reasons=reasons), 503 if reasons else 200)

    async def metrics(self, _: Request) -> Response:
        """GET /metrics"""
        return Response(exposition(self._parts.metrics.registry), media_type=CONTENT_TYPE)

    async def openapi(self, _: Request) -> Response:
        """GET /openapi.json"""
        return Response(self._document, media_type=JSON)

    async def docs(self, _: Request) -> Response:
        """GET /docs"""
        return HTMLResponse(self._page, headers={"Content-Security-Policy": PAGE_POLICY})

    async def not_found(self, _: Request, error: Exception) -> Response:
        """What the router refuses."""
        if not isinstance(error, HTTPException):
            raise error
        if error.status_code == METHOD.status:
            return Trouble(METHOD, "this path knows other methods").response(error.headers)
        return Trouble(NO_SUCH_PAGE, "no such path").response()

    async def failed(self, _: Request, error: Exception) -> Response:
        """What a handler refuses, or fails at."""
        return refusal(error)

    async def _rank(self, wanted: RankRequest, scope: Scope) -> bytes:
        check_loaded(self._parts.loaded())
        came = self._parts.traces.came(scope["headers"])
        return await self._parts.ranks.rank(wanted, came, hung_up(scope))

    def _reasons(self) -> list[str]:
        parts = self._parts
        stuck = parts.not_alive()
        reasons = [*stuck, *parts.not_ready(), *api_not_ready(parts.resolver, parts.gate)]
        return [without_addresses(reason) for reason in reasons]


def _decision_id(request: Request) -> str:
    decision_id: str = request.path_params["decision_id"]
    if not _DECISION_ID.fullmatch(decision_id):
        raise Trouble(*_REFUSALS[Answer.UNKNOWN])
    return decision_id


def _unreadable(decision_id: str, error: CorruptState) -> Trouble:
    _log.error("decision %s: %s", decision_id, error)
    return Trouble(*_REFUSALS[Answer.UNREADABLE])


def _json(value: msgspec.Struct, status: int = 200) -> Response:
    return Response(_encode(value), status, media_type=JSON)


_encode = msgspec.json.Encoder().encode
