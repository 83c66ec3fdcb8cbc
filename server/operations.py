"""The operations of the API, once: routes and OpenAPI are both made from these tables."""

from typing import Any, Final, NamedTuple

import msgspec

from server.api_types import (
    ArmResponse,
    ClickRequest,
    ClickResponse,
    DecisionResponse,
    ExplainRequest,
    HealthResponse,
    ProductsResponse,
    RankContext,
    RankRequest,
    RankResponse,
)
from server.explain import Explanation
from server.learning import Point
from server.live_feed import Message
from server.problems import (
    ALREADY_CLICKED,
    CLOSED,
    HEADERS,
    INVALID,
    LATE,
    MALFORMED,
    MEDIA,
    METHOD,
    NO_HTTP,
    NO_METHOD,
    NO_STORE,
    NO_SUCH_PAGE,
    NO_WINDOW,
    NOT_ON_SLATE,
    NOT_READY,
    OVERLOADED,
    REUSED,
    SLOW,
    TOO_LARGE,
    UNAUTHORISED,
    UNCONFIRMED,
    UNKNOWN_DECISION,
    UNKNOWN_PRODUCT,
    UNREADABLE,
    Kind,
)

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
HTML: Final = "text/html"


class Operation(NamedTuple):
    """One method of one path."""

    name: str
    method: str
    path: str
    summary: str
    answer: Any
    """Type of the answer; of each event where it is a stream of them."""
    request: type[msgspec.Struct] | None = None
    problems: tuple[Kind, ...] = ()
    unwell: bool = False
    """Answers 503 with the same Struct when it is not so."""
    media: str = JSON
    query: type[msgspec.Struct] | None = None

    @property
    def guarded(self) -> bool:
        """Whether it needs a key, where keys are needed at all."""
        return self.path.startswith("/v1/")


_ANYWHERE: Final = (NO_HTTP, METHOD, SLOW, TOO_LARGE, HEADERS, NO_METHOD)
_BODY: Final = (MALFORMED, MEDIA, INVALID)
_OPEN: Final = (*_ANYWHERE, OVERLOADED)
_GUARDED: Final = (*_OPEN, UNAUTHORISED)
_NAMED: Final = (*_GUARDED, NO_SUCH_PAGE)
"""A name in the path can also hold a slash, and be another path."""

OPERATIONS: Final = (
    Operation(
        "rank",
        "POST",
        "/v1/rank",
        "Rank products for a visitor; the decision then waits for its click",
        RankResponse,
        RankRequest,
        (*_BODY, *_GUARDED, CLOSED, REUSED, UNREADABLE, NOT_READY, NO_WINDOW),
    ),
    Operation(
        "click",
        "POST",
        "/v1/decisions/{decision_id}/click",
        "Report a click, within the reward window",
        ClickResponse,
        ClickRequest,
        (
            *_BODY,
            *_NAMED,
            UNKNOWN_DECISION,
            ALREADY_CLICKED,
            LATE,
            NOT_ON_SLATE,
            UNREADABLE,
            UNCONFIRMED,
        ),
    ),
    Operation(
        "decision",
        "GET",
        "/v1/decisions/{decision_id}",
        "What was shown, and what came of it",
        DecisionResponse,
        None,
        (*_NAMED, UNKNOWN_DECISION, UNREADABLE, NO_STORE),
    ),
    Operation(
        "arm",
        "GET",
        "/v1/arms/{product_id}",
        "What the model has learned about a product",
        ArmResponse,
        None,
        (*_NAMED, UNKNOWN_PRODUCT, NOT_READY),
    ),
    Operation("products", "GET", "/v1/products", "The catalogue", ProductsResponse, None, _GUARDED),
    Operation(
        "livez",
        "GET",
        "/livez",
        "Whether the process gets on, and else why it has to be started anew",
        HealthResponse,
        problems=_ANYWHERE,
        unwell=True,
    ),
    Operation(
        "readyz",
        "GET",
        "/readyz",
        "Whether it should get requests, and else why not",
        HealthResponse,
        problems=_ANYWHERE,
        unwell=True,
    ),
)

LIVE: Final = (
    Operation("page", "GET", "/", "The live page", str, None, _OPEN, media=HTML),
    Operation(
        "live",
        "GET",
        "/v1/live",
        "The stream of events behind the page: the first tells all, the others what is new",
        Message,
        None,
        _GUARDED,
        media=EVENTS,
    ),
    Operation(
        "explain",
        "POST",
        "/v1/explain",
        "What would be shown to a visitor, and why; decides nothing",
        Explanation,
        ExplainRequest,
        (*_BODY, *_GUARDED, NOT_READY),
    ),
    Operation(
        "learning",
        "GET",
        "/v1/learning/{product_id}",
        "How the estimate for a product in a context has moved, oldest first, now last",
        list[Point],
        None,
        (*_NAMED, UNKNOWN_PRODUCT, INVALID, NOT_READY),
        query=RankContext,
    ),
)
"""Answered by `server.live`."""

DOCUMENTS: Final = (
    Operation(
        "metrics",
        "GET",
        "/metrics",
        "Metrics in Prometheus' text form",
        str,
        None,
        _ANYWHERE,
        media="text/plain",
    ),
    Operation(
        "openapi_json", "GET", "/openapi.json", "This description", dict[str, Any], None, _OPEN
    ),
    Operation("docs", "GET", "/docs", "This description as a page", str, None, _OPEN, media=HTML),
)
