"""TextWiser and scikit-learn must give the same text components (`make test-text`)."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from producer.menu_features import catalogue, texts_of
from producer.prepare import prepare
from producer.text_components import by_scikit_learn, by_textwiser

pytestmark = [
    pytest.mark.text,
    pytest.mark.skipif(
        importlib.util.find_spec("textwiser") is None,
        reason="needs the extra `text`, which has an environment of its own: make test-text",
    ),
    pytest.mark.filterwarnings("ignore"),  # torch, flair and transformers warn at import
    pytest.mark.timeout(600),  # so does their import take its time
]

SINGLE_PRECISION = 5e-5
"""TextWiser computes in single precision, and some singular values lie close together."""


def test_both_agree_up_to_the_sign_of_a_component() -> None:
    texts = texts_of(catalogue())
    ours, theirs = by_scikit_learn(texts), by_textwiser(texts)
    assert ours.shape == theirs.shape == (200, 10)
    signs = np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours, theirs * signs, rtol=0, atol=SINGLE_PRECISION)


def test_prepare_with_textwiser_writes_the_same_columns(tmp_path: Path) -> None:
    prepare(tmp_path / "a", 1)
    prepare(tmp_path / "b", 1, "textwiser")
    ours, theirs = (
        np.loadtxt(tmp_path / name / "product_features.csv", delimiter=",", skiprows=1)
        for name in "ab"
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=SINGLE_PRECISION)
