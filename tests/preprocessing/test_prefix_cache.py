"""With a cache that is empty, full, damaged, taken away or fought over, and without one: the same, bit for bit."""

from __future__ import annotations

import functools
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from automl.data.dataset import make_dataset
from automl.errors import DataError
from automl.preprocessing.prefix_cache import MIN_SECONDS, PrefixCache
from automl.preprocessing.preprocessing import Preprocessing
from automl.testing import PLAIN_TASKS, boring_table
from automl.values import Choice, Dataset, Fold, Part, Step, Task

OPTIONS = {
    "cleaning": ["none", "drop_duplicates", "near_duplicates"],
    "imputation": ["drop_rows", "median", "most_frequent", "knn", "iterative"],
    "encoding": ["ordinal", "onehot", "onehot_small", "target", "hashed"],
    "clipping": ["none", "clip_iqr"],
    "scaling": ["none", "standard", "quantile", "robust_smooth_clip", "power"],
    "resampling": ["none", "random_over", "random_under", "smote", "smotenc", "tomek", "smote_enn"],
    "selection": ["none", "variance", "mutual_information", "correlation"],
    "reduction": ["none", "pca", "truncated_svd", "kernel_pca", "fast_ica"],
}
FOLD = Fold(np.arange(0, 160, 2), np.arange(1, 160, 2))
STEPS = [
    Step("imputation", Choice("most_frequent", {"indicators": True})),
    Step("encoding", Choice("target", {"smooth": 3.0})),
    Step("scaling", Choice("quantile")),
]


@functools.cache
def table(task: Task, *, text: bool = False) -> Dataset:
    frame = boring_table(task, n_rows=160)
    kept = frame if text else frame.drop(columns="remark")
    return make_dataset(kept, target="target", task=task, name="boring", source="made up")


def garbage(features: pd.DataFrame) -> pd.DataFrame:
    """Returns a frame in which nothing can be looked up: who reads a row of it fails."""
    return features.iloc[:0]


def fitted(
    steps: list[Step], cache: PrefixCache | None, *, data: Dataset | None = None, blind: bool = False, seed: int = 7
) -> tuple[Any, ...]:
    """Returns all that comes of fitting, in bytes; `blind` takes the rows away, so that the cache must have it all.

    The fitted steps are compared as they are shipped: skops gives some arrays another order of memory than they were
    fitted with, so that what a loaded step makes of rows may differ in its last bits from what the fitted one does.
    """
    data = data or table(Task.BINARY)
    preprocessing = Preprocessing(steps, data.schema, seed=seed)
    features = garbage(data.features) if blind else data.features
    parts = preprocessing.fit_fold(features, data.target, FOLD, cache)
    with tempfile.TemporaryDirectory() as scratch:
        preprocessing.save(Path(scratch) / "saved.skops")
        shipped = Preprocessing.load(Path(scratch) / "saved.skops", data.schema)
    return (*map(plain, parts), raw(shipped.transform(data.features)), preprocessing.notes, preprocessing.inputs)


def plain(part: Part) -> tuple[Any, ...]:
    return raw(part.inputs), part.target.dtype, part.target.tobytes()


def raw(blocks: Any) -> dict[str, tuple[Any, ...]]:
    return {name: (block.dtype, block.shape, block.tobytes()) for name, block in blocks.items()}


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def cache(tmp_path: Path) -> PrefixCache:
    return PrefixCache(tmp_path / "cache", "rows", keep_all=True)


# --- the same with and without -------------------------------------------------------------------------------------


@st.composite
def chains(draw: st.DrawFn) -> list[Step]:
    # In the usual order, as the checks then refuse few: what stands before encoding travels as strings.
    stages = [stage for stage in OPTIONS if stage in ("imputation", "encoding") or draw(st.booleans())]
    return [Step(stage, Choice(draw(st.sampled_from(OPTIONS[stage])))) for stage in stages]


@pytest.mark.slow
# Not shrunk: two chains are short enough to read, and shrinking them takes minutes.
@settings(max_examples=12, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(chain=chains(), other=chains(), task=st.sampled_from(PLAIN_TASKS), seed=st.integers(0, 9))
def test_an_empty_cache_a_full_one_and_none_give_the_same(
    tmp_path_factory: pytest.TempPathFactory, chain: list[Step], other: list[Step], task: Task, seed: int
) -> None:
    data = table(task)
    folder = tmp_path_factory.mktemp("cache")
    cache = PrefixCache(folder, "rows", keep_all=True)
    for steps in (chain, other):  # the second finds what of the first is the same
        if Preprocessing.check([(step.stage, [step.choice.name]) for step in steps], data.schema):
            continue
        try:
            expected = fitted(steps, None, data=data, seed=seed)
        except DataError:
            with pytest.raises(DataError):
                fitted(steps, cache, data=data, seed=seed)
            continue
        assert fitted(steps, cache, data=data, seed=seed) == expected
        assert fitted(steps, cache, data=data, seed=seed, blind=True) == expected
    shutil.rmtree(folder)


def test_texts_are_kept_with_the_strings_beside_them(cache: PrefixCache, tmp_path: Path) -> None:
    data = table(Task.MULTICLASS, text=True)
    steps = [Step("imputation", Choice("mean")), Step("resampling", Choice("smotenc"))]
    expected = fitted(steps, None, data=data)
    assert fitted(steps, cache, data=data) == expected
    assert len(entries(tmp_path / "cache")) == 4  # after the texts, imputation, encoding, resampling
    assert fitted(steps, cache, data=data, blind=True) == expected


@pytest.mark.parametrize("task", PLAIN_TASKS)
def test_a_fold_is_what_fitting_and_transforming_give(task: Task) -> None:
    data = table(task)
    one, other = (Preprocessing(STEPS, data.schema, seed=0) for _ in range(2))
    train, val = one.fit_fold(data.features, data.target, FOLD)
    rows, y = other.fit_resample(data.features.iloc[FOLD.train], data.target[FOLD.train])
    assert (raw(train.inputs), train.target.tobytes()) == (raw(rows), y.tobytes())
    assert raw(val.inputs) == raw(other.transform(data.features.iloc[FOLD.val]))
    assert one.notes == other.notes


def test_no_validation_rows_are_no_rows(cache: PrefixCache, tmp_path: Path) -> None:
    data = table(Task.BINARY)
    empty = Fold(FOLD.train, FOLD.val[:0])
    _, val = Preprocessing(STEPS, data.schema, seed=0).fit_fold(data.features, data.target, empty, cache)
    assert {name: len(block) for name, block in val.inputs.items()} == {"numeric": 0}
    assert entries(tmp_path / "cache") == []


# --- what is found -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "seed", "steps"),
    [
        ("other rows", 0, STEPS[:1]),
        ("rows", 1, STEPS[:1]),
        ("rows", 0, []),
        ("rows", 0, STEPS[:2]),
        ("rows", 0, [Step("imputation", Choice("most_frequent"))]),
        ("rows", 0, [Step("imputation", Choice("median", {"indicators": True}))]),
    ],
)
def test_nothing_else_is_found(tmp_path: Path, rows: str, seed: int, steps: list[Step]) -> None:
    cache = PrefixCache(tmp_path, "rows")
    assert cache.store(STEPS[:1], 0, {"notes": ["a"]}, {"x": np.arange(3.0)}, seconds=9)
    assert cache.load(STEPS[:1], 0) is not None
    assert PrefixCache(tmp_path, rows).load(steps, seed) is None


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([[np.nan, -0.0], [np.inf, 5e-324]]),
        np.array([2**62, -1]),
        np.array([["a\0", "größe"], ["", "\ud800"]], dtype=object),
    ],
)
def test_arrays_come_back_as_they_were_in_the_same_order_of_memory(tmp_path: Path, array: np.ndarray) -> None:
    cache = PrefixCache(tmp_path, "rows")
    assert cache.store([], 0, {}, {"x": array}, seconds=9)
    found = cache.load([], 0)
    assert found is not None
    back = found[1]["x"]
    assert type(back) is np.ndarray
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    if array.dtype == object:
        assert back.tolist() == array.tolist()
    else:
        assert (back.strides, back.tobytes()) == (array.strides, array.tobytes())


@pytest.mark.parametrize("array", [np.arange(9.0).reshape(3, 3)[:, :2], np.array([None]), np.array([1], dtype=object)])
def test_what_would_come_back_otherwise_is_not_kept(tmp_path: Path, array: np.ndarray) -> None:
    assert not PrefixCache(tmp_path, "rows").store([], 0, {}, {"x": array}, seconds=9)
    assert entries(tmp_path) == []


def test_writing_into_what_is_found_changes_nobody_elses(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path, "rows")
    cache.store([], 0, {}, {"x": np.arange(3.0)}, seconds=9)
    for _ in range(2):
        found = cache.load([], 0)
        assert found is not None
        assert found[1]["x"].tolist() == [0, 1, 2]
        assert isinstance(found[1]["x"].base, np.memmap)
        found[1]["x"] *= 5


def test_what_is_computed_faster_than_kept_is_not_kept(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path, "rows")
    assert not cache.store([], 0, {}, {"x": np.zeros(1)}, seconds=0.9 * MIN_SECONDS)
    assert not cache.store([], 0, {}, {"x": np.zeros(10_000_000)}, seconds=0.3)
    many = {"fitted": [StandardScaler() for _ in range(300)]}
    assert cache.store([], 0, many, {"x": np.zeros(1)}, seconds=9)
    assert not cache.store(STEPS, 0, many, {"x": np.zeros(1)}, seconds=1.5 * MIN_SECONDS)  # reading it takes longer


# --- what goes wrong -----------------------------------------------------------------------------------------------


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def spoil(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for position in range(len(content) // 3, len(content), 40):
        content[position] ^= 0x55
    file.write_bytes(content)


def zero(file: Path) -> None:
    """Leaves what a loss of power may leave: a file of the right size without content."""
    file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, empty, spoil, zero, Path.unlink])
@pytest.mark.parametrize("name", ["*.npy", "train *.npy", "target.npy", "document.skops"])
def test_a_damaged_entry_is_computed_anew(
    cache: PrefixCache, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    expected = fitted(STEPS, cache)
    n_entries = len(entries(tmp_path / "cache"))
    files = list((tmp_path / "cache").glob(f"*/{name}"))
    assert len(files) >= n_entries
    for file in files:
        damage(file)
    assert fitted(STEPS, cache) == expected
    assert len(entries(tmp_path / "cache")) == n_entries
    assert fitted(STEPS, cache, blind=True) == expected  # whole again


def test_what_is_not_trusted_is_not_loaded(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path, "rows")
    cache.store([], 0, {"fitted": [print]}, {"x": np.zeros(1)}, seconds=9)
    assert cache.load([], 0) is None


def test_what_cannot_be_written_is_not_kept(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path, "rows")
    assert not cache.store([], 0, {"fitted": [(n for n in ())]}, {"x": np.zeros(1)}, seconds=9)
    assert entries(tmp_path) == []


def test_a_folder_that_cannot_be_made_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    expected = fitted(STEPS, None)
    assert fitted(STEPS, PrefixCache(tmp_path / "cache", "rows", keep_all=True)) == expected


def child(function: Callable[..., None], *arguments: Any) -> Any:
    """Returns a process that has been started, and ends with 0 where the function returns."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    return process


def _fit_without_space(cache: PrefixCache, expected: tuple[Any, ...], n_bytes: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit then fails as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
    data = table(Task.BINARY)
    parts = Preprocessing(STEPS, data.schema, seed=7).fit_fold(data.features, data.target, FOLD, cache)
    assert tuple(map(plain, parts)) == expected


@pytest.mark.parametrize("n_bytes", [0, 100, 3000])
def test_a_full_disk_fails_nothing_and_leaves_nothing(cache: PrefixCache, tmp_path: Path, n_bytes: int) -> None:
    process = child(_fit_without_space, cache, fitted(STEPS, None)[:2], n_bytes)
    process.join()
    assert process.exitcode == 0
    assert not [path for path in entries(tmp_path / "cache") if path.name.startswith(".") or not is_whole(path)]


def is_whole(entry: Path) -> bool:
    return (entry / "document.skops").is_file()


def _write_for_ever(cache: PrefixCache) -> None:
    for number in range(10**9):
        cache.store(STEPS, number, {}, {"x": np.zeros(10_000), "y": np.zeros(10_000)}, seconds=9)


def test_a_process_that_is_killed_while_writing_leaves_whole_entries_or_none(
    cache: PrefixCache, tmp_path: Path
) -> None:
    for _ in range(5):
        process = child(_write_for_ever, cache)
        while not entries(tmp_path / "cache"):
            time.sleep(0.01)
        time.sleep(np.random.default_rng().random() * 0.05)
        process.kill()
        process.join()
    found = [path for path in entries(tmp_path / "cache") if not path.name.startswith(".")]
    assert found
    assert all(is_whole(path) for path in found)
    number = 0
    while (loaded := cache.load(STEPS, number)) is not None:
        assert not loaded[1]["y"].any()
        number += 1
    assert number == len(found)


def _fit_often(cache: PrefixCache, expected: tuple[Any, ...]) -> None:
    for _ in range(12):
        assert fitted(STEPS, cache) == expected


def _delete_often(folder: Path) -> None:
    for _ in range(300):
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize("deleted", [False, True])
def test_processes_that_write_and_delete_the_same_entries_do_not_disturb_each_other(
    cache: PrefixCache, tmp_path: Path, deleted: bool
) -> None:
    expected = fitted(STEPS, None)
    deleting = child(_delete_often, tmp_path / "cache") if deleted else None
    processes = [child(_fit_often, cache, expected) for _ in range(4)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    if deleting is not None:
        deleting.kill()
        deleting.join()
    else:
        assert len(entries(tmp_path / "cache")) == len(STEPS) + 1


# --- its size ------------------------------------------------------------------------------------------------------


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path, "rows", max_bytes=40_000)
    for number in range(4):
        assert cache.store([], number, {}, {"x": np.zeros(1000)}, seconds=9)  # 8 kB and a little
        os.utime(cache._entry([], number), (number, number))
    (tmp_path / ".new-left").mkdir()  # by a process that was killed
    (tmp_path / ".new-left" / "x.npy").write_bytes(bytes(5000))
    os.utime(tmp_path / ".new-left", (1.5, 1.5))
    assert cache.load([], 0) is not None  # used now
    assert cache.store([], 4, {}, {"x": np.zeros(2000)}, seconds=9)
    assert [cache.load([], number) is not None for number in range(5)] == [True, False, False, True, True]
    assert not (tmp_path / ".new-left").exists()
    assert sum(file.stat().st_size for file in tmp_path.rglob("*.*") if file.is_file()) <= 42_000


def test_what_is_larger_than_the_cache_takes_nobodys_place(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path, "rows", max_bytes=20_000)
    assert cache.store([], 0, {}, {"x": np.zeros(1000)}, seconds=9)
    assert not cache.store([], 1, {}, {"x": np.zeros(3000)}, seconds=9)
    assert cache.load([], 0) is not None
