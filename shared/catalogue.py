"""The prepared folder: products and their features, users and encoder."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import numpy as np

from shared.arm_statistics import Floats
from shared.features import Encoder
from shared.ports import ModelConfig

_T = TypeVar("_T", bound=msgspec.Struct)

CSV_ENCODING: Final = "utf-8-sig"
"""UTF-8, without the mark that spreadsheets begin it with: it is no part of the first column's
name."""
MOST_EXACT: Final = 2**53 - 1
"""The greatest product_id: beyond it JavaScript, and Lua, round, and clicks would miss it."""
MAX_ABS_FEATURE: Final = 1e6
"""Features lie between 0 and 1, about. Their squares are summed beside numbers near 1: from some
10⁸ on these are lost, and no policy that uses features can be solved."""


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
    features: Floats
    """z of each product, K × p, in the catalogue's order: what policies share between arms by."""
    feature_names: list[str]
    """Of the p columns."""

    @property
    def arms(self) -> list[int]:
        """The product_ids, in the catalogue's order."""
        return [product.product_id for product in self.products]

    @property
    def config(self) -> ModelConfig:
        """What a model's rows must agree on to be of this data."""
        return self.config_of()

    def config_of(self, gamma: float = 1.0) -> ModelConfig:
        """`config` of a model that forgets."""
        return ModelConfig(self.encoder.d, self.encoder.id, gamma=gamma)


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
    for product_id in (product.product_id for product in products):
        if not 0 <= product_id <= MOST_EXACT:  # as over HTTP, where 0 is an id, too
            raise DataError(
                f"{folder / 'products.csv'} has the product_id {product_id}: ids from 1 to "
                f"{MOST_EXACT} are needed; {hint}"
            )
    if not all(math.isfinite(user.latitude) and math.isfinite(user.longitude) for user in users):
        raise DataError(f"{folder / 'users.csv'} has a place that is no finite number; {hint}")
    if not all(math.isfinite(product.price) for product in products):
        raise DataError(f"{folder / 'products.csv'} has a price that is no number; {hint}")
    names, features = _read(
        folder / "product_features.csv", hint, lambda path: _features(path, products)
    )
    return DataSet(products, users, encoder, features, names)


_R = TypeVar("_R")


def _read(path: Path, hint: str, reader: Callable[[Path], _R]) -> _R:
    try:
        return reader(path)
    except OSError as error:
        raise DataError(f"can't read {path} ({error.strerror}); {hint}") from error
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path} is not as it should be: {error}; {hint}") from error


def _rows(path: Path, kind: type[_T]) -> list[_T]:
    with path.open(encoding=CSV_ENCODING, newline="") as file:
        return [msgspec.convert(row, kind, strict=False) for row in csv.DictReader(file)]


def feature_table(path: Path) -> tuple[list[str], dict[int, list[float]]]:
    """What `product_features.csv` says: names of the features, and those of each product_id.

    Raises:
        OSError: there is no such file.
        ValueError: it is no such table.
        csv.Error: likewise.
    """
    with path.open(encoding=CSV_ENCODING, newline="") as file:
        header, *rows = [row for row in csv.reader(file) if row] or [[]]
    if not header:
        raise ValueError("it is empty")
    if header[:1] != ["product_id"] or any(len(row) != len(header) for row in rows):
        raise ValueError("a table with product_id as its first column is needed")
    return header[1:], {int(row[0]): [float(cell) for cell in row[1:]] for row in rows}


def _features(path: Path, products: list[Product]) -> tuple[list[str], Floats]:
    names, of_product = feature_table(path)
    missing = [product.product_id for product in products if product.product_id not in of_product]
    if missing:
        raise ValueError(f"it has no features of product {missing[0]}")
    features = np.array([of_product[product.product_id] for product in products], np.float64)
    if not features.size or not (np.abs(features) <= MAX_ABS_FEATURE).all():
        raise ValueError(
            "there are no features, or one that is no finite number or beyond "
            f"±{MAX_ABS_FEATURE:,.0f}"
        )
    return names, features
