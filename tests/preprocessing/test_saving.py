from __future__ import annotations

import functools
import zipfile
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from automl.components import CATALOGUES, Catalogue, catalogue
from automl.errors import RefusedError
from automl.preprocessing.saving import read, write
from automl.values import Task

BUILT: list[str] = []


class Foreign:
    """A type of nobody's list that leaves a trace when it is built."""

    def __setstate__(self, state: object) -> None:
        BUILT.append("Foreign")


def saved(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "preprocessing.skops"
    skops.io.dump({"fitted": content}, path)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    scaler = StandardScaler().fit(np.arange(6.0).reshape(3, 2))
    write({"fitted": scaler, "names": ["a"], "n": 3}, tmp_path / "preprocessing.skops")
    document = read(tmp_path / "preprocessing.skops")
    assert (document["names"], document["n"]) == (["a"], 3)
    np.testing.assert_array_equal(document["fitted"].mean_, scaler.mean_)


def test_a_foreign_type_is_refused_and_not_built(tmp_path: Path) -> None:
    foreign = Foreign()
    foreign.attribute = 1  # type: ignore[attr-defined]
    with pytest.raises(RefusedError, match="Foreign"):
        read(saved(tmp_path, foreign))
    assert BUILT == []


@pytest.mark.parametrize(
    "content",
    [
        CountVectorizer(input="filename"),  # one that skops itself trusts
        FunctionTransformer(np.sin),
        functools.partial(print, "x"),
        np.sin,
        print,
        StandardScaler().fit,
    ],
)
def test_what_skops_knows_is_not_trusted_for_that(tmp_path: Path, content: object) -> None:
    with pytest.raises(RefusedError) as error:
        read(saved(tmp_path, content))
    assert error.value.exit_code == 5


def test_an_allowed_type_by_a_forbidden_way_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "preprocessing.skops"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "schema.json",
            '{"__class__": "dict", "__module__": "builtins", "__loader__": "OperatorFuncNode", "protocol": 2}',
        )
    with pytest.raises(RefusedError, match=r"builtins\.dict"):
        read(path)


@pytest.mark.parametrize("data", [b"", b"PK nonsense", b"\x80\x04."])
def test_a_damaged_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "preprocessing.skops"
    path.write_bytes(data)
    with pytest.raises(RefusedError, match="cannot be read"):
        read(path)
    with pytest.raises(RefusedError, match="cannot be read"):
        read(tmp_path / "absent.skops")


def test_a_plugins_own_type_is_trusted_where_the_plugin_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mine(task: Task) -> Foreign:
        return Foreign()

    extended = Catalogue("scaling")
    for component in catalogue("scaling"):
        extended.add(component.name, component.factory, component.traits)
    extended.add("mine", mine)
    path = saved(tmp_path, Foreign())
    monkeypatch.setitem(CATALOGUES, "scaling", extended)
    assert isinstance(read(path)["fitted"], Foreign)
