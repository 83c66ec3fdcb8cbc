"""What a product's text says, as a few numbers: TF-IDF, then SVD.

scikit-learn computes them, in double precision, so that the same seed gives the same bytes whatever
is installed. TextWiser, the prototype's library, gives the same up to the sign of a component and
its single precision (`make test-text`); with the extra `text` it can be chosen instead.
"""

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from shared.arm_statistics import Floats

COMPONENTS: Final = 10
DECIMALS: Final = 6
"""Coarse enough to hide the last bits, in which linear algebra libraries differ."""


class TextWiserMissing(Exception):
    """TextWiser was asked for, but the extra `text` is not installed."""


def normalised(components: Floats) -> Floats:
    """The same components with a sign and a rounding that do not depend on who computed them."""
    result: Floats = np.round(components * signs_of(components), DECIMALS) + 0.0  # and no -0
    return result


def signs_of(components: Floats) -> Floats:
    """What makes the largest value of each component positive."""
    largest = np.abs(components).argmax(axis=0)
    signs: Floats = np.sign(components[largest, np.arange(components.shape[1])])
    return signs


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
        TextWiserMissing: the extra `text` is not installed.
    """
    if importlib.util.find_spec("textwiser") is None:
        raise TextWiserMissing("TextWiser is not installed: install the extra `text`")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch and its company, at import
        textwiser = importlib.import_module("textwiser")
        wiser = textwiser.TextWiser(
            textwiser.Embedding.TfIdf(min_df=1),
            textwiser.Transformation.SVD(n_components=COMPONENTS),
            dtype=np.float64,
        )
        return np.asarray(wiser.fit_transform(list(texts)), np.float64)


BY: Final[dict[str, Callable[[Sequence[str]], Floats]]] = {
    "scikit-learn": by_scikit_learn,
    "textwiser": by_textwiser,
}
"""Who may compute them."""
