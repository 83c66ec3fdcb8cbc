"""The text components of a product that was not there when they were fitted.

TF-IDF and SVD as `producer.text_components` fits them with scikit-learn, as numbers in a JSON file
(`text_model.json`), so that a new product gets its place among the old ones without a new fit.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from producer.text_components import COMPONENTS, DECIMALS, signs_of
from shared.arm_statistics import Floats

_FORMAT: Final = 1
_KEPT_DECIMALS: Final = 9
_WORD: Final = re.compile(r"\b\w\w+\b")  # TfidfVectorizer's


class TextModel(msgspec.Struct, frozen=True):
    """What was fitted."""

    words: list[str]
    idf: list[float]
    """Inverse document frequency of each word."""
    components: list[list[float]]
    """Of each word; `COMPONENTS` each."""
    format: int = _FORMAT

    def transform(self, text: str) -> list[float]:
        """The components of a text; words that the fit has not seen count for nothing."""
        column = {word: i for i, word in enumerate(self.words)}
        weights = np.zeros(len(self.words))
        for word, count in Counter(_WORD.findall(text.lower())).items():
            if word in column:
                weights[column[word]] = count * self.idf[column[word]]
        length = float(np.linalg.norm(weights))
        if length == 0.0:
            return [0.0] * COMPONENTS
        found: Floats = weights / length @ np.array(self.components)
        return [round(value, DECIMALS) + 0.0 for value in found.tolist()]


def fit(texts: Sequence[str]) -> TextModel:
    """Fit TF-IDF and SVD to all texts."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(min_df=1)
    weights = vectorizer.fit_transform(texts)
    svd = TruncatedSVD(COMPONENTS, algorithm="arpack", random_state=0)
    found = np.asarray(svd.fit_transform(weights), np.float64)
    components = np.asarray(svd.components_, np.float64).T * signs_of(found)
    return TextModel(
        vectorizer.get_feature_names_out().tolist(),
        _rounded(np.asarray(vectorizer.idf_, np.float64)).tolist(),
        _rounded(components).tolist(),
    )


def to_json(model: TextModel) -> str:
    """The model as a file."""
    return msgspec.json.encode(model).decode() + "\n"


def from_json(text: bytes) -> TextModel:
    """Read what `to_json` wrote.

    Raises:
        ValueError: it is something else.
    """
    model = msgspec.json.decode(text, type=TextModel)
    if model.format != _FORMAT:
        raise ValueError(f"format {model.format}, this software reads {_FORMAT}")
    if not len(model.words) == len(model.idf) == len(model.components):
        raise ValueError("words, weights and components are not of one length")
    return model


def _rounded(values: Floats) -> Floats:
    result: Floats = np.round(values, _KEPT_DECIMALS) + 0.0
    return result
