from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from automl import study_spec
from automl.errors import ConfigError
from automl.study_spec import CHECK_ROWS, ROWS_A_MINUTE, SMALL_ROWS, StudySpec, build, same_study, seconds, size_bytes
from automl.values import ColumnKind, TrainerSettings

SMALLEST: dict[str, Any] = {
    "name": "churn",
    "data": {"source": "csv", "params": {"path": "churn.csv"}, "target": "churned"},
}


def spec(**changes: Any) -> StudySpec:
    return build(SMALLEST | changes, where="x.yaml")


def problems(document: Any, overrides: dict[str, tuple[str, Any]] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        build(document, where="x.yaml", overrides=overrides)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90", 90),
        (90, 90),
        (0.5, 0.5),
        ("90s", 90),
        ("10m", 600),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1h30m5s", 5405),
        ("1.5h", 5400),
        (" 10m ", 600),
    ],
)
def test_durations(text: Any, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "ten", "10ms", "10 m", "m", "1m2h", "-5s", "0s", 0, -1, True, None, "nan", "1d"])
def test_what_is_no_duration(text: Any) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds(text)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_duration_is_finite(number: float) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds(number)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (1000, 1000),
        ("1000", 1000),
        ("500MB", 500_000_000),
        ("500M", 500_000_000),
        ("2GiB", 2 * 1024**3),
        ("1.5 KiB", 1536),
        ("1TB", 10**12),
    ],
)
def test_sizes(text: Any, value: int) -> None:
    assert size_bytes(text) == value


@pytest.mark.parametrize("text", ["", "0", 0, "0GB", "much", "-1MB", "2PB", True, None, "MB", "1e9"])
def test_what_is_no_size(text: Any) -> None:
    with pytest.raises(ValueError, match="size"):
        size_bytes(text)


def test_a_study_needs_little() -> None:
    found = spec()
    assert (found.search_space, found.objective, found.task, found.deliver) == ("auto", "auto", "auto", "ensemble")
    assert (found.budget.time, found.budget.trials) == (600, None)
    assert found.trainer.settings(10**4) == TrainerSettings(max_epochs=20)
    assert spec(budget={"trials": 5}).budget.time is None


def test_several_mistakes_are_told_together_with_place_found_and_allowed() -> None:
    document = {
        "nam": "churn",
        "data": {"source": "csv", "target": "y", "kinds": {"zip": "categoric"}},
        "validation": {"strategy": "groups", "size": 1.5},
        "sampler": {"name": "tpee"},
        "budget": {"time": "10x", "trial_memory": "much", "trials": 0},
        "seed": -1,
    }
    told = problems(document)
    expected = [
        "x.yaml: name: is missing",
        "x.yaml: data.kinds.zip: found `categoric`; allowed: `numeric`, `categorical`, `boolean`, ",
        "x.yaml: validation.strategy: found `groups`; allowed: `auto`, `holdout`, `kfold`, `group`, `time`, `domain`.",
        "x.yaml: validation.size: found `1.5`; ",
        "x.yaml: sampler.name: found `tpee`; allowed: `tpe`, `random`, `gp`, `cmaes`. Did you mean `tpe`?",
        "x.yaml: budget.trials: found `0`; ",
        "x.yaml: budget.time: found `10x`; allowed: a duration such as `90s`, `10m`, `2h` or `1h30m`.",
        "x.yaml: budget.trial_memory: found `much`; allowed: a size above 0 such as `500MB` or `2GiB`.",
        "x.yaml: seed: found `-1`; ",
        "x.yaml: nam: unknown key `nam`. Did you mean `name`?",
    ]
    assert len(told) == len(expected)
    for line, start in zip(told, expected, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"validation": {"strategy": "time"}}, "x.yaml: validation: `strategy: time` needs `column`"),
        ({"validation": {"column": "day"}}, "`column` goes with `strategy: group` or `time`"),
        ({"name": "../outside"}, "x.yaml: name: found `../outside`"),
        ({"name": ".hidden"}, "x.yaml: name: found `.hidden`"),
        ({"name": "a/b"}, "x.yaml: name"),
        ({"name": ""}, "x.yaml: name"),
        ({"name": "a\n"}, "x.yaml: name"),
        ({"name": 5}, "x.yaml: name: found `5`; "),
        ({"version": 2}, "x.yaml: version: found `2`"),
        ({"data": {"target": "y"}}, "x.yaml: data.source: is missing"),
        ({"data": None}, "x.yaml: data: found `None`"),
        ({"trainer": {"max_epochs": 1.5}}, "x.yaml: trainer.max_epochs: found `1.5`"),
        (
            {"trainer": {"max_epocs": 5}},
            "x.yaml: trainer.max_epocs: unknown key `max_epocs`. Did you mean",
        ),
        ({"references": "no"}, "x.yaml: references: found `no`; "),
        ({"data": SMALLEST["data"] | {"params": {"path": ["a"]}}}, "x.yaml: data.params.path: found a list; allowed"),
        ({"trainer": {"max_epochs": 0}}, "x.yaml: trainer.max_epochs: found `0`; allowed: a whole number above 0"),
    ],
)
def test_what_is_wrong_is_told(changes: dict[str, Any], said: str) -> None:
    (told,) = problems(SMALLEST | changes)
    assert said in told


@pytest.mark.parametrize(
    ("validation", "n_search", "n_folds"),
    [
        ({}, SMALL_ROWS - 1, 5),
        ({}, SMALL_ROWS, None),
        ({"strategy": "holdout"}, 100, None),
        ({"strategy": "kfold"}, SMALL_ROWS, 5),
        ({"strategy": "kfold", "n_folds": 3}, SMALL_ROWS, 3),
        ({"strategy": "time", "column": "day"}, 100, None),
        ({"strategy": "group", "column": "owner", "n_folds": 4}, 100, 4),
    ],
)
def test_small_tables_are_cross_validated_unless_told(
    validation: dict[str, Any], n_search: int, n_folds: int | None
) -> None:
    assert spec(validation=validation).validation.folds(n_search) == n_folds


@pytest.mark.parametrize(("n_rows", "share"), [(1, 0.1), (100_000, 0.1), (400_000, 0.025), (10**8, 1e-4)])
def test_the_test_part_has_as_many_rows_as_it_takes(n_rows: int, share: float) -> None:
    assert spec().validation.test_share(n_rows) == pytest.approx(share)
    assert spec(validation={"test_size": 0}).validation.test_share(n_rows) == 0
    assert spec(validation={"test_size": 0.3}).validation.test_share(n_rows) == 0.3


@pytest.mark.parametrize(("n_search", "share"), [(1, 0.2), (15_000, 0.2), (30_000, 0.1), (10**6, 0.05)])
def test_the_validation_part_has_as_many_rows_as_it_takes(n_search: int, share: float) -> None:
    assert spec().validation.share(n_search) == pytest.approx(share)
    assert spec(validation={"size": 0.3}).validation.share(n_search) == 0.3


@pytest.mark.parametrize("found", [1.5, 1, 0, -0.1, "half", True])
def test_other_sizes_of_the_validation_part_are_refused(found: Any) -> None:
    with pytest.raises(ConfigError, match=f"size: found `{found}`; allowed: a share above 0 and below 1, or `auto`"):
        spec(validation={"size": found})


@pytest.mark.parametrize("found", [1.5, 1, -0.1, "half", True])
def test_other_sizes_of_the_test_part_are_refused(found: Any) -> None:
    with pytest.raises(ConfigError, match=f"test_size: found `{found}`; allowed: a share from 0 to below 1, or `auto`"):
        spec(validation={"test_size": found})


@pytest.mark.parametrize(("minutes", "n_folds"), [(1, None), (10, None), (59, None), (61, 5)])
def test_larger_tables_are_cross_validated_where_there_is_time(minutes: int, n_folds: int | None) -> None:
    n_search = 60 * ROWS_A_MINUTE
    assert spec().validation.folds(n_search, 60.0 * minutes) == n_folds
    assert spec(validation={"strategy": "holdout"}).validation.folds(n_search, 60.0 * minutes) is None


@pytest.mark.parametrize(
    ("n_train", "n_checks"), [(100, 1), (CHECK_ROWS, 1), (CHECK_ROWS + 1, 2), (10 * CHECK_ROWS, 10)]
)
def test_long_epochs_are_scored_in_parts(n_train: int, n_checks: int) -> None:
    assert spec().trainer.settings(n_train).checks_an_epoch == n_checks


@pytest.mark.parametrize(("n_train", "n_epochs"), [(1, 100), (400, 100), (10_000, 20), (10**7, 12)])
def test_epochs_fall_with_the_rows_unless_told(n_train: int, n_epochs: int) -> None:
    assert spec().trainer.settings(n_train).max_epochs == n_epochs
    assert spec(trainer={"max_epochs": 7}).trainer.settings(n_train).max_epochs == 7


def test_flags_override_the_file_and_are_named_when_they_are_wrong() -> None:
    found = build(
        SMALLEST | {"budget": {"trials": 3}},
        where="x.yaml",
        overrides={"budget.time": ("--time", "90s"), "seed": ("--seed", 5)},
    )
    assert (found.budget.trials, found.budget.time, found.seed) == (3, 90, 5)
    told = problems(SMALLEST, {"budget.time": ("--time", "soon"), "task": ("--task", "binry"), "name": ("--name", "/")})
    assert sorted(line.partition(":")[0] for line in told) == ["--name", "--task", "--time"]
    assert "Did you mean `binary`?" in "\n".join(told)


def test_the_defaults_alone_and_a_number_of_trials_are_not_asked_for_together() -> None:
    (told,) = problems(SMALLEST, {"defaults": ("--defaults", True), "budget.trials": ("--trials", 9)})
    assert told.startswith("--trials: found `9`; a study of the defaults alone is one trial")
    (told,) = problems(SMALLEST | {"defaults": True}, {"budget.trials": ("--trials", 9)})  # to go on with
    assert told.startswith("--trials: found `9`")
    assert build(SMALLEST | {"defaults": True, "budget": {"trials": 9}}, where="x.yaml").budget.trials == 1


def test_a_flag_below_what_is_no_mapping_leaves_the_files_own_error() -> None:
    (told,) = problems(SMALLEST | {"budget": "ten minutes"}, {"budget.time": ("--time", "90s")})
    assert told.startswith("x.yaml: budget: found `ten minutes`")


def test_overriding_leaves_the_document_as_it_is() -> None:
    document = {"name": "a", "data": dict(SMALLEST["data"])}
    build(document, where="x.yaml", overrides={"budget.time": ("--time", "9s"), "name": ("--name", "b")})
    assert document == {"name": "a", "data": SMALLEST["data"]}


def test_a_study_survives_its_file_and_json(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(
        "name: churn\n"
        "data: {source: csv, params: {path: churn.csv}, target: churned, positive: no, kinds: {zip: categorical}}\n"
        "validation: {strategy: kfold, test_size: 0}\n"
        "budget: {time: 1h30m, trial_memory: 2GiB}\n"
    )
    found = study_spec.load(tmp_path / "x.yaml")
    assert found.data.positive == "no"
    assert found.data.kinds == {"zip": ColumnKind.CATEGORICAL}
    assert found.validation.folds(10**6) == 5
    stored = json.loads(json.dumps(found.model_dump(mode="json")))
    assert build(stored, where="study.json") == found
    assert build(stored, where="study.json").digest == found.digest


def test_another_budget_or_name_is_the_same_study() -> None:
    same_study(spec(), spec(budget={"trials": 500}))
    assert spec(name="a").digest == spec(name="b").digest


def test_every_difference_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        same_study(spec(), spec(seed=3, objective="accuracy"))
    told = str(caught.value)
    assert "`seed` was 0 and is now 3" in told
    assert "`objective` was 'auto' and is now 'accuracy'" in told
    assert "--new-name" in told
    assert "`name`" not in told


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("churn.csv", "churn-left"),
        ("Kunden 2024 (neu).csv.gz", "Kunden-2024-neu-left"),
        ("loans/train.parquet", "loans-train-left"),
        ("../.csv", "study-left"),
    ],
)
def test_a_name_for_a_table(path: str, name: str) -> None:
    found = study_spec.name_for(Path(path), "left")
    assert found == name
    assert spec(name=found).name == name


@pytest.mark.parametrize("target", ["Wurde gekündigt?", "x" * 300, "???", "日本"])
def test_whatever_the_target_is_called_the_name_is_one(target: str) -> None:
    assert spec(name=study_spec.name_for(Path("データ.csv"), target))


def test_truth_values_among_words_are_told_as_yaml_writes_them() -> None:
    found = problems(SMALLEST | {"data": SMALLEST["data"] | {"out_of_core": "maybe"}})
    assert found == ["x.yaml: data.out_of_core: found `maybe`; allowed: `auto`, `true`, `false`."]


@pytest.mark.parametrize("kind", ["image", "sequence"])
def test_a_column_by_itself_is_no_image(kind: str) -> None:
    document = {"name": "a", "data": {"source": "csv", "target": "y", "kinds": {"p0": kind}}}
    with pytest.raises(ConfigError, match=f"data.kinds.p0: found `{kind}`, which no column is by itself; say under"):
        study_spec.build(document, where="study")


def test_a_forecast_is_of_numbers_and_validated_on_what_is_later() -> None:
    forecast = {"time": "month", "horizon": 3}
    assert spec(forecast=forecast).forecast.layout().window is None
    assert spec(forecast={**forecast, "window": 12, "known": ["price"]}).forecast.layout().known == ("price",)
    assert "forecast" not in spec().decisive()
    for changes, said in (
        ({"task": "binary"}, "a `forecast` is of numbers"),
        ({"validation": {"strategy": "group", "column": "shop"}}, "is validated on what is later"),
        ({"blocks": [{"kind": "sequence", "columns": "p*", "shape": [1, 2]}]}, "leave `blocks` out"),
        ({"forecast": {**forecast, "window": 0}}, "allowed: a whole number above 0, or `auto`"),
        ({"data": {**SMALLEST["data"], "out_of_core": True}}, "needs its series in memory"),
    ):
        assert said in problems({**SMALLEST, "forecast": forecast, **changes})[0]


def with_target(target: object, task: object) -> dict[str, object]:
    return SMALLEST | {"data": {**SMALLEST["data"], "target": target}, "task": task}


@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        ("auto", "auto"),
        ("multilabel", "multilabel"),
        ({"quantile": [0.1, 0.9]}, (0.1, 0.9)),
        ({"a": "binary", "b": {"quantile": [0.5]}}, {"a": "binary", "b": (0.5,)}),
        ({"quantile": "regression"}, {"quantile": "regression"}),  # a target that is called so
        ({"quantile": {"quantile": [0.5]}}, {"quantile": (0.5,)}),
    ],
)
def test_a_task_is_one_for_all_or_each_targets_own(task: object, wanted: object) -> None:
    found = build(with_target(["a", "b"], task), where="x.yaml")
    assert found.wanted_task() == wanted
    again = build(json.loads(found.model_dump_json()), where="x.json")
    assert (again, again.digest) == (found, found.digest)


@pytest.mark.parametrize(
    ("target", "task", "said"),
    [
        (["a", "a"], "auto", "x.yaml: data.target: `a` is there 2 times; name each column to predict once."),
        ([], "auto", "x.yaml: data.target: found `[]`; allowed: the name of a column, or a list of names."),
        (["a", 1], "auto", "x.yaml: data.target: found `['a', 1]`; allowed: the name of a column, or a list of names."),
        ("a", {"quantile": [0.9, 0.1]}, "rising, such as `[0.1, 0.5, 0.9]`."),
        ("a", {"quantile": 0.5}, "found `0.5`; allowed: levels above 0 and below 1"),
        ("a", {"quantile": [0.1, 1]}, "found `[0.1, 1]`; allowed: levels above 0 and below 1"),
        (["a", "b"], {"a": "binry"}, "found `binry`; allowed: `auto`, `binary`"),
        (["a", "b"], ["binary", "binary"], "found `['binary', 'binary']`; allowed: a task such as `auto`"),
        ("a", "quantiles", "x.yaml: task: found `quantiles`; allowed: `auto`"),
    ],
)
def test_a_target_or_a_task_that_is_none_is_told_once(target: object, task: object, said: str) -> None:
    (told,) = problems(with_target(target, task))
    assert said in told
