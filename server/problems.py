"""Every way in which a request can fail: one status and one type each (RFC 9457)."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
from starlette.responses import Response

from server.api_types import Problem

MEDIA_TYPE: Final = "application/problem+json"

RETRY_AFTER_S: Final = 1
"""Where nothing says how long it takes."""


class Kind(NamedTuple):
    """One kind of problem."""

    name: str
    status: int
    title: str
    meaning: str
    """What the caller should know or do."""

    @property
    def type(self) -> str:
        """The link to its description."""
        return f"/docs#{self.name}"


NO_HTTP = Kind("not-http", 400, "The request is not HTTP/1.1", "Ask with an HTTP client.")
MALFORMED = Kind("malformed", 400, "The body can't be read as JSON", "Send one JSON object.")
CROSS_ORIGIN = Kind(
    "cross-origin", 400, "Not from such a page", "The server allows it with `--cors-origin`."
)
CLOSED = Kind(
    "closed-early",
    400,
    "The connection was closed before the answer",
    "Keep it open until then: a slate that may not be seen is not given.",
)
UNAUTHORISED = Kind(
    "unauthorised", 401, "No valid key", "Send a header `Authorization: Bearer <key>`."
)
NO_SUCH_PAGE = Kind("not-found", 404, "There is nothing here", "The paths are on this page.")
UNKNOWN_DECISION = Kind(
    "unknown-decision",
    404,
    "No such decision",
    "It was never made, was given up, or was resolved so long ago that it is forgotten.",
)
UNKNOWN_PRODUCT = Kind("unknown-product", 404, "No such product", "`/v1/products` lists them.")
METHOD = Kind("method", 405, "Not with this method", "The header `Allow` says with which.")
SLOW = Kind("slow", 408, "The request came too slowly", "Send it in one go.")
ALREADY_CLICKED = Kind(
    "already-clicked",
    409,
    "Another product was clicked",
    "The first click decides; this one is not counted.",
)
REUSED = Kind(
    "decision-id-reused",
    409,
    "The decision_id belongs to another request",
    "A retry repeats its request to the letter; a new request needs a new decision_id.",
)
LATE = Kind(
    "too-late",
    410,
    "The reward window has ended",
    "The decision was resolved without a click; this one is not counted.",
)
TOO_LARGE = Kind("too-large", 413, "The body is too large", "64 KiB at most.")
MEDIA = Kind(
    "media-type",
    415,
    "Not announced as plain JSON",
    "Send a header `Content-Type: application/json`, and no `Content-Encoding`.",
)
INVALID = Kind("invalid", 422, "The request is not as described", "`detail` says where.")
NOT_ON_SLATE = Kind(
    "not-on-slate", 422, "The product was not on the slate", "Only what was shown can be clicked."
)
HEADERS = Kind("headers-too-large", 431, "The headers are too large", "16 KiB at most.")
FAILED = Kind("failed", 500, "A fault of ours", "Its cause is in the server's log.")
UNREADABLE = Kind(
    "unreadable",
    500,
    "What is kept of the decision can't be read",
    "Nothing comes of it, and asking again does not help. The server's log says more.",
)
NO_METHOD = Kind("unknown-method", 501, "No such method", "Ask by GET, HEAD or POST.")
NOT_READY = Kind("not-ready", 503, "Not ready yet", "The model is being read; try again soon.")
OVERLOADED = Kind(
    "overloaded", 503, "Too much at once", "Try again after the seconds in `Retry-After`."
)
NO_WINDOW = Kind(
    "window-unavailable",
    503,
    "The decision could not be kept in time",
    "Its click could not be counted, so there is no slate. Try again after the seconds in "
    "`Retry-After`, with the same decision_id.",
)
NO_STORE = Kind(
    "store-unavailable",
    503,
    "The decision can't be looked up now",
    "It may well be there. Ask again after the seconds in `Retry-After`.",
)
UNCONFIRMED = Kind(
    "unconfirmed",
    503,
    "The click is not confirmed yet",
    "It may be counted already. Send it again after the seconds in `Retry-After`: it is counted "
    "once.",
)

KINDS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Kind))


class Trouble(Exception):
    """Ends a request with this problem.

    Args:
        kind: which.
        detail: one sentence about this request; nothing that an attacker could inject, nothing
            from inside.
        retry_after_s: for those that may be tried again.
    """

    def __init__(self, kind: Kind, detail: str, retry_after_s: int | None = None) -> None:
        super().__init__(f"{kind.name}: {detail}")
        self.kind = kind
        self.detail = detail
        self.retry_after_s = retry_after_s

    def response(self, headers: Mapping[str, str] | None = None) -> Response:
        """As it is sent."""
        more = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return Response(
            self.body(), self.kind.status, {**more, **(headers or {})}, media_type=MEDIA_TYPE
        )

    def body(self) -> bytes:
        """The JSON."""
        kind = self.kind
        return msgspec.json.encode(
            Problem(type=kind.type, title=kind.title, status=kind.status, detail=self.detail)
        )


def check_loaded(loaded: bool) -> None:
    """For whatever is answered by the model: a part of it would be taken for all of it.

    Raises:
        Trouble: it is not whole yet.
    """
    if not loaded:
        raise Trouble(NOT_READY, "the model is being read", RETRY_AFTER_S)
