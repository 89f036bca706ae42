"""Texts as vectors that were learned elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from automl import plugins, search_space
from automl.components import CATALOGUES
from automl.errors import ConfigError
from automl.preprocessing.saving import read, write
from automl.preprocessing.vectorisation import MODEL2VEC, SentenceVectors

plugins.load_builtin()


def model(folder: Path, n_vectors: int = 4) -> Path:
    """Writes a model of four tokens as model2vec does, and returns its folder."""
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "good": 1, "bad": 2, "film": 3}, "unk_token": "[UNK]"},
    }
    (folder / MODEL2VEC[0]).write_text(json.dumps(document))
    vectors = np.arange(n_vectors * 3, dtype=np.float32).reshape(n_vectors, 3)
    save_file({"embeddings": vectors}, folder / MODEL2VEC[1])
    return folder


def test_a_text_is_the_mean_of_its_tokens_with_or_without_the_folder(tmp_path: Path) -> None:
    texts = np.array(["Good film", "", "bad"], object)
    vectors = SentenceVectors(folder=str(model(tmp_path)), n_components=2).fit(texts)
    found = vectors.transform(texts)
    np.testing.assert_array_equal(found, [[6, 7], [0, 0], [6, 7]])
    write({"fitted": vectors}, tmp_path / "step.skops")
    for name in MODEL2VEC:
        (tmp_path / name).unlink()
    np.testing.assert_array_equal(read(tmp_path / "step.skops")["fitted"].transform(texts), found)


def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    texts = np.array(["good"], object)
    with pytest.raises(ConfigError, match="no vectors of tokens can be read"):
        SentenceVectors(folder=str(tmp_path)).fit(texts)
    with pytest.raises(ConfigError, match="one vector for each of the 4 tokens"):
        SentenceVectors(folder=str(model(tmp_path, n_vectors=3))).fit(texts)
    (tmp_path / MODEL2VEC[0]).write_text("{}")
    with pytest.raises(ConfigError, match="the tokenizer cannot be read"):
        SentenceVectors(folder=str(tmp_path)).fit(texts)


@pytest.mark.parametrize(
    ("folder", "told"), [("vectors", "Give the full path"), ("/nowhere/vectors", "nothing is downloaded")]
)
def test_a_folder_that_is_not_there_is_told_before_the_first_trial(folder: str, told: str) -> None:
    option = {"name": "sentence_vectors", "params": {"folder": folder}}
    space = search_space.SearchSpace.model_validate(
        {
            "version": 1,
            "preprocessing": [{"stage": "vectorisation", "options": [option]}],
            "network": ["mlp"],
            "optimizer": ["adamw"],
        }
    )
    problems = space.check(CATALOGUES, where="space.yaml")
    assert [problem.remedy for problem in problems if problem.where.endswith("folder") and told in problem.remedy]


def test_the_vectors_that_come_with_the_package_know_what_words_mean() -> None:
    texts = np.array(["A wonderful film.", "What a marvellous movie!", "Invoice for steel pipes"], object)
    film, movie, invoice = SentenceVectors(n_components=64).fit(texts).transform(texts)

    def cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

    assert cosine(film, movie) > 2 * cosine(film, invoice)
    assert cosine(film, movie) > 0.5
