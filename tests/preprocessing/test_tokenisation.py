"""Texts as codes of their words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.data.dataset import make_dataset
from automl.errors import ConfigError
from automl.preprocessing.prefix_cache import PrefixCache
from automl.preprocessing.preprocessing import Preprocessing
from automl.preprocessing.tokenisation import _TOKEN, MAX_TOKENS, MIN_FOUND, N_CODES, BytePairs, HashedTokens
from automl.values import BlockSpec, Choice, ColumnKind, Dataset, Fold, Step


def codes(*texts: str, like: list[str] | None = None) -> list[list[int]]:
    found: list[list[int]] = (
        HashedTokens().fit(np.array(like or texts, object)).transform(np.array(texts, object)).tolist()
    )
    return found


def test_words_and_signs_are_tokens_whatever_their_case() -> None:
    first, second, third = codes("Don't go!", "don't GO !", "do not go")
    assert first == second
    assert len(set(first)) == 3
    assert third[2] == first[1]


def test_no_token_is_0_and_follows_the_end() -> None:
    short, empty, unknown = codes("a", "", "\u00e9\U0001f600 z", like=["a b c"])
    assert short[0] > 0
    assert short[1:] == empty[1:] == [0, 0]
    assert empty == [0, 0, 0]
    assert unknown[2] > 0


def test_a_text_is_cut_after_its_first_tokens() -> None:
    found = codes("a b c d", like=["a b"])
    assert found == [codes("a b")[0]]
    assert len(codes(" ".join(["word"] * 1000))[0]) == MAX_TOKENS


@given(st.lists(st.text(max_size=60), min_size=1, max_size=20))
def test_any_texts_have_codes_of_one_length(texts: list[str]) -> None:
    found = np.array(codes(*texts))
    assert found.shape[0] == len(texts)
    assert found.shape[1] >= 1
    assert found.min() >= 0
    assert found.max() <= N_CODES
    ends = (found == 0).argmax(axis=1)
    for row, end in zip(found, ends, strict=True):
        if (row == 0).any():
            assert (row[end:] == 0).all()


# --- pieces of words -----------------------------------------------------------------------------------------------


def pieces(pairs: BytePairs, text: str) -> list[str]:
    """Returns the pieces of a text, spelt out."""
    spelt = ["", "?", *pairs.letters_.tolist()]
    for left, right in pairs.pairs_.tolist():
        spelt.append(spelt[left] + spelt[right])
    return [spelt[code] for code in pairs.transform(np.array([text], object))[0] if code]


def test_what_is_often_side_by_side_is_one_piece() -> None:
    texts = np.array(["low lower", "lowest low", "newest widest"] * 5, object)
    pairs = BytePairs(n_codes=18).fit(texts)
    assert pieces(pairs, "low") == [" low"]
    assert pieces(pairs, "LOWEST") == [" low", "est"]
    assert pieces(pairs, "slow") == [" ", "s", "l", "ow"]  # `low` is the beginning of a word alone
    assert pairs.n_codes_ == 1 + 7 + 5  # beside the code of what is not known, letters and pairs
    assert pairs.transform(texts).max() <= pairs.n_codes_


def test_what_one_text_alone_or_few_say_is_no_piece() -> None:
    texts = ["the cat sat"] * MIN_FOUND + ["zyx"] + ["quartz"] * (MIN_FOUND - 1)
    pairs = BytePairs().fit(np.array([*texts, "zyxzyx " * 50], object))
    known = "".join(piece for word in ("the", "cat", "sat") for piece in pieces(pairs, word))
    assert set(pairs.letters_) == set(known)
    assert pieces(pairs, "quartz zyx") == [" ", "?", "?", "a", "?", "t", "?", " ", "?", "?", "?"]


@settings(max_examples=30)
@given(st.lists(st.text(alphabet="ab c\u00e9'.", max_size=30), min_size=1, max_size=30), st.integers(2, 40))
def test_any_texts_have_pieces_that_spell_them(texts: list[str], n_codes: int) -> None:
    given_texts = np.array(texts, object)
    pairs = BytePairs(n_codes=n_codes).fit(given_texts)
    found = pairs.transform(given_texts)
    assert found.shape == (len(texts), pairs.n_tokens_)
    assert 0 <= found.min() <= found.max() <= pairs.n_codes_ <= n_codes
    for text in texts:
        spelt = "".join(pieces(pairs, text))
        said = "".join(f" {word}" for word in _TOKEN.findall(text.lower()))[: len(spelt)]
        assert all(piece in ("?", letter) for piece, letter in zip(spelt, said, strict=True))


def reviews() -> Dataset:
    words = ["good", "bad", "long", "film", "very", "one", "more", "day"]
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, rng.integers(4, 9))) + f" {row}" for row in range(60)]
    frame = pd.DataFrame({"review": texts, "title": texts[::-1], "length": rng.normal(size=60), "y": [0, 1] * 30})
    frame.loc[5, "review"] = None
    return make_dataset(frame, target="y", name="t", source="s")


def test_networks_that_read_are_given_tokens_and_others_directions(tmp_path: Path) -> None:
    data, fold = reviews(), Fold(np.arange(40), np.arange(40, 60))
    for tokens in (True, False, True):  # the third time from the cache, which must tell the two apart
        walk = Preprocessing((), data.schema, seed=0, tokens=tokens)
        cache = PrefixCache(tmp_path, "rows", keep_all=True)
        train, _ = walk.fit_fold(data.features, data.target, fold, cache)
        kinds = {name: block.kind for name, block in walk.inputs.blocks.items()}
        numeric = {"numeric": "numeric"}
        assert kinds == (numeric | {"tokens": "tokens", "tokens_2": "tokens"} if tokens else numeric)
        if tokens:
            block = walk.inputs.blocks["tokens"]
            assert block == BlockSpec("tokens", (train.inputs["tokens"].shape[1],), (N_CODES + 1,))
            assert train.inputs["tokens"][5].tolist() == [0] * block.shape[0]  # a missing text has no word
            assert walk.transform(data.features.iloc[:0])["tokens"].dtype == np.int64
    walk.save(tmp_path / "walk.skops")
    loaded = Preprocessing.load(tmp_path / "walk.skops", data.schema)
    found, expected = (w.transform(data.features) for w in (loaded, walk))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert b"film" not in (tmp_path / "walk.skops").read_bytes()


@pytest.mark.parametrize("name", ["smotenc", "gan", "smote_tomek"])
def test_rows_without_words_are_refused_beside_networks_that_read(name: str) -> None:
    data = reviews()
    steps = [Step("resampling", Choice(name))]
    with pytest.raises(ConfigError, match=rf"`{name}` makes up rows, but no words .*\(`review`, `title`\)"):
        Preprocessing(steps, data.schema, seed=0, tokens=True)
    assert not Preprocessing.check([("resampling", [name])], data.schema)  # directions of texts are numbers
    rows = Preprocessing([Step("resampling", Choice("random_over"))], data.schema, seed=0, tokens=True)
    found, y = rows.fit_resample(data.features, data.target * (np.arange(60) % 3 == 1))
    assert len(found["tokens"]) == len(y) > 60


def test_rows_of_other_words_are_no_duplicates() -> None:
    texts = [f"{one} and {two}" for one in ("good", "bad", "dull") for two in ("long", "short", "loud")]
    frame = pd.DataFrame({"text": [*texts, *texts[:2]] * 2, "size": 1.0, "y": [0] * 11 + [1] * 11})
    frame["size"] = frame["y"] + 2.0  # alike in all rows of a class
    data = make_dataset(frame, target="y", name="t", source="t", kinds={"text": ColumnKind.TEXT})
    walk = Preprocessing([Step("cleaning", Choice("drop_duplicates"))], data.schema, seed=0, tokens=True)
    blocks, y = walk.fit_resample(data.features, data.target)
    assert len(y) == len(blocks["tokens"]) == 18


def test_a_step_says_how_texts_are_read() -> None:
    data = reviews()
    steps = [
        Step("tokenisation", Choice("byte_pairs", {"n_codes": 30})),
        Step("vectorisation", Choice("directions", {"n_components": 3})),
    ]
    read = {}
    for tokens in (True, False):
        walk = Preprocessing(steps, data.schema, seed=0, tokens=tokens)
        read[tokens], _ = walk.fit_resample(data.features, data.target)
        if tokens:
            assert walk.inputs.blocks["tokens"].cardinalities == (31,)
    assert 1 < read[True]["tokens"].max() <= 30
    assert read[False]["numeric"].shape[1] == 1 + 2 * 3


def test_texts_are_read_before_all_else() -> None:
    stages = [("scaling", ["standard"]), ("tokenisation", ["byte_pairs"])]
    (problem,) = Preprocessing.check(stages, reviews().schema)
    assert problem.where == "preprocessing.1.stage"
    assert "before all others" in problem.message
