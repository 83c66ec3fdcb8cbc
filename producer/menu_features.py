"""The menu as it comes with the software, and what its products have in common as numbers."""

import csv
import io
from collections.abc import Sequence
from importlib.resources import files

import msgspec
import numpy as np

from producer.text_components import BY, COMPONENTS, normalised
from shared.arm_statistics import Floats
from shared.catalogue import Product


def catalogue() -> list[Product]:
    """The 200 products of the menu, written by us."""
    text = files("producer").joinpath("catalogue.csv").read_text(encoding="utf-8")
    return [
        msgspec.convert(row, Product, strict=False) for row in csv.DictReader(io.StringIO(text))
    ]


def texts_of(products: Sequence[Product]) -> list[str]:
    """What is known of the products in words."""
    return [f"{product.name} {product.category}" for product in products]


def product_features(
    products: Sequence[Product], text_by: str = "scikit-learn"
) -> tuple[list[str], Floats]:
    """What the products have in common, as numbers: names of the columns, and K × p."""
    components = normalised(BY[text_by](texts_of(products)))
    categories = sorted({product.category for product in products})
    prices = np.array([product.price for product in products])
    scaled = (prices - prices.min()) / (prices.max() - prices.min())
    names = [
        *(f"text_{number}" for number in range(COMPONENTS)),
        *(f"category_{category}" for category in categories),
        "is_coffee",
        "price",
    ]
    kinds = [[product.category == category for category in categories] for product in products]
    coffee = [product.is_coffee for product in products]
    return names, np.column_stack([components, np.array(kinds, np.float64), coffee, scaled])
