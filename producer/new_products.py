"""Products to be added to a catalogue in use: read, checked, and given features."""

import csv
import math
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np

from producer.text_components import COMPONENTS
from producer.text_model import TextModel, from_json
from shared.catalogue import (
    CSV_ENCODING,
    MAX_ABS_FEATURE,
    MOST_EXACT,
    Product,
    feature_table,
)

TEXT_MODEL: Final = "text_model.json"
FEATURES: Final = "product_features.csv"
_CONTROLS: Final = ("Cc", "Zl", "Zp")
"""Categories of what moves a cursor, rings a bell, or ends a line."""


class BadProducts(Exception):
    """The file holds no products that could be added; the message says why."""


class NewProduct(NamedTuple):
    """A product and its features by name."""

    product: Product
    features: dict[str, float]


class FeatureMaker:
    """Gives a product the features that `reco prepare` would have given it.

    Args:
        folder: the prepared data.
        products: the prepared products, for the range of prices.

    Raises:
        BadProducts: a file of the folder is missing or not as it should be.
    """

    def __init__(self, folder: Path, products: list[Product]) -> None:
        prices = [product.price for product in products]
        self._least, self._most = min(prices), max(prices)
        try:
            self.names: Final = feature_table(folder / FEATURES)[0]
            self._text: TextModel = from_json((folder / TEXT_MODEL).read_bytes())
        except (OSError, ValueError, csv.Error) as error:
            raise BadProducts(
                f"{folder} has no usable {FEATURES} and {TEXT_MODEL} ({error}): make them with "
                f"`reco prepare --out {folder}`"
            ) from error

    def features(self, product: Product) -> dict[str, float]:
        """Text components, category (a new one sets none), is_coffee and price."""
        components = self._text.transform(f"{product.name} {product.category}")
        price = (product.price - self._least) / ((self._most - self._least) or 1.0)
        found = {f"text_{i}": components[i] for i in range(COMPONENTS)}
        found |= {
            f"category_{product.category}": 1.0,
            "is_coffee": float(product.is_coffee),
            "price": float(np.clip(price, 0.0, 1.0)),
        }
        return {name: found.get(name, 0.0) for name in self.names}


def read_new_products(path: Path, maker: FeatureMaker) -> list[NewProduct]:
    """Products of a CSV with the columns of products.csv; columns of features win over ours.

    Raises:
        BadProducts: the file can't be read as products.
    """
    try:
        with path.open(encoding=CSV_ENCODING, newline="") as file:
            found = _read_all(path, csv.DictReader(file), maker)
    except OSError as error:
        raise BadProducts(f"can't read {path}: {error.strerror or error}") from error
    ids = [new.product.product_id for new in found]
    if not ids or len(set(ids)) < len(ids):
        raise BadProducts(f"{path} has no rows, or a product_id twice")
    return found


def _read_all(path: Path, rows: "csv.DictReader[str]", maker: FeatureMaker) -> list[NewProduct]:
    try:
        return [_read(row, maker) for row in rows]
    except (ValueError, csv.Error) as error:
        raise BadProducts(
            f"{path}, line {rows.line_num}, is not as it should be: {error}; it needs the columns "
            "product_id, name, category, price, is_coffee"
        ) from error


def _read(row: Mapping[str, str], maker: FeatureMaker) -> NewProduct:
    product = msgspec.convert(row, Product, strict=False)
    for column, text in (("name", product.name), ("category", product.category)):
        if any(unicodedata.category(sign) in _CONTROLS for sign in text):
            raise ValueError(f"the column {column} has a control character, in {text!r}")
    if not 0.0 <= product.price < math.inf or not 1 <= product.product_id <= MOST_EXACT:
        raise ValueError(
            f"product {product.product_id} has the price {product.price}: ids from 1 on, "
            f"{MOST_EXACT} at most, and finite prices are needed"
        )
    own = Product.__struct_fields__  # price and is_coffee are features too, but scaled
    given = {name: float(row[name]) for name in maker.names if name not in own and row.get(name)}
    if not all(abs(value) <= MAX_ABS_FEATURE for value in given.values()):
        raise ValueError(
            f"product {product.product_id} has a feature that is no finite number or beyond "
            f"±{MAX_ABS_FEATURE:,.0f}"
        )
    return NewProduct(product, maker.features(product) | given)
