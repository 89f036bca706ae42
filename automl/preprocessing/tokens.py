"""Texts as rows of token codes, for networks that read them word by word."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import murmurhash3_32

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A word, with what an apostrophe hangs on it, or a sign.
_TOKEN = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")

#: Codes that tokens fall into, and tokens of a text that are kept: its first ones.
N_CODES, MAX_TOKENS = 2**15, 256

#: Share of the training texts that are kept whole, as far as `MAX_TOKENS` allows.
WHOLE = 0.99


class HashedTokens(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Words and signs of one text column as codes from 1 on; 0 follows the end.

    Tokens are hashed, not listed: a saved model then holds no word of a training text, and no word is unknown.

    Attributes:
        n_tokens_: Codes of a row.
    """

    def fit(self, X: NDArray[np.object_], y: object = None) -> HashedTokens:
        """Learns how long the texts X are; (rows,)."""
        lengths = [len(_TOKEN.findall(text)) for text in X]
        self.n_tokens_ = int(min(max(1, np.quantile(lengths, WHOLE)), MAX_TOKENS))
        return self

    def transform(self, X: NDArray[np.object_]) -> NDArray[np.int64]:
        """Returns the codes of the texts X, shaped (rows,); (rows, tokens)."""
        codes = np.zeros((len(X), self.n_tokens_), np.int64)
        known: dict[str, int] = {}
        for row, text in enumerate(X):
            tokens = _TOKEN.findall(text.lower())[: self.n_tokens_]
            for token in tokens:
                if token not in known:
                    known[token] = 1 + murmurhash3_32(token, positive=True) % N_CODES
            codes[row, : len(tokens)] = [known[token] for token in tokens]
        return codes
