"""A menu of any size, of the same grammar as the written one: for trying out large catalogues."""

from collections.abc import Iterator, Sequence
from random import Random

from shared.catalogue import Product


def generated(menu: Sequence[Product], count: int, seed: int) -> list[Product]:
    """`count` products whose names, categories, prices and share of coffees follow the menu's.

    A name is the beginning of one dish and the end of another of its kind, a price lies near one
    of its kind's. Coffees are mixed with coffees only. The same arguments give the same products.
    """
    draw = Random(f"menu {seed}")
    kinds: dict[tuple[str, bool], list[Product]] = {}
    for product in menu:
        kinds.setdefault((product.category, product.is_coffee), []).append(product)
    return [_product(number, draw, kinds, draw.choice(menu)) for number in range(1, count + 1)]


def _product(
    number: int, draw: Random, kinds: dict[tuple[str, bool], list[Product]], like: Product
) -> Product:
    kind = kinds[like.category, like.is_coffee]
    first, second = list(_words(like)), list(_words(draw.choice(kind)))
    name = " ".join([*first[: (len(first) + 1) // 2], *second[len(second) // 2 :]])
    price = draw.choice(kind).price * draw.uniform(0.9, 1.1)
    return Product(number, name, like.category, round(price, 2), like.is_coffee)


def _words(product: Product) -> Iterator[str]:
    return iter(product.name.split())
