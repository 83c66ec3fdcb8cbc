"""The records on the topics: JSON on the wire, typed here, and nowhere else.

Compatibility: fields are only ever added, with a default, so an old reader ignores what it does
not know and a new one fills in what an old writer left out. `schema_version` says which set of
fields the writer knew.

`gc=False`: records hold no reference to one another, so the garbage collector need not visit them.
"""

from datetime import datetime
from typing import Annotated, Final, TypeAlias

import msgspec

from shared.ports import Source

SCHEMA_VERSION: Final = 1

VISITS: Final = "visits"
DECISIONS: Final = "decisions"
OUTCOMES: Final = "outcomes"
DEAD_LETTERS: Final = "dead-letters"
PRODUCTS: Final = "products"


VisitId: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Id: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
"""What is made of a visit's id: it is repeated in all that follows from the visit."""


class Context(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who visits, from where, and when by the shop's own clock."""

    age: int
    gender: str
    latitude: float
    longitude: float
    traffic_source: str
    occurred_at: datetime
    """Shop-local time without a zone: the hour and weekday that the shopper lives in."""


class Visit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A user arrives. Topic `visits`, keyed by `user_id`."""

    visit_id: VisitId
    user_id: int
    context: Context
    emitted_at: datetime
    """Real time, UTC."""
    schema_version: int = SCHEMA_VERSION


class SlateItem(msgspec.Struct, frozen=True, gc=False):
    """One ranked product. `score` is what it was ranked by, `mean` + `bonus` is why."""

    product_id: int
    score: float
    mean: float
    bonus: float
    propensity: float | None
    """Probability that the policy puts this product here, given the ranks above it.

    1 for a deterministic policy, None where it has no closed form.
    """


class Decision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was shown, and all that is needed to compute it again from the logs. Topic `decisions`.

    Which model follows from the topic `outcomes`, and which products from the topic `products`.
    """

    decision_id: str
    visit_id: str
    user_id: int
    policy: str
    parameters: dict[str, float]
    """What the policy was run with: α, λ, ε."""
    x: list[float]
    encoder_id: str
    view: list[int]
    """Next outcomes offset of each partition in the model that was scored."""
    slate: list[SlateItem]
    decided_at: datetime
    stale: bool = False
    """The store was out of reach, so the view may have been old."""
    via: str = "stream"
    """How it was asked for: `stream`, or `http` (there `visit_id` is the decision_id, and `user_id`
    is 0 where none was given)."""
    experiment: str | None = None
    """Name of the experiment that divides the users, where one runs."""
    variant: str | None = None
    """Which of its policies served this user, by name."""
    arms_id: str | None = None
    """Names the set of products that the model ranked (`shared.live_catalogue.arms_id`); None in
    records of before there was this field."""
    candidates: list[int] | None = None
    """Of these products, only those were ranked; None if nothing was asked …"""
    exclude: list[int] | None = None
    """… or all but those."""
    schema_version: int = SCHEMA_VERSION

    @property
    def visitor(self) -> str:
        """Whom an experiment divides: the user; over HTTP, where none was named, this visit."""
        alone = self.via == "http" and self.user_id == 0
        return self.decision_id if alone else str(self.user_id)


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One examined product and its reward. Topic `outcomes`, keyed by `product_id`."""

    outcome_id: Id
    """`<decision_id>:<rank>`: the same outcome sent twice is counted once."""
    decision_id: Id
    product_id: int
    rank: Annotated[int, msgspec.Meta(ge=1)]
    reward: float
    x: list[float]
    encoder_id: str
    decided_at: datetime
    resolved_at: datetime
    schema_version: int = SCHEMA_VERSION


class ProductChange(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a product from now on. Topic `products`, compacted, keyed by `product_id`."""

    product_id: int
    name: str
    category: str
    price: float
    is_coffee: bool
    features: dict[str, float]
    """Of a product that was added, by name; empty for a prepared one."""
    retired: bool
    """It is no longer ranked. Its history remains, and outcomes on their way still count."""
    from_offset: int | None
    """Outcomes of this product before this offset of its partition are an unknown product's.

    None while the product is being added: nobody may judge its outcomes until that is done.
    """
    changed_at: datetime
    outcomes_log: Source | None = None
    """The log that `from_offset` is of: in any other, all its outcomes are the product's.

    None for a prepared product, and in records of before there was this field: of every log.
    """
    schema_version: int = SCHEMA_VERSION


UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the decoders raise: for bytes that are no such record, no UTF-8, or nested too deeply."""

_encoder = msgspec.json.Encoder()
encode = _encoder.encode
decode_visit = msgspec.json.Decoder(Visit).decode
decode_decision = msgspec.json.Decoder(Decision).decode
decode_outcome = msgspec.json.Decoder(Outcome).decode
decode_product_change = msgspec.json.Decoder(ProductChange).decode


def key_of(identifier: int) -> bytes:
    """The record key of a user or product: its decimal text."""
    return b"%d" % identifier
