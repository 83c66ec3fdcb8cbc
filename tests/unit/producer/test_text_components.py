import importlib.util
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from producer.menu_features import catalogue, texts_of
from producer.text_components import (
    COMPONENTS,
    DECIMALS,
    TextWiserMissing,
    by_scikit_learn,
    by_textwiser,
    normalised,
)
from reco.commands.prepare import command

without_textwiser = pytest.mark.skipif(
    importlib.util.find_spec("textwiser") is not None, reason="the extra `text` is installed"
)


def test_the_sign_of_a_component_does_not_depend_on_who_computed_it() -> None:
    components = np.random.default_rng(4).normal(size=(30, 10))
    flipped = components * np.array([1, -1] * 5)
    np.testing.assert_array_equal(normalised(components), normalised(flipped))


def test_the_largest_of_a_component_is_positive_and_the_rest_keep_their_relation() -> None:
    result = normalised(np.array([[0.5, 0.1], [-2.0, 0.25], [1.0, -0.125]]))
    assert result.tolist() == [[-0.5, 0.1], [2.0, 0.25], [-1.0, -0.125]]


def test_the_last_bits_are_rounded_away_and_no_zero_is_negative() -> None:
    noise = 1e-13 * np.random.default_rng(4).normal(size=(20, 3))
    exact = np.round(np.random.default_rng(5).normal(size=(20, 3)), DECIMALS)
    np.testing.assert_array_equal(normalised(exact + noise), normalised(exact))
    [[_], [zero]] = normalised(np.array([[-1.0], [1e-9]])).tolist()
    assert repr(zero) == "0.0"


def test_texts_of_the_same_words_have_the_same_components() -> None:
    texts = texts_of(catalogue())
    reversed_words = " ".join(reversed(texts[0].split()))
    T = by_scikit_learn([*texts, reversed_words])
    assert T.shape == (len(texts) + 1, COMPONENTS)
    assert T.dtype == np.float64
    np.testing.assert_allclose(T[0], T[-1], atol=1e-12)


@without_textwiser
def test_textwiser_asked_for_but_not_installed_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TextWiserMissing, match="install the extra `text`"):
        by_textwiser(["flat white"])
    result = CliRunner().invoke(command, ["--out", str(tmp_path), "--text-by", "textwiser"])
    assert result.exit_code == 2
    assert "TextWiser is not installed: install the extra `text`" in result.stderr
    assert "Traceback" not in result.stderr
