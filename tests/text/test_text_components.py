"""TextWiser and scikit-learn must give the same text components (`make test-text`)."""

import importlib.util

import numpy as np
import pytest

from producer.prepare import catalogue
from producer.text_components import by_scikit_learn, by_textwiser, normalised, text_components
from shared.arm_statistics import Floats

pytestmark = [
    pytest.mark.text,
    pytest.mark.skipif(
        importlib.util.find_spec("textwiser") is None,
        reason="needs the extra `text`, which has an environment of its own: make test-text",
    ),
    pytest.mark.filterwarnings("ignore"),  # torch, flair and transformers warn at import
    pytest.mark.timeout(600),  # so does their import take its time
]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [f"{product.name} {product.category}" for product in catalogue()]


@pytest.fixture(scope="module")
def textwiser(texts: list[str]) -> Floats:
    return by_textwiser(texts)


def test_both_agree_up_to_the_sign_of_a_component(texts: list[str], textwiser: Floats) -> None:
    ours = by_scikit_learn(texts)
    assert ours.shape == textwiser.shape == (200, 10)
    signs = np.sign((ours * textwiser).sum(axis=0))
    np.testing.assert_allclose(ours, textwiser * signs, atol=1e-6)


def test_what_is_written_is_the_same_to_the_byte(texts: list[str], textwiser: Floats) -> None:
    assert normalised(textwiser).tolist() == normalised(by_scikit_learn(texts)).tolist()
    assert text_components(texts).tolist() == normalised(textwiser).tolist()
