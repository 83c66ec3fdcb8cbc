"""A new product gets the text components that a fit with it in its place would have given."""

from pathlib import Path

import numpy as np
import pytest

from producer.menu_features import catalogue, texts_of
from producer.text_components import by_scikit_learn, normalised
from producer.text_model import fit, from_json, to_json


def test_the_products_it_was_fitted_to_get_their_own_components() -> None:
    texts = texts_of(catalogue())
    model = from_json(to_json(fit(texts)).encode())
    found = np.array([model.transform(text) for text in texts])
    np.testing.assert_allclose(found, normalised(by_scikit_learn(texts)), atol=1.5e-6)


def test_a_new_product_lies_near_those_whose_words_it_shares() -> None:
    products = catalogue()
    model = fit(texts_of(products))
    new = np.array(model.transform("Double Flat White Drinks & Desserts"))
    components = np.array([model.transform(text) for text in texts_of(products)])
    nearest = products[int(np.linalg.norm(components - new, axis=1).argmin())]
    assert nearest.category == "Drinks & Desserts"


def test_unknown_words_count_for_nothing_and_only_unknown_ones_give_zeros() -> None:
    model = fit(texts_of(catalogue()))
    assert model.transform("Flat White zzyzx") == model.transform("zzyzx flat white")
    assert model.transform("zzyzx") == [0.0] * 10


def test_the_prepared_folder_has_it(data_folder: Path) -> None:
    text = (data_folder / "text_model.json").read_bytes()
    assert from_json(text) == fit(texts_of(catalogue()))


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b'{"words":["a"],"idf":[],"components":[]}',
        b'{"words":[],"idf":[],"components":[],"format":2}',
    ],
)
def test_something_else_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|truncated|length|format|Input"):
        from_json(text)
