"""What goes over the API, as Structs: decoded, checked, described (`server.openapi`) from here."""

from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta, Struct

from shared.catalogue import MOST_EXACT
from shared.events import Context

MOST_PRODUCTS: Final = 1_000
"""Length of `candidates` and `exclude` at most."""
_STEPS: Final = (".", "..")
"""What clients make of them in a path: `/v1/decisions/../click` becomes `/v1/click`."""

DecisionId = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._-]{1,64}$",  # ECMA's, as JSON Schema wants it: see `__post_init__`
        description="Letters, digits, `.`, `_` and `-`, 64 at most; neither `.` nor `..`.",
        extra_json_schema={"not": {"enum": _STEPS}},
    ),
]
ProductId = Annotated[int, Meta(ge=0, le=MOST_EXACT)]


class RankContext(Context, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Who visits, from where, and when by the shop's own clock."""

    age: Annotated[int, Meta(ge=0, le=150)]
    gender: Annotated[str, Meta(max_length=32, description="F or M; others are not known.")]
    latitude: Annotated[float, Meta(ge=-90, le=90)]
    longitude: Annotated[float, Meta(ge=-180, le=180)]
    traffic_source: Annotated[
        str, Meta(max_length=64, description="Display, Email, Facebook, Organic or Search.")
    ]
    occurred_at: Annotated[
        datetime,
        Meta(
            tz=False,
            description="Shop-local time: date and time of RFC 3339 without a zone, with seconds.",
            extra_json_schema={
                "pattern": r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?$",
                "examples": ["2026-01-26T07:29:00", "2026-01-26T07:29:00.250"],
            },
        ),
    ]


SlateLength = Annotated[int, Meta(ge=1, le=50, description="Length of the slate.")]


class RankRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Rank products for a visitor."""

    context: RankContext
    user_id: Annotated[int, Meta(ge=0, le=MOST_EXACT)] | None = None
    k: SlateLength = 5
    candidates: (
        Annotated[
            list[ProductId],
            Meta(min_length=1, max_length=MOST_PRODUCTS, description="Rank only these."),
        ]
        | None
    ) = None
    exclude: (
        Annotated[
            list[ProductId],
            Meta(max_length=MOST_PRODUCTS, description="Rank all but these."),
        ]
        | None
    ) = None
    decision_id: DecisionId | None = None
    """Give one, and the same request may be sent again: the answer is the same."""

    def __post_init__(self) -> None:
        """Refuse ids that no click could name."""
        if self.decision_id is None:
            return
        if self.decision_id in _STEPS:
            raise ValueError("`decision_id` can't be `.` or `..`: a path would lose it")
        if self.decision_id.endswith("\n"):  # Python's `$` lets one pass, ECMA's does not
            raise ValueError("`decision_id` can't end with a line break")

    @property
    def whole(self) -> bool:
        """Whether all products are ranked."""
        return self.candidates is None and not self.exclude


class RankedProduct(Struct, frozen=True, gc=False):
    """One product of a slate: `score` is what it was ranked by, `mean` + `bonus` is why."""

    product_id: int
    name: str
    score: float
    mean: float
    bonus: float


class RankResponse(Struct, frozen=True, kw_only=True, gc=False):
    """What to show."""

    decision_id: str
    slate: list[RankedProduct]
    """Best first."""
    view: list[int]
    """Next outcomes offset of each partition in the model that was scored."""
    stale: bool
    """The store was out of reach, so the model may have been old."""


class ExplainRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask what would be shown to a visitor, and why."""

    context: RankContext
    k: SlateLength = 5


class ClickRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shopper clicked this product of the slate."""

    product_id: ProductId


class ClickResponse(Struct, frozen=True, kw_only=True):
    """The click is counted, and Kafka has its outcomes."""

    decision_id: str
    product_id: int
    rank: int
    """From 1 on."""
    resolved_at: datetime


class DecisionResponse(Struct, frozen=True, kw_only=True):
    """A decision and what came of it."""

    decision_id: str
    state: str
    """`waiting`, `clicked` or `expired`."""
    policy: str
    parameters: dict[str, float]
    slate: list[RankedProduct]
    view: list[int]
    stale: bool
    decided_at: datetime
    expires_at: datetime | None
    """End of the reward window, while it is open."""
    resolved_at: datetime | None
    product_id: int | None
    """What was clicked."""
    published: bool
    """Kafka has the decision and its outcomes."""


class ProductResponse(Struct, frozen=True, kw_only=True):
    """One product."""

    product_id: int
    name: str
    category: str
    price: float
    retired: bool = False
    """It is no longer ranked."""


class ProductsResponse(Struct, frozen=True, kw_only=True):
    """The catalogue, in its order."""

    products: list[ProductResponse]


class Coefficient(Struct, frozen=True, kw_only=True):
    """What the model makes of one feature of the context, for this arm."""

    feature: str
    theta: float
    """Its weight θ."""
    deviation: float
    """How uncertain that is: √ of its element on the diagonal of A⁻¹."""


class ArmResponse(Struct, frozen=True, kw_only=True):
    """What is known of a product's appeal."""

    product_id: int
    name: str
    examinations: int
    """How often it was looked at."""
    clicks: int
    coefficients: list[Coefficient]
    view: list[int]
    stale: bool


class HealthResponse(Struct, frozen=True, kw_only=True):
    """Whether all is well, and else why not."""

    status: str
    reasons: list[str] = []


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong (RFC 9457)."""

    type: str
    """Which problem: a link to its description."""
    title: str
    status: int
    detail: str
