"""Every study and every search space that is shipped works: none of them is decoration."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml

from automl import plugins, preparation, search_space, study_spec
from automl.components import CATALOGUES, STAGES
from automl.data import sources
from tests.command_line import Workplace

ROOT = Path(__file__).parents[1]
STUDIES = sorted((ROOT / "experiments").glob("*.yaml"))
SPACES = sorted((ROOT / "search_spaces").glob("*.yaml"))


@pytest.fixture
def own_modules() -> Iterator[None]:
    """Leaves the catalogue of networks to other tests as it was."""
    plugins.load_builtin()
    before = set(CATALOGUES["network"].names())
    yield
    for name in set(CATALOGUES["network"].names()) - before:
        del CATALOGUES["network"]._components[name]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_study_checks(path: Path, own_modules: None) -> None:
    spec = study_spec.load(path)
    plugins.import_modules(spec.plugins)
    assert spec.name == path.stem
    prepared = preparation.check(spec, path.parent)
    assert prepared.n_test > 0
    assert prepared.space.size() > 0


def test_a_binary_classifier_has_one_output() -> None:
    """Whose sigmoid is the probability of the class that the study calls positive."""
    plugins.load_builtin()
    path = ROOT / "experiments/breast_cancer_dense.yaml"
    target = preparation.check(study_spec.load(path), path.parent).schema.target
    assert (target.n_outputs, target.classes[1]) == (1, "malignant")


def test_a_mixture_holds_every_kind() -> None:
    plugins.load_builtin()
    path = ROOT / "experiments/country_flags.yaml"
    checked = preparation.check(study_spec.load(path), path.parent)
    assert {column.kind for column in checked.schema.used} >= {"image", "text", "numeric", "categorical"}
    assert checked.space_name.startswith("mixtures")


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_space_is_known_to_the_catalogues_and_can_be_sampled(path: Path) -> None:
    plugins.load_builtin()
    space = search_space.load(path)
    assert space.check(CATALOGUES, where=path.name) == []
    complete = space.model_copy(update={"loss": space.loss or [search_space.Option(name="mse")]})
    defaults = space.defaults(CATALOGUES)
    replayed = complete.suggest(optuna.trial.FixedTrial(defaults))
    assert {name: value for name, value in replayed.flatten().items() if name in defaults} == defaults
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    assert len({complete.suggest(study.ask()).digest for _ in range(20)}) > 1


def test_what_is_for_tables_stands_in_the_spaces_of_everything() -> None:
    plugins.load_builtin()
    paths = [ROOT / "search_spaces" / f"tabular_all_{of}.yaml" for of in ("classification", "regression")]
    places = [place for path in paths for place in search_space.load(path).places()]
    named = {(place.removeprefix("preprocessing."), option.name) for place, those in places for option in those}
    of_other_kinds = {"image", "sequence", "tokens", "quantile", "single_row"}
    of_texts_alone = {"hashed_words", "byte_pairs", "directions", "by_kind"}
    for kind in (*STAGES, "network", "optimizer", "schedule", "loss", "augmentation", "averaging", "batches"):
        for component in CATALOGUES[kind]:
            needs_more = any(trait.startswith(("package:", "path:")) for trait in component.traits)
            if not needs_more and not of_other_kinds & component.traits and component.name not in of_texts_alone:
                assert (kind, component.name) in named


def test_data_in_the_repository_is_small_and_licensed() -> None:
    files = [path for path in (ROOT / "experiments" / "data").iterdir() if path.suffix != ".md"]
    assert sum(path.stat().st_size for path in (*files, *(ROOT / "experiments" / "data").rglob("*.png"))) < 5_000_000
    notes = (ROOT / "experiments" / "data" / "README.md").read_text(encoding="utf-8")
    assert all(path.name in notes for path in files)


def test_mlflow_folder_holds_no_python() -> None:
    """A module there would shadow MLflow for whoever runs from the project's root."""
    import mlflow

    assert not list((ROOT / "mlflow").rglob("*.py"))
    assert mlflow.__file__ is not None


def test_tracking_server_listens_on_loopback_and_holds_no_password() -> None:
    compose = yaml.safe_load((ROOT / "mlflow" / "compose.yaml").read_text(encoding="utf-8"))
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    password = compose["services"]["database"]["environment"]["POSTGRES_PASSWORD"]
    assert password.startswith("${MLFLOW_DATABASE_PASSWORD:?")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_study_runs(path: Path, tmp_path: Path) -> None:
    """One epoch of its defaults, from the file to a model that predicts."""
    shutil.copytree(ROOT / "experiments" / "data", tmp_path / "data")
    shutil.copytree(ROOT / "experiments" / "search_spaces", tmp_path / "search_spaces")
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments", ignore=shutil.ignore_patterns("data", "*.yaml"))
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document |= {"trainer": {"max_epochs": 1}, "references": False}
    (tmp_path / path.name).write_text(yaml.safe_dump(document), encoding="utf-8")
    place = Workplace(tmp_path)
    plugged = [word for name in document.get("plugins", []) for word in ("--plugin", name)]
    ran = place.automl("run", path.name, "--defaults", "--json", "--quiet", *plugged).json
    assert ran["trials"] == {"complete": 1, "pruned": 0, "failed": 0}
    assert ran["test"] is not None
    table = sources.read(document["data"]["source"], document["data"]["params"], tmp_path)
    new, n_rows = Path("new.parquet"), 20
    if document["data"]["source"] == "folder":
        new, n_rows = Path(document["data"]["params"]["path"]), len(table)
    elif "forecast" in document:
        n_rows = document["forecast"]["horizon"] * table[document["forecast"]["series"]].nunique()
        table.to_parquet(tmp_path / new)
    elif ids := [block["id"] for block in document.get("blocks", []) if "id" in block]:
        n_rows = table.head(200)[ids[0]].nunique()
        table.head(200).drop(columns=document["data"]["target"]).to_parquet(tmp_path / new)
    else:
        table.head(n_rows).drop(columns=document["data"]["target"]).to_parquet(tmp_path / new)
    ended = place.automl("predict", path.stem, new, "-o", "predictions.csv", *plugged)
    if edges := document.get("neighbours"):
        assert "no edges were named (`--edges`)" in ended.err
        assert f" --edges {edges['file']} -o " in place.automl("show", path.stem).out
    if plugged:
        assert f" {' '.join(plugged)} -o " in place.automl("show", path.stem).out
    predictions = pd.read_csv(tmp_path / "predictions.csv")
    assert len(predictions) == n_rows
    assert predictions.notna().all(axis=None)
