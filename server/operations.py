"""The operations of the API, once: routes and OpenAPI are both made from this table."""

from typing import Final, NamedTuple

import msgspec

from server.api_types import (
    ArmResponse,
    ClickRequest,
    ClickResponse,
    DecisionResponse,
    HealthResponse,
    ProductsResponse,
    RankRequest,
    RankResponse,
)
from server.problems import (
    ALREADY_CLICKED,
    INVALID,
    LATE,
    MALFORMED,
    MEDIA,
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
    Kind,
)


class Operation(NamedTuple):
    """One method of one path."""

    name: str
    method: str
    path: str
    summary: str
    answer: type[msgspec.Struct]
    request: type[msgspec.Struct] | None = None
    problems: tuple[Kind, ...] = ()
    unwell: bool = False
    """Answers 503 with the same Struct when it is not so."""

    @property
    def guarded(self) -> bool:
        """Whether it needs a key, where keys are needed at all."""
        return self.path.startswith("/v1/")


_BODY: Final = (MALFORMED, SLOW, TOO_LARGE, MEDIA, INVALID)
_GUARDED: Final = (UNAUTHORISED, OVERLOADED)

OPERATIONS: Final = (
    Operation(
        "rank",
        "POST",
        "/v1/rank",
        "Rank products for a visitor; the decision then waits for its click",
        RankResponse,
        RankRequest,
        (*_BODY, *_GUARDED, REUSED, NOT_READY, NO_WINDOW),
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
            *_GUARDED,
            UNKNOWN_DECISION,
            ALREADY_CLICKED,
            LATE,
            NOT_ON_SLATE,
            UNCONFIRMED,
            NO_WINDOW,
        ),
    ),
    Operation(
        "decision",
        "GET",
        "/v1/decisions/{decision_id}",
        "What was shown, and what came of it",
        DecisionResponse,
        None,
        (*_GUARDED, UNKNOWN_DECISION, NO_WINDOW),
    ),
    Operation(
        "arm",
        "GET",
        "/v1/arms/{product_id}",
        "What the model has learned about a product",
        ArmResponse,
        None,
        (*_GUARDED, UNKNOWN_PRODUCT, NOT_READY),
    ),
    Operation("products", "GET", "/v1/products", "The catalogue", ProductsResponse, None, _GUARDED),
    Operation("livez", "GET", "/livez", "Whether the process lives", HealthResponse),
    Operation(
        "readyz",
        "GET",
        "/readyz",
        "Whether it should get requests, and else why not",
        HealthResponse,
        unwell=True,
    ),
)
