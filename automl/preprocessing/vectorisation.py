"""Texts as columns of numbers, for networks that do not read them."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from automl.components import register
from automl.errors import ConfigError
from automl.preprocessing.encoding import TEXT_COLUMNS, TextDirections
from automl.preprocessing.limits import within
from automl.values import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Where the package wordllama keeps its tokens and their vectors, beside where it is installed.
WORDLLAMA = ("wordllama/tokenizers/l2_supercat_tokenizer_config.json", "wordllama/weights/l2_supercat_256.safetensors")

#: The same of a folder that model2vec writes.
MODEL2VEC = ("tokenizer.json", "model.safetensors")


@register("vectorisation")
def directions(task: Task, *, n_components: int = TEXT_COLUMNS) -> TextDirections:
    """Gives the main directions of the TF-IDF weights of words (latent semantic analysis).

    Args:
        task: Not looked at.
        n_components: Directions at most; there are fewer where there are fewer training rows.
    """
    within("vectorisation.directions.n_components", n_components, 1, 2**14)
    return TextDirections(n_components=n_components)


@register("vectorisation", "package:wordllama", "path:folder")
def sentence_vectors(task: Task, *, folder: str = "", n_components: int = 128) -> SentenceVectors:
    """Gives the mean of vectors that tokens were given elsewhere, on many texts.

    Args:
        task: Not looked at.
        folder: Of a model that model2vec wrote: `tokenizer.json` and `model.safetensors`; empty: the model that comes
            with the package wordllama. Nothing is downloaded.
        n_components: How much of each vector is kept, from its beginning, which in these models says most.

    Miller 2024, "WordLlama: recycled token embeddings from large language models"; Tulkens and van Dongen 2024,
    "Model2Vec: fast state-of-the-art static embeddings".
    """
    within("vectorisation.sentence_vectors.n_components", n_components, 1, 4096)
    return SentenceVectors(folder=folder, n_components=n_components)


class SentenceVectors(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Means of vectors of tokens. What is fitted holds them, so that a saved model needs no file of theirs.

    Args:
        folder, n_components: As of `sentence_vectors`.

    Attributes:
        tokenizer_: What cuts texts into tokens, as JSON of the package tokenizers.
        vectors_: One of each token; (tokens, n_components), float16.
    """

    #: What `transform` needs beside what every model does.
    packages = ("tokenizers",)

    def __init__(self, *, folder: str = "", n_components: int = 128) -> None:
        self.folder = folder
        self.n_components = n_components

    def fit(self, X: NDArray[np.object_], y: object = None) -> SentenceVectors:
        """Learns nothing of the texts X; reads the model.

        Raises:
            ConfigError: There is none, or it cannot be read.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        names = MODEL2VEC if self.folder else WORDLLAMA
        root = Path(self.folder).expanduser() if self.folder else Path(str(_distribution().locate_file("")))
        try:
            text = (root / names[0]).read_text(encoding="utf-8")
            vectors = [array for array in load_file(root / names[1]).values() if array.ndim == 2]
            self.tokenizer_ = _tokenizer(text).to_str()
        except (OSError, ValueError, SafetensorError) as error:
            raise ConfigError(
                f"no vectors of tokens can be read from `{root}`: {error}",
                where="vectorisation.sentence_vectors.folder",
                remedy=f"A folder that model2vec wrote has `{MODEL2VEC[0]}` and `{MODEL2VEC[1]}`.",
            ) from error
        n_tokens = _tokenizer(self.tokenizer_).get_vocab_size()
        if len(vectors) != 1 or len(vectors[0]) < n_tokens:
            raise ConfigError(
                f"`{root / names[1]}` does not hold one vector for each of the {n_tokens:,} tokens",
                where="vectorisation.sentence_vectors.folder",
                remedy="Name a folder that model2vec wrote, of a model with a vector a token.",
            )
        self.vectors_ = vectors[0][:, : self.n_components].astype(np.float16)
        return self

    def transform(self, X: NDArray[np.object_]) -> NDArray[np.float64]:
        """Returns the vectors of the texts X, shaped (rows,), 0 of a text without tokens; (rows, n_components)."""
        tokenizer = _tokenizer(self.tokenizer_)
        made = np.zeros((len(X), self.vectors_.shape[1]))
        for row, encoded in enumerate(tokenizer.encode_batch(X.tolist(), add_special_tokens=False)):
            if encoded.ids:
                made[row] = self.vectors_[encoded.ids].mean(axis=0, dtype=np.float64)
        return made


def _distribution() -> metadata.Distribution:
    """Returns where the package with vectors of its own is.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return metadata.distribution("wordllama")
    except metadata.PackageNotFoundError:
        raise ConfigError(
            "`sentence_vectors` needs the package `wordllama`, which is not installed",
            where="vectorisation",
            remedy="Install it: pip install wordllama",
        ) from None


def _tokenizer(text: str) -> Any:
    """Returns what cuts texts into tokens.

    Raises:
        ConfigError: The package for it is not installed.
        ValueError: The text is not what it was made from.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ConfigError(
            "the vectors of texts need the package `tokenizers`, which is not installed",
            remedy="Install it: pip install tokenizers",
        ) from None
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # it raises nothing narrower
        raise ValueError(f"the tokenizer cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
