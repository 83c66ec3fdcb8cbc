"""The prepared folder: products, users and encoder."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from shared.features import Encoder
from shared.ports import ModelConfig

_T = TypeVar("_T", bound=msgspec.Struct)


class DataError(Exception):
    """The folder is not as `reco prepare` left it; the message says what to do."""


class Product(msgspec.Struct, frozen=True):
    """One dish or drink. `products.csv`"""

    product_id: int
    name: str
    category: str
    price: float
    is_coffee: bool


class User(msgspec.Struct, frozen=True):
    """One shopper. `users.csv`"""

    user_id: int
    name: str
    city: str
    age: int
    gender: str
    latitude: float
    longitude: float
    traffic_source: str


class DataSet(msgspec.Struct, frozen=True):
    """What services need of a prepared folder."""

    products: list[Product]
    users: list[User]
    encoder: Encoder

    @property
    def arms(self) -> list[int]:
        """The product_ids, in the catalogue's order."""
        return [product.product_id for product in self.products]

    @property
    def config(self) -> ModelConfig:
        """What a model's rows must agree on to be of this data."""
        return ModelConfig(self.encoder.d, self.encoder.id)


def load_data(folder: Path) -> DataSet:
    """Read a prepared folder.

    Raises:
        DataError: a file is missing or holds something else.
    """
    hint = f"prepare it with `reco prepare --out {folder}`"
    products = _read(folder / "products.csv", hint, lambda path: _rows(path, Product))
    users = _read(folder / "users.csv", hint, lambda path: _rows(path, User))
    encoder = _read(
        folder / "encoder.json", hint, lambda path: Encoder.from_json(path.read_bytes())
    )
    for what, ids in (
        ("products.csv", [product.product_id for product in products]),
        ("users.csv", [user.user_id for user in users]),
    ):
        if not ids or len(set(ids)) < len(ids):
            raise DataError(f"{folder / what} has no rows, or an id twice; {hint}")
    if not all(math.isfinite(product.price) for product in products):
        raise DataError(f"{folder / 'products.csv'} has a price that is no number; {hint}")
    return DataSet(products, users, encoder)


_R = TypeVar("_R")


def _read(path: Path, hint: str, reader: Callable[[Path], _R]) -> _R:
    try:
        return reader(path)
    except OSError as error:
        raise DataError(f"can't read {path} ({error.strerror}); {hint}") from error
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path} is not as it should be: {error}; {hint}") from error


def _rows(path: Path, kind: type[_T]) -> list[_T]:
    with path.open(encoding="utf-8", newline="") as file:
        return [msgspec.convert(row, kind, strict=False) for row in csv.DictReader(file)]
