"""What a product's text says, as a few numbers: TF-IDF, then SVD.

TextWiser does it where the extra `text` is installed, scikit-learn where it is not; `make
test-text` shows that both give the same, up to the sign of a component.
"""

import importlib
import warnings
from collections.abc import Sequence
from typing import Final

import numpy as np

from shared.arm_statistics import Floats

COMPONENTS: Final = 10
DECIMALS: Final = 6
"""Coarse enough to hide the last bits, in which linear algebra libraries differ."""


def text_components(texts: Sequence[str]) -> Floats:
    """N × 10 components of N texts, rounded, the largest number of each component positive."""
    try:
        components = by_textwiser(texts)
    except ImportError:
        components = by_scikit_learn(texts)
    return normalised(components)


def normalised(components: Floats) -> Floats:
    """The same components with a sign and a rounding that do not depend on who computed them."""
    largest = np.abs(components).argmax(axis=0)
    signs = np.sign(components[largest, np.arange(components.shape[1])])
    result: Floats = np.round(components * signs, DECIMALS) + 0.0  # and no negative zero
    return result


def by_scikit_learn(texts: Sequence[str]) -> Floats:
    """The components as scikit-learn computes them."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    weights = TfidfVectorizer(min_df=1).fit_transform(texts)
    svd = TruncatedSVD(COMPONENTS, algorithm="arpack", random_state=0)
    return np.asarray(svd.fit_transform(weights), np.float64)


def by_textwiser(texts: Sequence[str]) -> Floats:
    """The components as TextWiser computes them.

    Raises:
        ImportError: the extra `text` is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch and its company, at import
        textwiser = importlib.import_module("textwiser")
        wiser = textwiser.TextWiser(
            textwiser.Embedding.TfIdf(min_df=1),
            textwiser.Transformation.SVD(n_components=COMPONENTS),
            dtype=np.float64,
        )
        return np.asarray(wiser.fit_transform(list(texts)), np.float64)
