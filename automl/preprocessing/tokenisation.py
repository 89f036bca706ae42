"""Texts as rows of token codes, for networks that read them in their order."""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import murmurhash3_32

from automl.components import register
from automl.preprocessing.limits import within
from automl.values import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A word, with what an apostrophe hangs on it, or a sign.
_TOKEN = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")

#: Codes that words fall into, and codes of a text that are kept: its first ones.
N_CODES, MAX_TOKENS = 2**15, 256

#: Share of the training texts that are kept whole, as far as `MAX_TOKENS` allows.
WHOLE = 0.99

#: Training texts that a word must occur in before its pieces count, and how often a piece must be found in such words.
MIN_TEXTS, MIN_FOUND = 2, 10

#: Words that pieces are learned from: the most frequent.
MAX_WORDS = 20_000


@register("tokenisation")
def hashed_words(task: Task, *, n_codes: int = N_CODES) -> HashedTokens:
    """Gives words and signs the codes that they are hashed to.

    Args:
        task: Not looked at.
        n_codes: To hash to; words that share one are the same for a network.
    """
    within("tokenisation.hashed_words.n_codes", n_codes, 2, 2**20)
    return HashedTokens(n_codes=n_codes)


@register("tokenisation")
def byte_pairs(task: Task, *, n_codes: int = 4000) -> BytePairs:
    """Gives frequent pieces of words codes, so that a rare word is read by its parts.

    Args:
        task: Not looked at.
        n_codes: Of pieces at most, single letters and what is not known among them.

    Byte-pair encoding, here of letters: Sennrich, Haddow and Birch 2016, arXiv 1508.07909.
    """
    within("tokenisation.byte_pairs.n_codes", n_codes, 2, 2**16)
    return BytePairs(n_codes=n_codes)


class HashedTokens(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Words and signs of one text column as codes from 1 on; 0 follows the end.

    Tokens are hashed, not listed: a saved model then holds no word of a training text, and no word is unknown.

    Args:
        n_codes: To hash to.

    Attributes:
        n_tokens_: Codes of a row.
        n_codes_: The largest code.
    """

    def __init__(self, *, n_codes: int = N_CODES) -> None:
        self.n_codes = n_codes

    def fit(self, X: NDArray[np.object_], y: object = None) -> HashedTokens:
        """Learns how long the texts X are; (rows,)."""
        self.n_codes_ = self.n_codes
        self.n_tokens_ = _usual_length([len(_TOKEN.findall(text)) for text in X])
        return self

    def transform(self, X: NDArray[np.object_]) -> NDArray[np.int64]:
        """Returns the codes of the texts X, shaped (rows,); (rows, tokens)."""
        codes = np.zeros((len(X), self.n_tokens_), np.int64)
        known: dict[str, int] = {}
        for row, text in enumerate(X):
            tokens = _TOKEN.findall(text.lower())[: self.n_tokens_]
            for token in tokens:
                if token not in known:
                    known[token] = 1 + murmurhash3_32(token, positive=True) % self.n_codes
            codes[row, : len(tokens)] = [known[token] for token in tokens]
        return codes


class BytePairs(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Pieces of the words of one text column as codes from 2 on; 1 is a letter that is not known, 0 follows the end.

    Pieces grow out of letters: the two that are most often neighbours become one, again and again. Words of a single
    training text take no part in that, and a piece is found ten times at least, so that a saved model holds no name.

    Args:
        n_codes: Of pieces at most, letters and what is not known among them.

    Attributes:
        n_tokens_: Codes of a row.
        n_codes_: The largest code.
        letters_: Those that are known, the blank before a word among them.
        pairs_: Codes of the two pieces that become one, whose code is one more than that of the pair before;
            (pairs, 2).
    """

    def __init__(self, *, n_codes: int = 4000) -> None:
        self.n_codes = n_codes

    def fit(self, X: NDArray[np.object_], y: object = None) -> BytePairs:
        """Learns pieces, and how long texts are in pieces, from the texts X; (rows,)."""
        n_texts = Counter(word for text in X for word in dict.fromkeys(_TOKEN.findall(text.lower())))
        words = [(word, n) for word, n in n_texts.most_common(MAX_WORDS) if n >= MIN_TEXTS]
        found: Counter[str] = Counter()
        for word, n in words:
            found.update(dict.fromkeys(_letters(word), n))
        frequent = [letter for letter, n in found.most_common(self.n_codes - 1) if n >= MIN_FOUND]
        self.letters_ = np.array(sorted(frequent), dtype=np.str_)
        known = {letter: 2 + number for number, letter in enumerate(self.letters_.tolist())}
        spelt = [[known.get(letter, 1) for letter in _letters(word)] for word, _ in words]
        first = 2 + len(known)
        self.pairs_ = _learned(spelt, [n for _, n in words], first, max(0, self.n_codes + 1 - first))
        self.n_codes_ = 1 + len(self.letters_) + len(self.pairs_)
        self.n_tokens_ = _usual_length([len(codes) for codes in self._codes(X)])
        return self

    def transform(self, X: NDArray[np.object_]) -> NDArray[np.int64]:
        """Returns the codes of the texts X, shaped (rows,); (rows, tokens)."""
        made = np.zeros((len(X), self.n_tokens_), np.int64)
        for row, codes in enumerate(self._codes(X)):
            kept = codes[: self.n_tokens_]
            made[row, : len(kept)] = kept
        return made

    def _codes(self, X: NDArray[np.object_]) -> list[list[int]]:
        """Returns the codes of each text, as many as it has."""
        letters = {letter: 2 + number for number, letter in enumerate(self.letters_.tolist())}
        first = 2 + len(letters)
        pairs = {(left, right): first + number for number, (left, right) in enumerate(self.pairs_.tolist())}
        known: dict[str, list[int]] = {}
        codes = []
        for text in X:
            words = _TOKEN.findall(text.lower())
            for word in words:
                if word not in known:
                    known[word] = _joined([letters.get(letter, 1) for letter in _letters(word)], pairs)
            codes.append([code for word in words for code in known[word]])
        return codes


def _usual_length(lengths: Sequence[int]) -> int:
    """Returns the codes that a row is given."""
    return int(min(max(1, np.quantile(lengths, WHOLE)), MAX_TOKENS))


def _letters(word: str) -> list[str]:
    """Returns the letters of a word, with a blank before them: pieces that begin words are others."""
    return [" ", *word]


def _learned(words: list[list[int]], counts: list[int], first: int, n_pairs: int) -> NDArray[np.int64]:
    """Returns the pairs that become one, in this order; (pairs, 2).

    Args:
        words: Codes of the letters of each, which are changed on the way.
        counts: How often each is found.
        first: Code of the first pair.
        n_pairs: To be learned at most.
    """
    found: Counter[tuple[int, int]] = Counter()
    where: defaultdict[tuple[int, int], set[int]] = defaultdict(set)  # words that a pair may be in
    for number, word in enumerate(words):
        for pair in pairwise(word):
            found[pair] += counts[number]
            where[pair].add(number)
    waiting = [(-n, pair) for pair, n in found.items()]  # the most frequent first, of equal ones the lowest codes
    heapq.heapify(waiting)
    learned: list[tuple[int, int]] = []
    while waiting and len(learned) < n_pairs:
        n, pair = heapq.heappop(waiting)
        if -n != found[pair]:  # it was counted anew
            continue
        if -n < MIN_FOUND:
            break
        if 1 in pair:  # what is not known is no piece
            continue
        made = {pair: first + len(learned)}
        learned.append(pair)
        changed = set()
        for number in where.pop(pair):
            word = words[number]
            for each in pairwise(word):
                found[each] -= counts[number]
                changed.add(each)
            words[number] = word = _joined(word, made)
            for each in pairwise(word):
                found[each] += counts[number]
                where[each].add(number)
                changed.add(each)
        for each in changed - {pair}:
            if found[each]:
                heapq.heappush(waiting, (-found[each], each))
    return np.array(learned, dtype=np.int64).reshape(-1, 2)


def _joined(codes: list[int], pairs: dict[tuple[int, int], int]) -> list[int]:
    """Returns codes with neighbours that are a pair as one, those that were learned first before others."""
    while len(codes) > 1:
        best = min((pairs.get(pair, 2**62), pair) for pair in pairwise(codes))
        if best[0] == 2**62:
            break
        joined, position = [], 0
        while position < len(codes):
            is_pair = tuple(codes[position : position + 2]) == best[1]
            joined.append(best[0] if is_pair else codes[position])
            position += 1 + is_pair
        codes = joined
    return codes
