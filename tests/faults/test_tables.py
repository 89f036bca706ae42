"""Whatever a table holds, it is trained on, with a note where something was done, or refused with a sentence."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automl import preparation, study_spec
from automl.data import sources
from automl.errors import AutomlError
from automl.predictor import Predictor
from automl.study_folder import Prepared, StudyFolder
from automl.trial import run_trial
from automl.values import Choice, Configuration, Step, TrainerSettings, TrialTask

N = 60


def _text(text: str | bytes, name: str = "bad.csv") -> Callable[[Path], object]:
    content = text.encode() if isinstance(text, str) else text
    return lambda path: (path / name).write_bytes(content)


def _parquet(**columns: Any) -> Callable[[Path], object]:
    return lambda path: pq.write_table(pa.table(columns), path / "bad.parquet")


ROWS = "\n".join(f"{i % 7},{i * 37 % 11},{'yes' if i % 3 else 'no'}" for i in range(40))
WHOLE = f"a,b,y\n{ROWS}\n"
YES_NO = ["yes", "no", "no"] * 20

#: what is wrong -> what writes bad.*, the column to predict, what is told
REFUSED: dict[str, tuple[Callable[[Path], object], str, list[str]]] = {
    "no file": (lambda path: None, "y", ["bad.csv: there is no such file", "Did you mean `bat.csv`?"]),
    "a folder for a file": (lambda path: (path / "bad.csv").mkdir(), "y", ["bad.csv: this is a folder"]),
    "an empty file": (_text(""), "y", ["bad.csv: the file is empty"]),
    "a header and no rows": (_text("a,b,y\n"), "y", ["the file has a header and no rows"]),
    "ragged rows": (_text(f"{WHOLE}1,2\n"), "y", ["line 42 has 2 values, and the header names 3 columns"]),
    "a quote that is never closed": (_text(f'{WHOLE}1,"2,yes\n'), "y", ["line 42 ", "which must be closed"]),
    "text that is not UTF-8": (
        _text(f"{WHOLE}1,Zürich,no\n".encode("cp1252")),
        "y",
        ["Set `encoding`, such as `cp1252`"],
    ),
    "text in UTF-16": (_text(WHOLE.encode("utf-16")), "y", ["bad.csv: the text after line 0 is not utf-8"]),
    "the wrong separator": (_text(WHOLE.replace(",", ";")), "y", ["there is one column only", 'set `separator: ";"`']),
    "two columns of one name": (_text(f"a,a,y\n{ROWS}"), "y", ["several columns have the same name: `a`. Give each"]),
    "a target that is misspelt": (_text(f"a,b,outcome\n{ROWS}"), "outcone", ["no column `outcone`", "mean `outcome`?"]),
    "a target that is not there": (_text(WHOLE), "zzz", ["no column `zzz` to predict. Known: `a`, `b`, `y`"]),
    "a target of one value": (_text("a,b,y\n" + "1,2,yes\n3,4,yes\n" * 20), "y", ["`y`: every value is `yes`"]),
    "a target that is always missing": (_text("a,y\n" + "1,\n2,\n" * 20), "y", ["`y`: every value is missing"]),
    "too few rows": (_text("a,b,y\n1,2,yes\n3,4,no\n"), "y", ["the table has 2 rows. At least 10 are needed."]),
    "nothing but the target": (_text("y\n" + "yes\nno\n" * 20), "y", ["no column is left to predict from"]),
    "infinite numbers to predict": (
        _text("a,y\n" + "\n".join(f"{i % 5},{i + 0.5 if i else 'inf'}" for i in range(40))),
        "y",
        ["`y`: 1 of the values are infinite. Correct or drop these rows."],
    ),
    "half a gzip file": (
        _text(gzip.compress(WHOLE.encode() * 50)[:90], "bad.csv.gz"),
        "y",
        ["Check that the file is whole"],
    ),
    "half a parquet file": (
        lambda path: (_parquet(a=[1.5] * N, y=YES_NO)(path), (path / "bad.parquet").write_bytes(b"PAR1" + b"x" * 90)),
        "y",
        ["cannot be read as parquet", "Check that the file is whole."],
    ),
    "values nested in a column": (
        _parquet(a=[{"b": 1, "c": [2]}] * N, y=YES_NO),
        "y",
        ["`a`: values of type dict cannot"],
    ),
    "JSON nested a hundred thousand deep": (
        _text('{"y": 1, "a": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "bad.jsonl"),
        "y",
        ["line 1 is nested too deep"],
    ),
    "a line that is no JSON": (_text('{"a": 1, "y": 2}\n{"a": 1,\n', "bad.jsonl"), "y", ["line 2 is no JSON"]),
    "a compressed file that unpacks to 20 MB, beyond the cap of 10 MB": (
        _text(gzip.compress(WHOLE.encode() * 45_000), "bad.csv.gz"),
        "y",
        ["takes more than 10,000,000 bytes when it is unpacked", "--max-size"],
    ),
    "a parquet file of 3 KB that stands for 80 MB, beyond the cap of 10 MB": (
        lambda path: pq.write_table(
            pa.table({"a": pa.array(np.zeros(5_000_000)), "y": pa.array(np.zeros(5_000_000))}), path / "bad.parquet"
        ),
        "y",
        ["takes more than 10,000,000 bytes when it is unpacked", "--max-size"],
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(place: Any, what: str, observed: Callable[[str, str], None]) -> None:
    write, target, sentences = REFUSED[what]
    (place.path / "bat.csv").write_text("a\n1\n")
    write(place.path)
    file = next((path.name for path in place.path.glob("bad.*")), "bad.csv")
    cap = ["--max-size", "10MB"] if "cap" in what else []
    ended = place.quick("check", "--data", file, "--target", target, *cap, code=2)
    assert ended.out == ""
    for sentence in sentences:
        assert sentence in ended.err
    told = ended.err.partition("error: ")[2].splitlines()[0].replace(f"{place.path}/", "")
    observed(what, f"exit 2: *{told}*")


#: what is odd about a file -> its bytes, the columns that are read
FILES = {
    "a byte-order mark": (b"\xef\xbb\xbf" + WHOLE.encode(), ["a", "b"]),
    "line breaks and separators in quotes": (
        b'a,"b\nc",y\n' + b"".join(b'%d,"x,\ny%d",%s\n' % (i, i % 3, b"yes" if i % 2 else b"no") for i in range(40)),
        ["a", "b\nc"],
    ),
    "line ends of Windows": (WHOLE.replace("\n", "\r\n").encode(), ["a", "b"]),
}


@pytest.mark.parametrize("what", FILES)
def test_files_that_are_read(place: Any, what: str, observed: Callable[[str, str], None]) -> None:
    content, columns = FILES[what]
    (place.path / "t.csv").write_bytes(content)
    found = place.quick("check", "--data", "t.csv", "--target", "y", "--json").json
    assert [column["name"] for column in found["schema"]["columns"]] == columns
    assert found["n_search"] + found["n_test"] == 40
    observed(what, "read as it was meant")


def test_what_a_cap_refuses_is_read_with_the_flag(place: Any) -> None:
    (place.path / "t.csv").write_text(WHOLE)
    assert (
        "more than 100 bytes" in place.quick("check", "--data", "t.csv", "--target", "y", "--max-size", 100, code=2).err
    )
    assert "nothing is wrong" in place.quick("check", "--data", "t.csv", "--target", "y", "--max-size", "1KB").out


# --- tables that are odd, and trained on -------------------------------------------------------------------------


def _odd(**columns: Any) -> pd.DataFrame:
    """Returns a table of two classes which a number tells, and of other columns."""
    n = len(next(iter(columns.values())))
    number = np.linspace(-1, 1, n) + np.sin(np.arange(n)) / 2
    return pd.DataFrame({"number": number, **columns, "y": np.where(np.linspace(-1, 1, n) > 0, "yes", "no")})


def _names(*names: str) -> pd.DataFrame:
    return _odd(**{name: np.cos(np.arange(N) * (place + 2)) for place, name in enumerate(names)})


BEYOND = 2**53
ODD_NAMES = (
    *(
        "größe 🦊",
        "a/b",
        "../../x",
        "<script>alert(1)</script>",
        "{{7*7}}",
        "n" * 300,
        "nul\0",
        "a\nb",
        "'; DROP TABLE",
    ),
    *("=1+1", " ", "proba_yes", "prediction", "__class__"),
)

#: what is odd -> the table, what is noted about it
ODD: dict[str, tuple[Callable[[], pd.DataFrame], str]] = {
    "numbers and words in one column": (
        lambda: _odd(mixed=pd.Series([1, 2.5, "many", None, True, "nul\0"] * 10, dtype=object)),
        "",
    ),
    "dates with zones, several in one column": (
        lambda: _odd(
            day=[f"2026-0{1 + i % 9}-1{i % 10}T12:00:00{('+02:00', 'Z', '-07:30')[i % 3]}" for i in range(N)],
            zoned=pd.date_range("2026-01-01", periods=N, tz="Europe/Zurich"),
        ),
        "",
    ),
    "whole numbers beyond 2^53": (
        lambda: _odd(big=[BEYOND + i // 2 for i in range(N)]),
        "`big`: 15 of its 30 whole numbers, beyond 2^53, are read as their neighbours. If they are names, say so: "
        "`kinds: {big: categorical}`.",
    ),
    "100,000 categories": (lambda: _odd(place=[f"c{i * 7 % 100_000}" for i in range(120_000)]), ""),
    "10,000 columns": (lambda: _odd(**{f"c{i}": np.sin(np.arange(N) * (i + 1)) for i in range(10_000)}), ""),
    "more columns than rows, all missing but one": (
        lambda: _odd(**{f"c{i}": np.where(np.arange(N) == i, 1.0, np.nan) for i in range(2 * N)}),
        "",
    ),
    "columns that are empty or constant": (
        lambda: _odd(empty=[None] * N, same=["x"] * N),
        "Left out, since all rows are alike in them: `empty`, `same`.",
    ),
    "a class with a single row": (
        lambda: _odd(other=range(N)).replace({"y": {"yes": "yes"}}).assign(y=["a", "b", "c"] * 19 + ["a", "b", "rare"]),
        "Classes of `y` with a single row are trained on and never validated: `rare`.",
    ),
    "infinite numbers": (
        lambda: _odd(wild=np.where(np.arange(N) % 9 == 0, np.inf, np.cos(np.arange(N)))),
        "Infinite values of `wild` taken as missing: 7.",
    ),
    "the target copied among the features": (
        lambda: _odd(code=np.where(np.linspace(-1, 1, N) > 0, 7, 3)),
        "`code` gives `y` away: in all 60 rows each of its values goes with one class, such as `3` with `no`.",
    ),
    "test rows among the training rows": (
        lambda: pd.concat([_odd(other=np.cos(np.arange(N)))] * 2, ignore_index=True).iloc[: N + 20],
        "test rows stand among the rows searched on, alike in every feature",
    ),
    "column names with emoji, slashes, `..`, HTML, templates, 300 characters, a NUL, a line break": (
        lambda: _names(*ODD_NAMES),
        "",
    ),
}


def _write(base: Path, frame: pd.DataFrame) -> tuple[str, dict[str, Any]]:
    """Returns the source, and its parameters, of a table that it writes."""
    try:
        frame.to_parquet(base / "odd.parquet")
    except (pa.ArrowException, ArithmeticError, TypeError, ValueError):  # parquet wants values of one type in a column
        frame.to_csv(base / "odd.csv", index=False)
        return "csv", {"path": "odd.csv"}
    return "parquet", {"path": "odd.parquet"}


def _train(
    base: Path, source: tuple[str, dict[str, Any]], *steps: Step, **validation: Any
) -> tuple[Prepared, StudyFolder]:
    """Returns what a study works on, after its first trial has run for an epoch; in this process."""
    document = {
        "name": "odd",
        "data": {"source": source[0], "params": source[1], "target": "y"},
        "validation": {"strategy": "holdout", "test_size": 0.2, **validation},
        "trainer": {"accelerator": "cpu"},
    }
    folder = StudyFolder(base / "state")
    prepared = preparation.prepare(study_spec.build(document, where="odd.yaml"), base, folder)
    is_classification = prepared.schema.target.task.is_classification
    configuration = Configuration(
        preprocessing=steps or (Step("scaling", Choice("standard")),),
        network=Choice("mlp", {"depth": 1, "width": 8}),
        optimizer=Choice("adamw", {"lr": 0.01}),
        schedule=Choice("constant"),
        loss=Choice("cross_entropy" if is_classification else "mse"),
        batch_size=256,
    )
    trial = TrialTask(
        configuration=configuration,
        data=folder.data,
        out=folder.trial(0),
        objective=prepared.objective,
        settings=TrainerSettings(max_epochs=1, accelerator="cpu"),
        seed=0,
    )
    run_trial(trial, lambda epoch: False)
    return prepared, folder


def _assert_predicts(folder: StudyFolder, rows: pd.DataFrame) -> None:
    """Holds that there is a prediction for each row, in the rows' order."""
    predictor = Predictor.load(folder.trial(0) / "model")
    found = predictor.predict(rows)
    assert list(found.index) == list(rows.index)
    assert found.notna().all(axis=None)
    some = rows.iloc[::-3]
    pd.testing.assert_frame_equal(predictor.predict(some), found.iloc[::-3], rtol=1e-4, check_exact=False)


@pytest.mark.slow
@pytest.mark.parametrize("what", ODD)
def test_odd_and_trained_on(tmp_path: Path, what: str, observed: Callable[[str, str], None]) -> None:
    make, note = ODD[what]
    frame = make()
    prepared, folder = _train(tmp_path, _write(tmp_path, frame))
    assert note in "\n".join(prepared.notes)
    _assert_predicts(folder, frame.drop(columns="y").sample(frac=1, random_state=1))
    shown = next((sentence for sentence in prepared.notes if note and note in sentence), "")
    observed(what, f"trained on and predicted{f': *{shown[:200]}*' if note else ''}")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["smote", "smotenc", "borderline_smote", "svm_smote", "adasyn", "kmeans_smote"])
def test_resampling_with_too_few_neighbours(tmp_path: Path, method: str, observed: Callable[[str, str], None]) -> None:
    frame = _odd(other=np.cos(np.arange(N))).assign(y=["rare"] * 7 + ["often"] * (N - 7))
    steps = (Step("scaling", Choice("standard")), Step("resampling", Choice(method, {"k_neighbors": 15})))
    _, folder = _train(tmp_path, _write(tmp_path, frame), *steps, test_size=0)
    _assert_predicts(folder, frame.drop(columns="y"))
    observed("SMOTE and its kin, with fewer rows of a class than neighbours", "made up from the neighbours there are")


@pytest.mark.slow
def test_fewer_rows_than_folds(place: Any, observed: Callable[[str, str], None]) -> None:
    (place.path / "few.csv").write_text("a,b,y\n" + "\n".join(ROWS.splitlines()[:12]))
    study = {"name": "few", "data": {"source": "csv", "params": {"path": "few.csv"}, "target": "y"}}
    (place.path / "few.yaml").write_text(json.dumps({**study, "validation": {"strategy": "kfold", "n_folds": 50}}))
    told = place.quick("check", "few.yaml", code=2).err
    assert "12 rows" in told or "11 rows" in told, told
    assert "50 folds" in told
    observed("fewer rows than folds", f"exit 2: *{told.partition('error: ')[2].splitlines()[0]}*")


@pytest.mark.slow
def test_odd_names_reach_mlflow_and_come_back(place: Any, observed: Callable[[str, str], None]) -> None:
    frame = _names(*ODD_NAMES)
    frame.to_parquet(place.path / "table.parquet")
    place.write_study(
        table="table.parquet",
        data={"source": "parquet", "params": {"path": "table.parquet"}, "target": "y"},
        budget={"trials": 1},
        references=True,
    )
    assert place.automl("run", "small.yaml", "--json").json["pending_sync"] == 0
    place.quick("predict", "small", "table.parquet", "-o", "p.csv")
    assert len(pd.read_csv(place.path / "p.csv")) == len(frame)
    place.quick("promote", "small", "--model", "m")
    (parent,) = place.runs(parents=True)
    page = parent.data.tags["mlflow.note.content"]
    assert "<script>" not in page
    observed(
        "the same names in MLflow, in a registered model and back", "every one arrives; pages hold no HTML of theirs"
    )


# --- any table ---------------------------------------------------------------------------------------------------

_WORDS = st.text(max_size=12)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "numbers": st.floats(allow_nan=True, allow_infinity=True),
    "measures": st.floats(-1e3, 1e3),
    "whole numbers": st.integers(-(2**63), 2**63 - 1),
    "counts": st.integers(0, 9),
    "truth values": st.booleans(),
    "words": _WORDS,
    "labels": st.sampled_from(["a", "b", "c d", "", "1"]),
    "texts": st.lists(_WORDS, max_size=8).map(" ".join),
    "moments": st.datetimes(),
    "zoned": st.datetimes(timezones=st.timezones()),
    "days": st.dates(),
    "spans": st.timedeltas(),
    "decimals": st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-999, max_value=999),
    "nothing": st.none(),
    "bytes": st.binary(max_size=5),
    "lists": st.lists(st.integers(), max_size=3),
    "complex": st.complex_numbers(allow_nan=False, allow_infinity=False, max_magnitude=9),
    "anything": st.one_of(st.none(), st.integers(), st.floats(), st.booleans(), _WORDS),
}


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Any rows of any types under any names, with a column `y` to predict."""
    n_rows = draw(st.integers(8, 40))
    kinds = draw(st.lists(st.sampled_from(sorted(_VALUES)), min_size=1, max_size=4))
    goal = draw(st.sampled_from(["counts", "labels", "measures", "truth values", "anything"]))
    names = draw(st.lists(st.text(max_size=9).filter(lambda name: name != "y"), min_size=4, max_size=4, unique=True))
    columns = {}
    for name, kind in [*zip(names, kinds, strict=False), ("y", goal)]:
        values = _VALUES[kind] if draw(st.booleans()) else st.one_of(st.none(), _VALUES[kind])
        columns[name] = draw(st.lists(values, min_size=n_rows, max_size=n_rows))
    return pd.DataFrame({name: pd.Series(values) for name, values in columns.items()})


@pytest.mark.slow
def test_any_table_is_trained_on_or_refused(observed: Callable[[str, str], None]) -> None:
    ends: Counter[str] = Counter()

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(tables())
    def hold(frame: pd.DataFrame) -> None:
        with tempfile.TemporaryDirectory() as base:
            source = _write(Path(base), frame)
            try:
                _, folder = _train(Path(base), source)
            except AutomlError as error:
                ends["refused" if all(problem.message for problem in error.problems) else "in silence"] += 1
            else:
                _assert_predicts(folder, sources.read(*source, Path(base)).drop(columns="y"))
                ends["trained on"] += 1

    hold()
    assert set(ends) == {"refused", "trained on"}
    assert min(ends.values()) >= 10, ends
    told = f"{ends['trained on']} trained on, {ends['refused']} refused; one prediction a row, in their order"
    observed("60 tables of any types, values and names (hypothesis)", told)
