"""What of the benchmarks holds on a busy machine."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
import yaml
from sklearn.datasets import make_classification

import automl.portfolio
from automl import metrics, plugins, search_space
from automl.components import CATALOGUES
from automl.jobs import REFERENCES
from automl.values import Target, Task

plugins.load_builtin()

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run(name: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Work:
    def outer(self) -> str:
        time.sleep(0.02)
        return self.inner()

    def inner(self) -> str:
        time.sleep(0.01)
        return "done"

    def __iter__(self) -> object:
        for item in range(3):
            self.inner()
            yield item


def test_timers_count_no_second_twice() -> None:
    timers = _module("timers").Timers()
    kind = type("Work", (Work,), dict(vars(Work)))
    timers.wrap(kind, "outer", "outer")
    timers.wrap(kind, "inner", lambda: "inner")
    assert kind().outer() == "done"
    assert set(timers.seconds) == {"outer"}
    assert timers.seconds["outer"] >= 0.03
    assert kind().inner() == "done"
    assert timers.seconds["inner"] >= 0.01


def test_timers_leave_out_what_is_done_between_two_items() -> None:
    timers = _module("timers").Timers()
    kind = type("Work", (Work,), dict(vars(Work)))
    timers.wrap_iteration(kind, "items")
    began, between = time.monotonic(), 0.0
    for _ in kind():
        paused = time.monotonic()
        time.sleep(0.05)
        between += time.monotonic() - paused
    whole = time.monotonic() - began
    assert 0.03 <= timers.seconds["items"] <= whole - between


def test_differences_to_doing_nothing_are_paired_and_told_with_their_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    resampling = _module("resampling")
    nothing, runs = (
        [dict.fromkeys((*resampling.METRICS, "seconds"), value) for value in values]
        for values in ((0.5, 0.7, 0.9), (0.6, 0.9, 1.2))
    )
    told = resampling.summary(runs, nothing, 0.5)["roc_auc"]
    # Deviation 0.1; of three runs, and a row left out for every two that were not; Student's t of two degrees: 4.303.
    assert told == {
        "mean": 0.9,
        "difference": 0.2,
        "half": pytest.approx(4.303 * 0.1 * (1 / 3 + 1 / 2) ** 0.5, abs=1e-4),
    }
    table = {"none": resampling.summary(nothing, nothing, 0.5), "smotenc": resampling.summary(runs, nothing, 0.5)}
    assert "+0.2000 ± 0.3928" in resampling.report(table, 3, 5)[-1]


# --- members of an ensemble ----------------------------------------------------------------------------------------


def test_what_is_missing_to_a_perfect_score_is_what_a_way_of_choosing_makes_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    selection = _module("selection")
    lines = [
        {"data": data, "rows": 400, "objective": objective, "scores": {"the objective": usual, "log-loss": other}}
        for data, objective, usual, other in [
            ("a", "roc_auc", 0.9, 0.92),
            ("b", "roc_auc", 0.5, 0.45),
            ("a", "log_loss", 0.5, 0.4),
            ("a", "f1", 1.0, 1.0),
        ]
    ]
    assert [selection.gain(line, "log-loss") for line in lines] == pytest.approx([20, -10, 20, 0])
    told = selection.report(lines, 60)
    assert "| chosen by | 400 rows, 2 tables |" in told
    assert "| log-loss | +5.0, +5.0; 1 and 1 |" in told


def test_every_way_of_choosing_has_weights_that_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    selection = _module("selection")
    rng = np.random.default_rng(0)
    y = [np.arange(30) % 2, np.arange(30) % 2]
    chances = [[np.clip(fold * 0.4 + rng.uniform(0, 0.6, 30), 0.01, 0.99) for fold in y] for _ in range(6)]
    predictions = [[np.column_stack([1 - p, p]) for p in folds] for folds in chances]
    metric = metrics.metric("roc_auc", Task.BINARY)
    for way in selection.WAYS.values():
        weights = way(Target("t", Task.BINARY), metric, y, predictions)
        assert set(weights) <= set(range(6))
        assert sum(weights.values()) == pytest.approx(1)


@pytest.mark.slow
def test_a_study_is_run_once_and_its_members_are_judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    selection = _module("selection")
    X, y = make_classification(1300, 6, flip_y=0.1, random_state=0)
    made = pd.DataFrame(X).add_prefix("x").assign(target=y)
    data = selection.DataSet("made", "binary", "target", SimpleNamespace(read=lambda: made), "none")
    monkeypatch.setitem(selection.OTHERS, "binary", ("average_precision",))
    assert selection.study(data, 1000, 40, tmp_path / "1000/made") == []
    for _ in range(2):
        folders = selection.study(data, 400, 40, tmp_path / "400/made")
    found = selection.judge(folders[0])
    assert [line["objective"] for line in found] == ["roc_auc", *selection.OTHERS["binary"]]
    own = found[0]["scores"]
    assert own["as shipped"] == own["log-loss"]
    assert all(0.6 < score < 1 for score in own.values())


# --- quality -----------------------------------------------------------------------------------------------------


@pytest.fixture
def quality(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = {"main": "quality", "data": "quality_data", "runs": "quality_runs", "scores": "quality_scores"}
    return SimpleNamespace(**{short: importlib.import_module(name) for short, name in names.items()})


def test_scores_are_those_of_sklearn(quality: SimpleNamespace) -> None:
    random = np.random.default_rng(0)
    y = random.integers(3, size=60)
    probabilities = random.dirichlet([1, 1, 1], size=60)
    expected = sklearn.metrics.log_loss(y, probabilities)
    assert quality.scores.score("log_loss", "multiclass", y, probabilities) == pytest.approx(expected)
    two, half = y > 0, probabilities[:, :2]
    expected = sklearn.metrics.roc_auc_score(two, half[:, 1])
    assert quality.scores.score("roc_auc", "binary", two.astype(int), half) == pytest.approx(expected)
    values = random.normal(size=60)
    expected = sklearn.metrics.root_mean_squared_error(y, values)
    assert quality.scores.score("rmse", "regression", y.astype(float), values) == pytest.approx(expected)


def test_equal_scores_share_a_rank_and_a_failure_comes_last(quality: SimpleNamespace) -> None:
    scores = {"a": 0.9, "b": 0.8, "c": 0.9, "d": float("nan"), "e": 0.7}
    assert quality.scores.ranks(scores, "roc_auc") == {"a": 1.5, "c": 1.5, "b": 3, "e": 4, "d": 5}
    assert quality.scores.ranks(scores, "rmse") == {"e": 1, "b": 2, "a": 3.5, "c": 3.5, "d": 5}
    assert quality.scores.normalised(scores, "rmse") == pytest.approx({"a": 0, "b": 0.5, "c": 0, "d": 0, "e": 1})
    means = quality.scores.mean_ranks([("roc_auc", {"a": 1.0, "b": 0.5}), ("rmse", {"a": 2.0, "b": 2.0})])
    assert list(means.items()) == [("a", 1.25), ("b", 1.75)]


def test_the_signed_rank_test_knows_wins_from_chance(quality: SimpleNamespace) -> None:
    eight = np.linspace(0.1, 0.8, 8)
    assert quality.scores.signed_rank(eight, eight / 2) == pytest.approx(2 / 2**8)  # the least that eight pairs give
    assert quality.scores.signed_rank(eight, eight) == 1
    assert quality.scores.signed_rank(eight, eight * [0, 2, 0, 2, 2, 0, 2, 0]) > 0.5


def test_a_difference_has_the_sign_of_better_and_an_interval_that_tells_chance(
    quality: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality.scores, "N_RESAMPLES", 40)
    random = np.random.default_rng(0)
    y = random.normal(size=300)
    near, far, other = (y + scale * random.normal(size=300) for scale in (0.3, 1.0, 0.3))
    better = quality.scores.difference("rmse", "regression", y, near, far)
    assert better.value == pytest.approx(np.sqrt(np.mean((far - y) ** 2)) - np.sqrt(np.mean((near - y) ** 2)))
    assert 0 < better.low < better.value < better.high
    worse = quality.scores.difference("rmse", "regression", y, far, near)
    assert worse.high < 0
    chance = quality.scores.difference("rmse", "regression", y, near, other)
    assert chance.low < 0 < chance.high


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes"])
def test_a_data_set_is_split_once_and_for_all(quality: SimpleNamespace, name: str) -> None:
    data_set = quality.data.data_sets()[name]
    first, second = data_set.table(), data_set.table()
    pd.testing.assert_frame_equal(first.train, second.train)
    assert first.digest == second.digest
    rows = [set(map(tuple, part.to_numpy().tolist())) for part in (first.train, first.test)]
    assert not rows[0] & rows[1]  # neither set has a row twice
    n_rows = len(first.train) + len(first.test)
    assert len(first.test) / n_rows == pytest.approx(0.3, abs=0.01)
    if first.classes:
        shares = [part[first.target].value_counts(normalize=True) for part in (first.train, first.test)]
        assert shares[0].to_dict() == pytest.approx(shares[1].to_dict(), abs=0.01)
        assert [first.classes[position] for position in first.y_test] == first.test[first.target].tolist()


def test_half_of_the_sets_are_held_out_and_none_is_one_that_others_judge_by(quality: SimpleNamespace) -> None:
    known = quality.data.data_sets()
    assert sum(data_set.held_out for data_set in known.values()) == len(known) / 2 == 8
    assert not {"adult", "abalone", "ames", "mnist"} & {word.lower() for word in known}
    assert not any(known[name].held_out for name in quality.main.SHORT)
    assert sum(known[name].held_out for name in quality.main.LONG) == len(quality.main.LONG) / 2 == 4
    assert {known[name].task for name in quality.main.REPEATED} == {"binary", "multiclass", "regression"}
    assert all(data_set.licence and data_set.task in quality.data.METRICS for data_set in known.values())


def test_folders_of_tables_are_data_sets(quality: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "stops").mkdir()
    frame = pd.DataFrame({"x": [1.0, None], "ok": [True, False], "word": ["a", None], "y": ["no", "yes"]})
    for part in ("train", "test"):
        frame.to_parquet(tmp_path / "stops" / f"{part}.parquet")
    meta = {"task": "binary", "target": "y", "metric": "log_loss", "modality": "tabular"}
    (tmp_path / "stops/meta.json").write_text(json.dumps(meta))
    table = quality.data.data_sets(tmp_path)["stops"].table()
    assert (table.metric, table.classes, table.y_test.tolist()) == ("log_loss", ("no", "yes"), [0, 1])
    assert table.train["ok"].tolist() == [1, 0]
    assert table.train["word"].isna().tolist() == [False, True]
    with pytest.raises(FileNotFoundError, match="--data FOLDER"):
        quality.data.data_sets(tmp_path)["caravan"].table()


def test_an_ablation_edits_a_document_by_dotted_names(quality: SimpleNamespace) -> None:
    space = {
        "preprocessing": [{"stage": "scaling", "options": ["standard", "robust"]}],
        "network": [{"name": "mlp", "params": {"depth": 2}}, {"name": "ft", "params": {"depth": 3}}],
        "start": [1],
    }
    quality.runs.edit(space, "preprocessing.*.options", {"keep": 1})
    quality.runs.edit(space, "network.*.params.width", 8)
    quality.runs.edit(space, "network.ft.params.depth", None)
    quality.runs.edit(space, "start", [])
    quality.runs.edit(space, "validation.test_size", 0)
    assert space == {
        "preprocessing": [{"stage": "scaling", "options": ["standard"]}],
        "network": [{"name": "mlp", "params": {"depth": 2, "width": 8}}, {"name": "ft", "params": {"width": 8}}],
        "start": [],
        "validation": {"test_size": 0},
    }
    quality.runs.edit(space, "network", {"keep": ["ft"]})
    assert [option["name"] for option in space["network"]] == ["ft"]
    with pytest.raises(KeyError, match="nothing"):
        quality.runs.edit(space, "network.nothing.params", {})


def _plan(quality: SimpleNamespace, **options: object) -> list[Any]:
    defaults = {"sets": None, "only": [], "short": False, "seconds": None, "seeds": None}
    return quality.main.plan(argparse.Namespace(**defaults | options))


def test_the_plan_holds_what_the_benchmark_promises(quality: SimpleNamespace) -> None:
    long, short = _plan(quality), _plan(quality, short=True)
    assert len({job.data for job in long if job.seconds == 120}) == 8
    for seconds in (60, 300):
        assert {job.data for job in long if job.seconds == seconds} == set(quality.main.REPEATED)
    assert {job.data for job in long if job.seed == 2} == set(quality.main.REPEATED)
    assert len(set(long)) == len(long) == (8 + 2 * 3 + 2 * 3) * len(quality.main.SYSTEMS)
    assert {(job.seconds, job.seed) for job in short} == {(60, 0)}
    assert len({job.data for job in short}) == 4
    assert quality.main._spelled_out(["automl", "rivals/x"])[:2] == ["automl", "autogluon/x"]
    one = [job for job in _plan(quality, only=["linear/diabetes"]) if quality.main.wanted(job, ["linear/diabetes"])]
    assert one == [quality.runs.Job("linear", "diabetes", 120, 0)]


def _documents(quality: SimpleNamespace, better: str) -> list[dict[str, Any]]:
    return [
        {
            "system": system,
            "data": data,
            "seconds": 120,
            "seed": 0,
            "metric": "roc_auc",
            "score": 0.9 if system == better else 0.8 - position / 100,
        }
        for data in ("computers", "mortgages")
        for position, system in enumerate(quality.main.SYSTEMS)
    ]


def test_the_target_is_missed_by_rank_and_by_a_reference(quality: SimpleNamespace, tmp_path: Path) -> None:
    def table(name: str) -> Any:
        raise FileNotFoundError(name)

    found = _documents(quality, better="automl")
    judged = quality.main.judge(found, tmp_path, table)
    assert judged["missed"] == []
    assert list(judged["limits"]["120"]["mean_rank"])[:2] == ["automl", "automl_single"]
    assert judged["limits"]["120"]["mean_rank_held_out"]["automl"] == 1
    beaten = quality.main.judge(_documents(quality, better="realmlp"), tmp_path, table)["missed"]
    assert beaten == [
        "120 s: mean rank of automl 2.00, of realmlp 1.00",
        "120 s: mean rank of automl_single 3.00, of realmlp 1.00",
    ]
    found[0]["beside_reference"] = {"reference": "boosting", "value": -0.2, "low": -0.3, "high": -0.1}
    (sentence,) = quality.main.judge(found, tmp_path, table)["missed"]
    assert sentence == "120 s: automl is worse than boosting on computers (seed 0)"
    assert quality.main.judge(found, tmp_path, table, at_least=300)["missed"] == []
    assert quality.main.judge(found[1:], tmp_path, table)["limits"]["120"]["sets"] == ["mortgages"]


@pytest.mark.slow
def test_a_rival_and_a_study_are_measured_once_and_compared(quality: SimpleNamespace, tmp_path: Path) -> None:
    arguments = ["--sets", "breast_cancer", "--seconds", "60", "--results", str(tmp_path), "--only", "linear", "automl"]
    first = _run("quality", *arguments)
    assert "linear on breast_cancer, 60 s, seed 0: roc_auc 0.9" in first
    results = tmp_path / "quality"
    written = {path.parent.name: json.loads(path.read_text()) for path in results.glob("*/*.json")}
    assert set(written) == {"linear", "automl", "automl_reference", "automl_changed_calibration"}
    assert all(document["score"] > 0.95 for document in written.values())
    assert written["automl"]["peak_mb"] > written["linear"]["peak_mb"] > 50
    assert written["automl"]["beside_reference"]["reference"] in REFERENCES
    assert "not measured: breast_cancer, 60 s, seed 0: automl_single, " in first
    assert not list(tmp_path.glob("*.md"))  # the page is of the whole plan
    when = {path: path.stat().st_mtime_ns for path in results.glob("*/*.json")}
    _run("quality", *arguments)
    assert when == {path: path.stat().st_mtime_ns for path in results.glob("*/*.json")}


@pytest.mark.slow
def test_a_system_that_fails_has_no_score_and_says_why(quality: SimpleNamespace, tmp_path: Path) -> None:
    table = quality.data.data_sets()["breast_cancer"].table()
    job = quality.runs.Job("without_sense", "breast_cancer", 10, 0)
    document = quality.runs.run(job, table, tmp_path, tmp_path, 2, {"study": {"deliver": "nothing"}})
    assert document["score"] is None
    assert "deliver" in document["error"]


@pytest.mark.slow
def test_a_logged_trial_is_many_times_faster_than_the_stack_of_the_tutorials() -> None:
    assert "| met |" in _run("speed", "--short")


@pytest.mark.slow
def test_the_profile_explains_a_trial() -> None:
    lines = _run("trial_profile", "--short").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    names = [row[0] for row in rows]
    parts = {row[0]: float(row[1]) for row in rows[2 : names.index("the whole")]}
    whole = float(rows[names.index("the whole")][1])
    assert sum(parts.values()) == pytest.approx(whole, abs=1)
    assert min(parts.values()) >= 0
    assert sum(value for name, value in parts.items() if name.startswith("training")) > 0.3 * whole
    assert next(value for name, value in parts.items() if name.startswith("not explained")) < 0.2 * whole


@pytest.mark.slow
def test_each_kind_of_data_is_trained_on_by_both_sides() -> None:
    found = json.loads(_run("kind_speed", "--rows", "200", "--epochs", "1", "--repeats", "1"))
    assert {name.partition(":")[0] for name in found} == {"table", "image", "sequence", "text", "mixture"}
    for sides in found.values():
        assert sides["ratio"] == pytest.approx(sides["ours"] / sides["bare"])


# --- the portfolio -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learner() -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("portfolio")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_points_that_are_tried_lie_in_the_space(learner: ModuleType, kind: str) -> None:
    space = search_space.load(search_space.bundled() / f"tabular_{kind}.yaml")
    written = yaml.safe_load(learner.WRITTEN.read_text())[kind]
    assert all(space.holds(point) for point in written)
    points = learner.candidates(space, written)
    assert points == learner.candidates(space, written)
    assert len({learner.digest(point) for point in points}) == len(points) > 40
    assert all(space.holds(point) for point in points)
    bare = space.model_copy(update={"start": []})
    for point in points:
        assert bare.starts(CATALOGUES, [learner.changes(space, point)]) == [point]


def test_no_table_that_is_learned_from_is_one_that_is_judged_by(learner: ModuleType, quality: SimpleNamespace) -> None:
    learned = [data for sets in learner.SETS.values() for data in sets]
    judged = quality.data.data_sets().values()
    assert len({data.name for data in learned}) == len(learned) == 33
    assert not {str(data.origin) for data in learned} & {str(data.origin) for data in judged}
    assert not {"adult", "abalone", "ames", "mnist", "optdigits"} & {data.name.lower() for data in learned}


def test_what_was_tried_becomes_a_portfolio(learner: ModuleType, tmp_path: Path) -> None:
    space = search_space.load(search_space.bundled() / "tabular_regression.yaml")
    points = learner.candidates(space, yaml.safe_load(learner.WRITTEN.read_text())["regression"])
    rng = np.random.default_rng(0)
    documents = []
    for number in range(4):
        traits = {"n_rows": 1000, "n_columns": 5, "categorical": 0.2, "n_classes": 0}
        scores = rng.uniform(1, 2, len(points))
        scores[20] = 0.5  # of one point the best on all tables
        runs = [
            {"point": point, "validation": score, "test": score, "seconds": 3.0, "n_epochs": 30}
            for point, score in zip(points, scores.tolist(), strict=True)
        ]
        runs[7] |= {"validation": None, "test": None, "n_epochs": None}
        documents.append(
            {"data": str(number), "metric": "rmse", "seconds": 12, "n_folds": 5, "traits": traits, "runs": runs}
        )
    portfolio, lines = learner.learn(space, points, documents)
    (tmp_path / "portfolios").mkdir()
    (tmp_path / "portfolios/tried.json").write_text(learner._dumped(portfolio))
    found = automl.portfolio.load("tried", [tmp_path])
    best = learner.changes(space, points[20])
    assert found.points[0].keys() == best.keys()
    assert found.points[0]["network"] == best["network"]
    assert found.losses[0].tolist() == [0.0] * 4
    assert len(found.points) == learner.N_POINTS
    learned = next(line for line in lines if line.startswith("| learned |"))
    assert learned == "| learned | 0.000 | 0.000 | 0.000 | 0.000 |"
