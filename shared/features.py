"""A context as the model sees it: x, fifteen numbers between 0 and 1."""

import hashlib
import math
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec
import numpy as np

from shared.arm_statistics import Floats
from shared.events import Context

NUMBERS: Final = ("age", "latitude", "longitude")
GENDERS: Final = ("F", "M")
TRAFFIC_SOURCES: Final = ("Display", "Email", "Facebook", "Organic", "Search")
CONTEXT_FEATURES: Final[tuple[str, ...]] = (
    *NUMBERS,
    *(f"gender_{gender}" for gender in GENDERS),
    *(f"traffic_source_{source}" for source in TRAFFIC_SOURCES),
    "is_morning",
    "is_afternoon",
    "is_evening",
    "is_weekend",
    "is_weekday",
)
_FORMAT: Final = 1


class Roles(NamedTuple):
    """What the features of a context stand for, d numbers each."""

    constant: Floats
    """u with u·x = 1 for every x: each visit is at a weekend or on a weekday."""
    visitor: Floats
    """1 for a feature of who visits, 0 for one of when."""


class NotFinite(ValueError):
    """A number of a context is NaN, infinite, or an integer that no float can be."""


class Encoded(NamedTuple):
    """Contexts as numbers."""

    X: Floats
    """N × 15"""
    unknown_categories: int
    """Categories that the encoder was not fitted with: they become zeros."""
    clipped: int
    """Numbers outside the fitted ranges: they are moved to the nearest end."""


class _Content(msgspec.Struct, frozen=True):
    format: int
    ranges: dict[str, tuple[float, float]]
    categories: dict[str, list[str]]


class Encoder:
    """Min-max for numbers, one-hot for categories and the time of the shop.

    Args:
        ranges: least and greatest value of `NUMBERS`.
        categories: those of `gender` and `traffic_source`, in the order of their columns.

    Raises:
        ValueError: a range or category list is missing, empty or not finite.
    """

    def __init__(
        self, ranges: dict[str, tuple[float, float]], categories: dict[str, list[str]]
    ) -> None:
        floats = {name: (float(least), float(most)) for name, (least, most) in ranges.items()}
        self._content = _Content(_FORMAT, floats, categories)
        if tuple(ranges) != NUMBERS or tuple(categories) != ("gender", "traffic_source"):
            raise ValueError(f"an encoder has ranges of {NUMBERS} and both kinds of categories")
        for kind, names in categories.items():
            if not names or len(set(names)) < len(names):
                raise ValueError(f"the encoder's {kind} has no categories, or one twice")
        bounds = np.array(list(ranges.values()), np.float64)
        if not np.isfinite(bounds).all() or not (bounds[:, 0] < bounds[:, 1]).all():
            raise ValueError("a range of the encoder is empty or not finite")
        self._least, self._width = bounds[:, 0], bounds[:, 1] - bounds[:, 0]
        self._genders, self._sources = (
            {name: i for i, name in enumerate(names)} for names in categories.values()
        )
        self._ones, self._unknown = _kinds(len(self._genders), len(self._sources))
        self._time = len(NUMBERS) + len(self._genders) + len(self._sources)
        self.d: Final = self._time + 5
        """Length of x."""
        self.features: Final[tuple[str, ...]] = (
            *NUMBERS,
            *(f"gender_{name}" for name in categories["gender"]),
            *(f"traffic_source_{name}" for name in categories["traffic_source"]),
            *CONTEXT_FEATURES[-5:],
        )
        """What each column of x is, by name."""
        self.roles: Final = Roles(
            np.repeat([0.0, 1.0], [self.d - 2, 2]), np.repeat([1.0, 0.0], [self._time, 5])
        )
        self.id: Final = hashlib.sha256(self._canonical()).hexdigest()[:16]
        """Hash of the content: tells encoders apart, wherever x travels."""

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Least and greatest fitted value of each number."""
        return self._content.ranges

    @property
    def categories(self) -> dict[str, list[str]]:
        """Known genders and traffic sources, in the order of their columns."""
        return self._content.categories

    def to_json(self) -> bytes:
        """The encoder as a file."""
        return msgspec.json.format(
            msgspec.json.encode({**msgspec.to_builtins(self._content), "id": self.id}), indent=2
        )

    @classmethod
    def from_json(cls, text: bytes) -> "Encoder":
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is something else, or was changed by hand.
        """
        content = msgspec.json.decode(text, type=_Content)
        if content.format != _FORMAT:
            raise ValueError(f"encoder of format {content.format}, this software reads {_FORMAT}")
        encoder = cls(content.ranges, content.categories)
        if msgspec.json.decode(text).get("id") != encoder.id:
            raise ValueError("the encoder's id does not match its content")
        return encoder

    def check(self, context: Context) -> None:
        """Refuse what can't be encoded.

        Raises:
            NotFinite: names the field.
        """
        if abs(context.age) > sys.float_info.max:  # JSON's integers have no end
            raise NotFinite("age is too large a number")
        if not math.isfinite(context.latitude):
            raise NotFinite("latitude is not a finite number")
        if not math.isfinite(context.longitude):
            raise NotFinite("longitude is not a finite number")

    def encode(self, contexts: Sequence[Context]) -> Encoded:
        """Encode N contexts, at least one.

        Raises:
            NotFinite: names a field that is NaN or infinite.
        """
        numbers = np.array([(c.age, c.latitude, c.longitude) for c in contexts], np.float64)
        numbers -= self._least
        numbers /= self._width
        X = np.empty((len(contexts), self.d))
        inside = np.minimum(np.maximum(numbers, 0.0), 1.0, out=X[:, : len(NUMBERS)])
        clipped = int(np.count_nonzero(inside != numbers))
        if clipped:  # NaN differs from itself, too
            for context in contexts:
                self.check(context)
        kinds = [self._kind(context) for context in contexts]
        X[:, len(NUMBERS) :] = self._ones.take(kinds, axis=0)
        return Encoded(X, sum([self._unknown[kind] for kind in kinds]), clipped)

    def decode(self, x: Sequence[float]) -> Context:
        """A context that is encoded as x: what the model knows of a visit, readable again.

        x says the part of the day and whether it was a weekend, so the hour is the middle of that
        part and the day a Monday or a Saturday. A category unknown to the encoder is empty.
        """
        age, latitude, longitude = (
            least + width * value
            for least, width, value in zip(self._least, self._width, x, strict=False)
        )
        quarter = next((q for q in range(3) if x[self._time + q] > 0.5), -1) + 1
        day = 10 if x[self._time + 3] > 0.5 else 5
        return Context(
            age=round(age),
            gender=_named(self.categories["gender"], x[len(NUMBERS) :]),
            latitude=float(latitude),
            longitude=float(longitude),
            traffic_source=_named(
                self.categories["traffic_source"], x[len(NUMBERS) + len(self._genders) :]
            ),
            occurred_at=datetime(2026, 1, day, 6 * quarter + 3),  # noqa: DTZ001 (shop-local)
        )

    def _kind(self, context: Context) -> int:
        """Row of `_ones` for this context: all that x says beside the numbers."""
        gender = self._genders.get(context.gender, len(self._genders))
        source = self._sources.get(context.traffic_source, len(self._sources))
        at = context.occurred_at
        kind = (gender * (len(self._sources) + 1) + source) * 4 + at.hour // 6
        return kind * 2 + (at.weekday() >= 5)

    def _canonical(self) -> bytes:
        return msgspec.json.encode(self._content, order="sorted")


def _kinds(genders: int, sources: int) -> tuple[Floats, list[int]]:
    """What follows the numbers in x of every kind of context; how many categories it lacks.

    A kind is a gender, a source (the last of each: one not known), a quarter of the day and
    whether it is a weekend; in their order.
    """
    groups = (
        np.eye(genders + 1, genders),
        np.eye(sources + 1, sources),
        np.eye(4, 3, -1),  # the night has no feature
        np.eye(2)[::-1],
    )
    kinds = np.indices([len(group) for group in groups]).reshape(len(groups), -1)
    ones = np.hstack([group[i] for group, i in zip(groups, kinds, strict=True)])
    return ones, ((kinds[0] == genders).astype(np.int64) + (kinds[1] == sources)).tolist()


def _named(names: Sequence[str], ones: Sequence[float]) -> str:
    """The category whose one is set; empty if none is."""
    return next((name for name, one in zip(names, ones, strict=False) if one > 0.5), "")
