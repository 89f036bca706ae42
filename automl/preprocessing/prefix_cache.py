"""Fitted beginnings of preprocessing on disk, so that trials of a study that begin alike fit that once.

An entry is what the walk has after some steps: the training rows and the validation rows as these steps leave them,
and the fitted transformers. Its name is a digest of everything that it depends on, so it is never out of date. It holds
rows of the search part alone, lies in the study's folder, and nothing of it goes into a model.

The folder may be deleted at any time, also while trials run: what is not there is computed anew. So is what is damaged,
half written, or taken away by another process while it is read. A full disk only means that nothing is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from automl.preprocessing.saving import read, write
from automl.values import Step

#: Part of every digest; to be raised when entries look otherwise or the walk does something else between two steps.
FORMAT = 1

#: What a study's cache may take of the disk. Room for some hundred beginnings of a table that fits a laptop.
MAX_BYTES = 2**30

#: And of what is free there, so that the cache is not what fills the disk.
MAX_SHARE_OF_FREE = 0.1

#: Entries are looked through one by one when room is made; more than this would take longer than they save.
MAX_ENTRIES = 500

#: An entry pays when computing it took longer than reading a fitted step takes, and writing the rows to a slow disk;
#: and longer than the entry before it took, which it holds once more: an iterative imputer takes skops half a second.
MIN_SECONDS, BYTES_PER_SECOND = 0.03, 200e6

#: How numbers are told from arrays of strings, which are kept as codes and a list of words: no pickle.
_CODES, _WORDS = " codes", " words"


class PrefixCache:
    """The fitted beginnings of preprocessing over the training and validation rows of one fold.

    Args:
        folder: Made where it does not exist; shared by all folds and trials of a study.
        rows: Names the rows: equal only where table, schema, splits and fold are the same.
        max_bytes: What all entries together may take.
        keep_all: Whether to keep what is computed faster than it is kept, too.
    """

    def __init__(self, folder: Path, rows: str, *, max_bytes: int = MAX_BYTES, keep_all: bool = False) -> None:
        self._folder = folder
        self._rows = rows
        self._max_bytes = max_bytes
        self._keep_all = keep_all
        self._last_s = 0.0  # what reading or writing the last entry took

    def load(self, steps: Sequence[Step], seed: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
        """Returns what `store` was given for these steps; None where nothing usable is there.

        Processes that load an entry share its memory. The arrays may be written to: that changes a private copy.
        """
        entry = self._entry(steps, seed)
        if not entry.is_dir():
            return None
        since = time.perf_counter()
        try:
            document = read(entry / "document.skops")
            files = {name: _open(entry / f"{name}.npy", check) for name, check in document["checks"].items()}
            arrays = _from_plain(files)
        except Exception:  # whatever a damaged or vanishing file leads to: without the entry all goes on as well
            self._remove(entry)
            return None
        with contextlib.suppress(OSError):
            os.utime(entry)  # it was used: others go first
        self._last_s = time.perf_counter() - since
        return document, arrays

    def store(
        self,
        steps: Sequence[Step],
        seed: int,
        document: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]],
        seconds: float,
    ) -> bool:
        """Keeps what the walk has after these steps, where that pays; returns whether it is there now.

        Args:
            document: What `saving.write` can write.
            arrays: By names that are good for files; numbers, or strings as objects.
            seconds: What it took to compute this.
        """
        n_bytes = sum(array.nbytes for array in arrays.values())
        if not self._keep_all and seconds < MIN_SECONDS + n_bytes / BYTES_PER_SECOND + self._last_s:
            return False
        entry, temporary = self._entry(steps, seed), None
        if entry.is_dir():
            return True
        since = time.perf_counter()
        try:
            files = _to_plain(arrays)
            self._folder.mkdir(parents=True, exist_ok=True)
            if files is None or not self._make_room(sum(array.nbytes for array in files.values())):
                return False
            temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=self._folder))
            for name, array in files.items():
                np.save(temporary / f"{name}.npy", array, allow_pickle=False)
            checks = {name: _checksum(temporary / f"{name}.npy") for name in files}
            write({**document, "checks": checks}, temporary / "document.skops")
            temporary.rename(entry)
        except Exception:  # a full disk, a step that cannot be written, another process that was faster
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
            return False
        self._last_s = time.perf_counter() - since
        return True

    def _entry(self, steps: Sequence[Step], seed: int) -> Path:
        plain = [[step.stage, step.choice.name, dict(step.choice.params)] for step in steps]
        key = json.dumps([FORMAT, self._rows, seed, plain], sort_keys=True)
        return self._folder / hashlib.sha256(key.encode()).hexdigest()

    def _make_room(self, n_bytes: int) -> bool:
        """Removes the least recently used entries until `n_bytes` more may come; returns whether they may."""
        entries = []
        for path in self._folder.iterdir():  # with what killed processes have left half written or half removed
            with contextlib.suppress(OSError):
                entries.append((path.stat().st_mtime_ns, sum(file.stat().st_size for file in path.iterdir()), path))
        entries.sort(reverse=True)
        used = sum(size for _, size, _ in entries)
        limit = min(self._max_bytes, int(MAX_SHARE_OF_FREE * (shutil.disk_usage(self._folder).free + used)))
        while entries and n_bytes <= limit and (used + n_bytes > limit or len(entries) >= MAX_ENTRIES):
            _, size, oldest = entries.pop()
            self._remove(oldest)
            used -= size
        return n_bytes <= limit

    def _remove(self, entry: Path) -> None:
        # Renamed first: nobody shall find half of it.
        gone = entry.with_name(f".gone-{os.getpid()}-{entry.name.lstrip('.')}")
        with contextlib.suppress(OSError):
            shutil.rmtree(entry.rename(gone), ignore_errors=True)


def _to_plain(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]] | None:
    """Returns arrays that can be written without pickle and read in the same order of memory; None if one cannot.

    The order of memory matters: sums over the same numbers in another order differ in their last bits.
    """
    plain: dict[str, NDArray[Any]] = {}
    for name, array in arrays.items():
        if array.dtype == object:
            codes, words = pd.factorize(array.ravel())
            if not all(type(word) is str for word in words) or (codes < 0).any():
                return None
            plain[name + _CODES] = codes.astype(np.int32).reshape(array.shape)
            plain[name + _WORDS] = np.frombuffer(json.dumps(words.tolist()).encode(), np.uint8)
        elif array.dtype.kind in "biuf" and (array.flags.c_contiguous or array.flags.f_contiguous):
            plain[name] = array
        else:
            return None
    return plain


def _from_plain(files: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Returns what `_to_plain` was given."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, array in files.items():
        if name.endswith(_CODES):
            stem = name.removesuffix(_CODES)
            words = json.loads(files[stem + _WORDS].tobytes())
            arrays[stem] = np.array(words, dtype=object)[array]
        elif not name.endswith(_WORDS):
            arrays[name] = array
    return arrays


def _open(path: Path, check: int) -> NDArray[Any]:
    """Returns the array in a file, mapped into memory.

    Raises:
        ValueError: It is not what was written. After a loss of power, files may be there whose content is not.
    """
    if _checksum(path) != check:
        raise ValueError(f"{path} is damaged")
    # "c", copy on write, rather than "r": a step that writes into what it is given works as it does without the cache,
    # and the file stays as it is. A plain array on the map, since skops does not save steps that hold a `memmap`.
    return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))


def _checksum(path: Path) -> int:
    return zlib.crc32(np.memmap(path, np.uint8, "r").data)
