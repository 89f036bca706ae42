from __future__ import annotations

import hashlib
import json
import math
import warnings
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl import plugins, search_space
from automl.components import CATALOGUES
from automl.documents import validate
from automl.errors import ConfigError
from automl.search_space import Categorical, FloatRange, IntRange, SearchSpace
from automl.testing import PLAIN_TASKS
from automl.values import Choice, Column, ColumnKind, Configuration, Scalar, Schema, Step, Target, Task
from tests.lightning_modules import registered

plugins.load_builtin()

#: Several options everywhere, with hyperparameters of the same name in different options.
DOCUMENT: dict[str, Any] = {
    "version": 1,
    "preprocessing": [
        {
            "stage": "imputation",
            "options": [
                {"name": "knn", "params": {"n_neighbors": {"type": "int", "low": 3, "high": 15}}},
                {"name": "median", "params": {"indicators": {"type": "categorical", "choices": [True, False]}}},
                "mean",
            ],
        },
        {"stage": "scaling", "options": [{"name": "quantile", "params": {"output": "normal"}}]},
    ],
    "network": [
        {
            "name": "mlp",
            "params": {
                "depth": {"type": "int", "low": 0, "high": 8, "step": 2},
                "width": {"type": "int", "low": 16, "high": 1024, "log": True},
                "dropout": 0.25,
            },
        },
        {"name": "residual_mlp", "params": {"depth": {"type": "int", "low": 1, "high": 4, "default": 2}}},
    ],
    "optimizer": [
        {"name": "adamw", "params": {"lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True}}},
        {"name": "sgd", "params": {"lr": {"type": "float", "low": 0.1, "high": 1, "step": 0.3}}},
    ],
    "loss": ["cross_entropy"],
    "batch_size": {"type": "categorical", "choices": [256, 64, 128]},
}


def space(**changes: Any) -> SearchSpace:
    return validate(SearchSpace, DOCUMENT | changes, where="x.yaml")


def schema(*columns: Column, task: Task = Task.BINARY) -> Schema:
    return Schema(columns, Target("y", task, ("no", "yes") if task is Task.BINARY else ()))


def problems(**changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        space(**changes)
    return [str(problem) for problem in caught.value.problems]


def in_network(distribution: Any) -> list[dict[str, Any]]:
    return [{"name": "mlp", "params": {"depth": distribution}}]


# --- sampling ------------------------------------------------------------------------------------------------------


def sampled(seed: int, of: SearchSpace | None = None) -> tuple[Configuration, dict[str, Any]]:
    """Returns a configuration, and Optuna's parameters of it."""
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    return (of or space()).suggest(trial), trial.params


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**31))
def test_a_configuration_survives_json_and_a_replay(seed: int) -> None:
    found, params = sampled(seed)
    again = Configuration.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found
    assert again.digest == found.digest
    assert again.flatten() == found.flatten()
    assert space().suggest(optuna.trial.FixedTrial(params)) == found


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**31))
def test_what_optuna_calls_a_parameter_is_what_the_configuration_calls_it(seed: int) -> None:
    found, params = sampled(seed)
    flat = found.flatten()
    assert {name: flat[name] for name in params} == params
    fixed = {"preprocessing.scaling", "preprocessing.scaling.quantile.output", "schedule", "loss"}
    usual = {"augmentation", "averaging", "batches", "balancing", "domain", "clip_norm"}
    assert flat.keys() - params.keys() <= fixed | usual | {"network.mlp.dropout"}


def test_options_have_their_own_names_so_that_no_two_ranges_share_one() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    ranges: dict[str, set[str]] = {}
    for _ in range(60):
        trial = study.ask()
        space().suggest(trial)
        for name, distribution in trial.distributions.items():
            ranges.setdefault(name, set()).add(repr(distribution))
        study.tell(trial, 0.0)
    assert {"network.mlp.depth", "network.residual_mlp.depth", "optimizer.adamw.lr", "optimizer.sgd.lr"} <= set(ranges)
    assert all(len(found) == 1 for found in ranges.values())
    assert len(ranges) == space().size()


def test_the_digest_is_of_what_is_trained_and_of_nothing_else() -> None:
    found, _ = sampled(0)
    reordered = Configuration(
        found.preprocessing,
        Choice(found.network.name, dict(reversed(list(found.network.params.items())))),
        found.optimizer,
        found.schedule,
        found.loss,
        found.batch_size,
    )
    assert reordered.digest == found.digest
    swapped = Configuration(
        found.preprocessing[::-1], found.network, found.optimizer, found.schedule, found.loss, found.batch_size
    )
    assert swapped.digest != found.digest  # the order of steps is part of what is done


#: A configuration as it was stored before there were augmentations, averages, ways to draw batches and clipping.
OLD = {
    "preprocessing": [{"stage": "scaling", "name": "standard", "params": {}}],
    "network": {"name": "mlp", "params": {"depth": 2}},
    "optimizer": {"name": "adamw", "params": {}},
    "schedule": {"name": "constant", "params": {}},
    "loss": {"name": "mse", "params": {}},
    "batch_size": 32,
}


def test_what_was_stored_before_there_were_more_places_stays_what_it_was() -> None:
    found = Configuration.from_json(OLD)
    assert (found.augmentation, found.averaging, found.batches) == (Choice("none"), Choice("none"), Choice("shuffled"))
    assert found.clip_norm == 0
    assert found.to_json() == OLD
    assert found.digest == hashlib.sha256(json.dumps(OLD, sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("augmentation", Choice("mixup", {"alpha": 0.4})),
        ("averaging", Choice("ema")),
        ("batches", Choice("balanced")),
        ("balancing", Choice("uncertainty")),
        ("clip_norm", 1.0),
        ("batch_size", "full"),
    ],
)
def test_every_place_counts_in_the_digest_and_survives_json(place: str, value: Any) -> None:
    plain = Configuration.from_json(OLD)
    changed = replace(plain, **{place: value})
    assert changed.digest != plain.digest
    assert Configuration.from_json(json.loads(json.dumps(changed.to_json()))) == changed
    assert changed.flatten()[place] == (value.name if isinstance(value, Choice) else value)


#: Everything that is not a component of the pipe's first half.
TRAINING: dict[str, Any] = {
    "optimizer": [{"name": "adamw", "params": {"lr": {"type": "categorical", "choices": ["find", 0.001]}}}],
    "augmentation": ["none", {"name": "mixup", "params": {"alpha": {"type": "float", "low": 0.1, "high": 1}}}],
    "averaging": ["none", {"name": "ema", "params": {"decay": {"type": "float", "low": 0.9, "high": 0.999}}}, "swa"],
    "batches": ["shuffled", "balanced"],
    "clip_norm": {"type": "categorical", "choices": [0, 1.0]},
    "batch_size": {"type": "categorical", "choices": [64, "full"]},
}


def test_what_training_does_is_searched_place_by_place() -> None:
    made = space(**TRAINING)
    assert made.check(CATALOGUES, where="x.yaml") == []
    seen: dict[str, set[Any]] = {name: set() for name in ("augmentation", "averaging", "batches", "clip_norm")}
    rates, sizes = set(), set()
    for seed in range(40):
        found, params = sampled(seed, made)
        assert made.suggest(optuna.trial.FixedTrial(params)) == found
        for name, values in seen.items():
            values.add(found.flatten()[name])
        rates.add(found.optimizer.params["lr"])
        sizes.add(found.batch_size)
    assert seen == {
        "augmentation": {"none", "mixup"},
        "averaging": {"none", "ema", "swa"},
        "batches": {"shuffled", "balanced"},
        "clip_norm": {0.0, 1.0},
    }
    assert (rates, sizes) == ({"find", 0.001}, {64, "full"})
    defaults = made.defaults(CATALOGUES)
    assert {name: defaults[name] for name in seen} == {
        "augmentation": "none",
        "averaging": "none",
        "batches": "shuffled",
        "clip_norm": 0,
    }
    start = space(**TRAINING, start=[{"augmentation": "mixup", "averaging.ema.decay": 0.95, "clip_norm": 1.0}])
    assert start.check(CATALOGUES, where="x.yaml") == []
    changed = start.starts(CATALOGUES)[1]
    assert (changed["augmentation"], changed["augmentation.mixup.alpha"], changed["clip_norm"]) == ("mixup", 0.2, 1.0)


def test_one_option_and_plain_values_are_not_searched() -> None:
    fixed = space(
        preprocessing=[],
        network=[{"name": "mlp", "params": {"depth": 2}}],
        optimizer=["adamw"],
        batch_size=32,
    )
    assert fixed.size() == 0
    found, params = sampled(0, fixed)
    assert params == {}
    assert found == Configuration(
        (), Choice("mlp", {"depth": 2}), Choice("adamw"), Choice("constant"), Choice("cross_entropy"), 32
    )


def test_a_stage_travels_with_its_step() -> None:
    found, _ = sampled(0)
    assert [step.stage for step in found.preprocessing] == ["imputation", "scaling"]
    assert found.preprocessing[1] == Step("scaling", Choice("quantile", {"output": "normal"}))


def test_without_a_loss_nothing_is_sampled() -> None:
    with pytest.raises(ConfigError, match="for_data"):
        sampled(0, space(loss=None))


# --- defaults --------------------------------------------------------------------------------------------------------


def test_defaults_are_the_first_options_with_the_components_own_values() -> None:
    assert space().defaults(CATALOGUES) == {
        "preprocessing.imputation": "knn",
        "preprocessing.imputation.knn.n_neighbors": 5,
        "network": "mlp",
        "network.mlp.depth": 4,  # the factory's 3 lies between two steps
        "network.mlp.width": 256,
        "optimizer": "adamw",
        "optimizer.adamw.lr": 1e-3,
        "batch_size": 256,
    }


def test_defaults_can_be_replayed() -> None:
    defaults = space().defaults(CATALOGUES)
    flat = space().suggest(optuna.trial.FixedTrial(defaults)).flatten()
    assert {name: flat[name] for name in defaults} == defaults


@pytest.mark.parametrize(
    ("distribution", "default"),
    [
        ({"type": "int", "low": 5, "high": 9}, 5),  # the factory's 3 is below
        ({"type": "int", "low": 0, "high": 2}, 2),
        ({"type": "int", "low": 1, "high": 9, "default": 7}, 7),
        ({"type": "categorical", "choices": [1, 3]}, 3),
        ({"type": "categorical", "choices": [4, 2]}, 4),
        ({"type": "categorical", "choices": [4, 2], "default": 2}, 2),
    ],
)
def test_a_default_is_the_authors_else_the_components_else_the_nearest(
    distribution: dict[str, Any], default: Scalar
) -> None:
    assert space(network=in_network(distribution)).defaults(CATALOGUES)["network.mlp.depth"] == default


bounds = st.tuples(st.integers(1, 10_000), st.integers(0, 10_000)).map(lambda pair: (pair[0], sum(pair)))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(bounds, st.integers(1, 50), st.booleans(), st.floats(-1e6, 1e6))
def test_whatever_is_nearest_lies_in_an_integer_range(
    ends: tuple[int, int], step: int, log: bool, value: float
) -> None:
    found = IntRange(type="int", low=ends[0], high=ends[1], step=1 if log else step, log=log)
    for number in (found.nearest(value), found.middle()):
        assert isinstance(number, int)
        assert found.low <= number <= found.high
        assert (number - found.low) % found.step == 0


@settings(max_examples=100, deadline=None, derandomize=True)
@given(bounds, st.floats(0.01, 50), st.booleans(), st.floats(-1e6, 1e6))
def test_whatever_is_nearest_lies_in_a_range_of_numbers(
    ends: tuple[int, int], step: float, log: bool, value: float
) -> None:
    found = FloatRange(type="float", low=ends[0] / 7, high=ends[1] / 7, step=None if log else step, log=log)
    for number in (found.nearest(value), found.middle()):
        assert isinstance(number, float)
        assert found.low <= number <= found.high
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna says when `high` lies between two steps
            again = found.suggest(optuna.trial.FixedTrial({"x": number}), "x")
        assert math.isclose(float(str(again)), number)


# --- what is wrong with a file by itself ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distribution", "said"),
    [
        ({"type": "int", "low": 5, "high": 3}, "`low` must not be above `high`; found low=5, high=3"),
        ({"type": "float", "low": 0, "high": 1, "log": True}, "a logarithmic range starts above 0; found low=0"),
        ({"type": "int", "low": -1, "high": 1, "log": True}, "a logarithmic range starts above 0; found low=-1"),
        ({"type": "int", "low": 1, "high": 9, "log": True, "step": 2}, "a logarithmic range takes no `step`"),
        ({"type": "float", "low": 1, "high": 9, "log": True, "step": 0.1}, "a logarithmic range takes no `step`"),
        ({"type": "int", "low": 1, "high": 9, "step": 0}, "`step` must be above 0; found 0"),
        ({"type": "float", "low": 1, "high": 9, "step": -0.5}, "`step` must be above 0; found -0.5"),
        ({"type": "int", "low": 1, "high": 9, "default": 10}, "`default` must lie between low=1 and high=9; found 10"),
        ({"type": "float", "low": 0, "high": float("inf")}, "must be finite"),
        ({"type": "float", "low": float("nan"), "high": 1}, "must be finite"),
        ({"type": "float", "low": 0, "high": 1, "default": float("nan")}, "`default` must lie between"),
        ({"type": "float", "low": 0, "high": 1, "step": float("nan")}, "`step` must be above 0; found nan"),
        ({"type": "int", "low": 1.5, "high": 3}, "depth.low: found `1.5`; "),
        ({"type": "int", "low": "1", "high": 3}, "depth.low: found `1`; "),
        ({"type": "int", "low": True, "high": 3}, "depth.low: found `True`; "),
        ({"type": "int", "high": 3}, "depth.low: is missing"),
        ({"type": "int", "low": 1, "hig": 3}, "depth.hig: unknown key `hig`. Did you mean `high`?"),
        ({"type": "categorical", "choices": []}, "depth.choices: found a list; "),
        ({"type": "categorical", "choices": [1, 1]}, "a choice stands twice"),
        ({"type": "categorical", "choices": [1, 2], "default": 3}, "`default` must be one of the choices [1, 2]"),
        ({"type": "categorical", "choices": [{"a": 1}]}, "depth.choices.0"),
        ({"type": "categorical", "choices": [[1], [1]]}, "a choice stands twice"),
        ({"type": "integer", "low": 1, "high": 2}, "`type` must be `int`, `float`, `categorical`, `options` or `data`"),
        ({"low": 1, "high": 2}, "`type` must be `int`, `float`, `categorical`, `options` or `data`"),
        ([{"a": 1}], "must be a plain value, a list of such, or a mapping with a `type`"),
    ],
)
def test_impossible_ranges_are_told_with_what_was_found(distribution: Any, said: str) -> None:
    told = "\n".join(problems(network=in_network(distribution)))
    assert said in told
    assert "x.yaml: network.0.params.depth" in told


def test_true_and_one_are_two_choices() -> None:
    assert Categorical(type="categorical", choices=(True, 1, 1.5, "1")).choices == (True, 1, 1.5, "1")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": []}, "x.yaml: network: found a list; "),
        ({"netwrok": ["mlp"]}, "x.yaml: netwrok: unknown key `netwrok`. Did you mean `network`?"),
        ({"network": ["mlp", "mlp"]}, "the option `mlp` stands twice under `network`"),
        ({"preprocessing": [{"stage": "scaling", "options": ["none"]}] * 2}, "the stage `scaling` stands twice"),
        ({"version": 2}, "x.yaml: version: found `2`"),
        ({"network": [{"nam": "mlp"}]}, "x.yaml: network.0.nam: unknown key `nam`. Did you mean `name`?"),
    ],
)
def test_impossible_spaces_are_told(changes: dict[str, Any], said: str) -> None:
    assert said in "\n".join(problems(**changes))


def test_several_mistakes_are_told_together() -> None:
    assert len(problems(version=2, network=in_network({"type": "int", "low": 5, "high": 3}), optimizer=[])) == 3


# --- what the catalogues know --------------------------------------------------------------------------------------


def checked(**changes: Any) -> list[str]:
    return [str(problem) for problem in space(**changes).check(CATALOGUES, where="x.yaml")]


def test_what_the_catalogues_know_passes() -> None:
    assert checked() == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": ["mpl"]}, "x.yaml: network: unknown network `mpl`. Did you mean `mlp`?"),
        (
            {"optimizer": ["adam", "adamx"]},
            "x.yaml: optimizer: unknown optimizer `adamx`. Did you mean `adam`",
        ),
        (
            {"preprocessing": [{"stage": "scalin", "options": ["standard"]}]},
            "x.yaml: preprocessing: unknown stage `scalin`. Did you mean `scaling`",
        ),
        (
            {"preprocessing": [{"stage": "scaling", "options": ["standart"]}]},
            "x.yaml: preprocessing.scaling: unknown scaling `standart`. Did you mean `standard`?",
        ),
        (
            {"network": [{"name": "mlp", "params": {"widht": 3}}]},
            "x.yaml: network.mlp.widht: `mlp` has no hyperparameter `widht`. Did you mean `width`?",
        ),
        (
            {"preprocessing": [{"stage": "scaling", "options": [{"name": "standard", "params": {"a": 1}}]}]},
            "`standard` has no hyperparameter `a`. It has no hyperparameters.",
        ),
        (
            {"network": in_network({"type": "float", "low": 1, "high": 2})},
            "x.yaml: network.mlp.depth: found `1.0`, `2.0`; allowed: int.",
        ),
        ({"network": in_network(True)}, "x.yaml: network.mlp.depth: found `True`; allowed: int."),
        (
            {"network": [{"name": "mlp", "params": {"activation": "rleu"}}]},
            "found `rleu`; allowed: one of `relu`, `leaky_relu`",
        ),
        (
            {"network": [{"name": "mlp", "params": {"activation": {"type": "categorical", "choices": ["relu", 1]}}}]},
            "x.yaml: network.mlp.activation: found `1`; allowed: one of",
        ),
        ({"batch_size": 0}, "x.yaml: batch_size: found `0`; must be a whole number above 0"),
        ({"batch_size": {"type": "float", "low": 1, "high": 2}}, "x.yaml: batch_size: found `1.0`"),
        ({"batch_size": "many"}, "x.yaml: batch_size: found `many`; must be a whole number above 0, or `full`"),
        ({"clip_norm": -1}, "x.yaml: clip_norm: found `-1`; must be a number, 0 or above"),
        ({"clip_norm": "none"}, "x.yaml: clip_norm: found `none`"),
        ({"augmentation": ["mixpu"]}, "x.yaml: augmentation: unknown augmentation `mixpu`. Did you mean `mixup`?"),
        ({"averaging": [{"name": "ema", "params": {"decay": "high"}}]}, "x.yaml: averaging.ema.decay: found `high`"),
        ({"batches": ["balance"]}, "x.yaml: batches: unknown batches `balance`. Did you mean `balanced`?"),
        (
            {"optimizer": [{"name": "adamw", "params": {"lr": "fnid"}}]},
            "x.yaml: optimizer.adamw.lr: found `fnid`; allowed: float or `find`.",
        ),
        ({"loss": ["hubber"]}, "x.yaml: loss: unknown loss `hubber`. Did you mean `huber`?"),
    ],
)
def test_what_the_catalogues_do_not_know_is_told(changes: dict[str, Any], said: str) -> None:
    assert said in "\n".join(checked(**changes))


# --- for data --------------------------------------------------------------------------------------------------------

NUMBER = Column("a", ColumnKind.NUMERIC, "float64")
HOLED = Column("b", ColumnKind.NUMERIC, "float64", n_missing=3)
WORD = Column("c", ColumnKind.CATEGORICAL, "str", n_missing=3)


def test_choices_that_cannot_matter_are_not_searched() -> None:
    found, notes = space().for_data(schema(NUMBER))
    assert found.preprocessing[0].options == [search_space.Option(name="knn")]
    assert notes == ["imputation is not searched: nothing is missing"]
    assert "imputation" not in " ".join(found.defaults(CATALOGUES))


@pytest.mark.parametrize("holed", [HOLED, WORD], ids=["numbers", "categories"])
def test_choices_that_matter_stay(holed: Column) -> None:
    found, notes = space().for_data(schema(NUMBER, holed))
    assert (found.preprocessing, notes) == (space().preprocessing, [])


def test_encodings_without_categories_are_not_searched() -> None:
    encodings = [{"stage": "encoding", "options": ["onehot", "ordinal"]}]
    found, notes = space(preprocessing=encodings).for_data(schema(HOLED))
    assert [option.name for option in found.preprocessing[0].options] == ["onehot"]
    assert notes == ["encoding is not searched: there are no categories"]
    assert space(preprocessing=encodings).for_data(schema(HOLED, WORD))[1] == []


@pytest.mark.parametrize(("task", "loss"), [(Task.BINARY, "cross_entropy"), (Task.REGRESSION, "mse")])
def test_the_usual_loss_is_filled_in(task: Task, loss: str) -> None:
    found, _ = space(loss=None).for_data(schema(HOLED, task=task))
    assert found.loss == [search_space.Option(name=loss)]
    kept, _ = space(loss=["huber"]).for_data(schema(HOLED, task=task))
    assert kept.loss == [search_space.Option(name="huber")]


def test_a_space_survives_json() -> None:
    found, _ = space().for_data(schema(HOLED, WORD))
    assert SearchSpace.model_validate(json.loads(json.dumps(found.model_dump(mode="json")))) == found


# --- files -------------------------------------------------------------------------------------------------------


def test_spaces_are_found_beside_the_study_above_it_and_in_the_package(tmp_path: Path) -> None:
    study = tmp_path / "experiments" / "mine"
    study.mkdir(parents=True)
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "own.yaml").write_text("version: 1")
    (study / "beside.yaml").write_text("version: 1")
    assert search_space.find("own", study) == tmp_path / "search_spaces" / "own.yaml"
    assert search_space.find("beside.yaml", study) == study / "beside.yaml"
    assert search_space.find("tabular_small", study).is_file()
    with pytest.raises(ConfigError, match=r"unknown search space `owm`\. Did you mean `own`"):
        search_space.find("owm", study)


@pytest.mark.parametrize("task", PLAIN_TASKS)
def test_the_automatic_space_suits_the_task(task: Task) -> None:
    found = search_space.load(search_space.auto(schema(HOLED, task=task)))
    usual = {option.name for option in found.loss or []}
    assert bool(usual & {"mse", "huber"}) is not task.is_classification


def test_a_component_whose_package_is_not_there_is_told_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {"preprocessing": [{"stage": "reduction", "options": ["umap"]}]}
    monkeypatch.setattr("automl.components.metadata.version", lambda name: "1.0")
    assert checked(**chosen) == []

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("automl.components.metadata.version", missing)
    (told,) = checked(**chosen)
    assert "`umap` needs the package `umap-learn`, which is not installed" in told
    assert "pip install umap-learn" in told


# --- lists, nested options, conditions, and LightningModules that bring what others are given -------------------------

WIDTH = {"type": "int", "low": 4, "high": 8}
NESTED: dict[str, Any] = {
    "version": 1,
    "network": [
        {
            "name": "my.Classifier",
            "params": {
                "hidden": {"type": "categorical", "choices": [[8], [16, 8]]},
                "lr": {
                    "type": "options",
                    "options": [{"name": "same"}, {"name": "falls", "params": {"width": WIDTH}}],
                },
                "n_inputs": {"type": "data", "value": "n_inputs"},
                "stops": {
                    "type": "categorical",
                    "choices": [True, False],
                    "when": {"hidden": [[16, 8]], "lr": "falls"},
                },
            },
        },
        {"name": "mlp", "params": {"width": WIDTH}},
    ],
    "optimizer": DOCUMENT["optimizer"],
    "loss": ["cross_entropy"],
}


@pytest.fixture
def _modules() -> Any:
    with registered():
        yield


def test_lists_nested_options_and_conditions_are_sampled_and_replayed() -> None:
    made = validate(SearchSpace, NESTED, where="x.yaml")
    seen = set()
    for seed in range(40):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        trial = study.ask()
        found = made.suggest(trial, ["my.Classifier"])
        assert made.configuration(trial.params, ["my.Classifier"]) == found
        assert Configuration.from_json(json.loads(json.dumps(found.to_json()))) == found
        assert found.flatten().items() >= trial.params.items()
        if found.network.name == "mlp":
            assert found.optimizer.name in ("adamw", "sgd")
            continue
        assert not any(name.startswith("optimizer") for name in trial.params)
        params = found.network.params
        lr: Any = params["lr"]
        assert params["hidden"] in ([8], [16, 8])
        assert set(lr) == ({"name"} if lr["name"] == "same" else {"name", "width"})
        assert ("stops" in params) is (params["hidden"] == [16, 8] and lr["name"] == "falls")
        seen.add((len(params["hidden"]), lr["name"], params.get("stops")))  # type: ignore[arg-type]
    assert len(seen) == 5


@pytest.mark.usefixtures("_modules")
def test_defaults_and_start_points_of_nested_options() -> None:
    prefix = "network.my.Classifier"
    start = {f"{prefix}.lr": "falls", f"{prefix}.hidden": "[16, 8]", f"{prefix}.lr.falls.width": 5}
    made = validate(SearchSpace, NESTED | {"start": [start]}, where="x.yaml")
    assert made._check_start("x.yaml") == []
    first, second = made.starts(CATALOGUES)
    usual = {"network": "my.Classifier", f"{prefix}.hidden": "[8]", f"{prefix}.lr": "same"}
    assert first == usual
    assert second == usual | start | {f"{prefix}.stops": True}
    assert made.configuration(second, ["my.Classifier"]).network.params["lr"] == {"name": "falls", "width": 5}


@pytest.mark.usefixtures("_modules")
@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"hiden": [8]}, "x.yaml: network.my.Gan.hiden: `my.Gan` has no hyperparameter `hiden`"),
        ({"laten": 3, "n_inputs": 2}, "Did you mean `latent`?"),
        ({}, "`my.Gan` needs `n_inputs`, which has no default and is not in the space. Give it a value"),
        ({"n_inputs": [2]}, "x.yaml: network.my.Gan.n_inputs: found `[2]`; allowed: int"),
        ({"latent": 3, "n_inputs": WIDTH | {"when": {"latent": 3}}}, "`my.Gan` needs `n_inputs` always"),
    ],
)
def test_what_a_lightning_module_does_not_take_is_told(params: dict[str, Any], said: str) -> None:
    made = validate(SearchSpace, {"version": 1, "network": [{"name": "my.Gan", "params": params}]}, where="x.yaml")
    assert said in " ".join(map(str, made.check(CATALOGUES, where="x.yaml")))


def test_only_a_lightning_module_brings_its_optimizer() -> None:
    made = validate(SearchSpace, {"version": 1, "network": ["mlp"]}, where="x.yaml")
    (problem,) = made.check(CATALOGUES, where="x.yaml")
    assert str(problem) == "x.yaml: optimizer: is missing. Only a LightningModule brings its own."


def test_a_condition_is_of_what_stands_above() -> None:
    (told,) = problems(network=[{"name": "mlp", "params": {"depth": WIDTH | {"when": {"width": 4}}, "width": WIDTH}}])
    assert "`depth` is searched when `width`, which does not stand above it" in told
