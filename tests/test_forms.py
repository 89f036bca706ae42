"""Images in files and sequences in long tables, several of each, from the study to the predictions of its model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from automl import plugins, prediction, preparation, study_spec
from automl.data import blocks, out_of_core, storage
from automl.errors import AutomlError, ConfigError
from automl.predictor import Predictor
from automl.study_folder import StudyFolder, read_json
from automl.trial import run_trial
from automl.values import Choice, ColumnKind, Configuration, Task, TrainerSettings, TrialTask

plugins.load_builtin()

N_ROWS = 40
BLOCKS = [
    {"kind": "image_files", "column": "front", "root": "photos", "shape": [1, 6, 6]},
    {"kind": "image_files", "column": "side", "name": "side_view", "root": "photos"},
    {"kind": "sequence", "id": "patient", "time": "t", "values": ["hr", "bp"], "file": "readings.csv"},
    {"kind": "sequence", "id": "patient", "values": ["mood"], "file": "diary.parquet", "name": "diary", "length": 4},
]


def write(base: Path, seed: int = 0) -> pd.DataFrame:
    """Writes and returns a table of patients, each with two photos, two sequences, a remark and a number."""
    rng = np.random.default_rng(seed)
    base.mkdir(parents=True, exist_ok=True)
    patients = [f"person-{number:03d}" for number in rng.permutation(N_ROWS)]
    (base / "photos").mkdir()
    for side, size in (("front", 6), ("side", 9)):
        for name in patients:
            pixels = rng.integers(0, 256, (size, size, 3), np.uint8)
            Image.fromarray(pixels).save(base / "photos" / f"{name}-{side}.png")
    steps = [(name, step) for name in patients for step in range(int(rng.integers(3, 9)))]
    readings = pd.DataFrame(steps, columns=["patient", "t"])
    readings = readings.assign(hr=rng.integers(50, 99, len(steps)), bp=rng.normal(120, 9, len(steps)))
    readings.sample(frac=1, random_state=0).to_csv(base / "readings.csv", index=False)
    readings.assign(mood=rng.normal(size=len(steps)))[["patient", "mood"]].to_parquet(base / "diary.parquet")
    words = rng.choice(["good", "bad", "slow", "late", "kind", "dear"], (N_ROWS, 5))
    table = pd.DataFrame(
        {
            "patient": patients,
            "front": [f"{name}-front.png" for name in patients],
            "side": [f"{name}-side.png" for name in patients],
            "remark": [" ".join(row) for row in words],
            "age": rng.integers(20, 90, N_ROWS),
            "ill": np.tile([0, 1], N_ROWS // 2),
        }
    )
    table.to_csv(base / "table.csv", index=False)
    return table


def spec(**changes: Any) -> study_spec.StudySpec:
    document = {
        "name": "views",
        "data": {"source": "csv", "params": {"path": "table.csv"}, "target": "ill"},
        "blocks": BLOCKS,
        "validation": {"strategy": "holdout"},
    }
    return study_spec.build(document | changes, where="views.yaml")


def trained(
    base: Path, prepared_spec: study_spec.StudySpec, configuration: Configuration, state: str = "state"
) -> tuple[Any, Path]:
    """Returns what was prepared, and the model folder of one epoch."""
    folder = StudyFolder(base.parent / state)
    prepared = preparation.prepare(prepared_spec, base, folder)
    task = TrialTask(
        configuration=configuration,
        data=folder.data,
        out=folder.trial(0),
        objective=prepared.objective,
        settings=TrainerSettings(max_epochs=1, accelerator="cpu"),
        seed=0,
    )
    run_trial(task, lambda epoch: False)
    return prepared, folder.trial(0) / "model"


def test_two_views_of_a_kind_a_text_and_a_number_in_one_network(
    tmp_path: Path, configuration: Callable[..., Configuration]
) -> None:
    base = tmp_path / "study"
    table = write(base)
    chosen = configuration(Task.BINARY, network=Choice("mixture", {"depth": 1, "encoder_width": 8, "width": 8}))
    prepared, model = trained(base, spec(), chosen)
    assert prepared.space_name == "mixtures"
    found = {block.name: (block.kind, block.shape) for block in prepared.schema.blocks}
    assert found["image"] == (ColumnKind.IMAGE, (1, 6, 6))
    assert found["side_view"] == (ColumnKind.IMAGE, (3, 9, 9))
    assert found["sequence"][0] is found["diary"][0] is ColumnKind.SEQUENCE
    assert found["diary"][1] == (1, 4)
    predictor = Predictor.load(model)
    inputs = predictor.members[0].preprocessing.inputs.blocks
    assert {"image", "side_view", "sequence", "diary", "tokens", "numeric"} == set(inputs)
    assert inputs["sequence"].masked

    files = {"image": base / "photos", "side_view": base / "photos"}
    files |= {"sequence": base / "readings.csv", "diary": base / "diary.parquet"}
    prediction.predict_file(model, base / "table.csv", tmp_path / "out.parquet", files=files)
    predicted = pd.read_parquet(tmp_path / "out.parquet")
    assert list(predicted.columns) == ["prediction", "proba_0", "proba_1"]
    assert predicted["proba_1"].nunique() > N_ROWS / 2

    # What is stored of a row predicts the same, and so does what can be sent to a server without any file.
    features, _ = storage.load_part(StudyFolder(base.parent / "state").data, "search")
    sent = blocks.spelled(features, predictor.schema)
    assert sent.loc[0, "front"].startswith("data:image/png;base64,")
    np.testing.assert_allclose(predictor.predictions(features), predictor.predictions(sent), rtol=1e-5, atol=1e-7)
    assert prediction.prove(model)["members"] == 1

    # The model holds neither a place nor a row of where it was made.
    kept = b"".join(file.read_bytes() for file in model.rglob("*") if file.is_file())
    for trace in (str(base), "photos", "readings.csv", "diary.parquet", ".png", *table["patient"]):
        assert trace.encode() not in kept


@pytest.mark.slow
def test_predict_looks_where_the_study_did_or_is_told(place: Any, configuration: Callable[..., Configuration]) -> None:
    base = place.path / "study"
    table = write(base)
    one_of_each = spec(blocks=BLOCKS[0::2])
    chosen = configuration(Task.BINARY, network=Choice("mixture", {"depth": 1, "encoder_width": 8, "width": 8}))
    _, model = trained(base, one_of_each, chosen, ".automl/studies/views")
    folder = StudyFolder(place.path / ".automl" / "studies" / "views")
    assert study_spec.build(read_json(folder.spec), where="study.json") == one_of_each
    shutil.copytree(model, folder.model)
    table.drop(columns="ill").head(7).to_csv(place.path / "new.csv", index=False)
    said = place.quick("predict", "views", "new.csv", "-o", "one.csv").err
    assert f"`image` was read from {base / 'photos'}, as in the study" in said
    ended = place.quick("predict", folder.model, "new.csv", "-o", "two.csv", code=2)
    assert f"`front`: 7 of 7 images are missing: `{table.loc[0, 'front']}` (row 1)" in ended.err
    assert "`patient`: 7 of 7 rows have an id, and there are no readings to look in" in ended.err
    files = [f"--files=image={base / 'photos'}", f"--files=sequence={base / 'readings.csv'}"]
    place.quick("predict", folder.model, "new.csv", "-o", "two.csv", *files)
    assert (place.path / "one.csv").read_text() == (place.path / "two.csv").read_text()
    assert (
        "--files: found `photos`; allowed: NAME=PLACE"
        in place.quick("predict", "views", "new.csv", "-o", "x.csv", "--files", "photos", code=2).err
    )


def test_files_are_part_of_the_data(tmp_path: Path) -> None:
    table = write(tmp_path)
    some = spec(blocks=BLOCKS[0::2])
    before = preparation.check(some, tmp_path).data_digest
    assert preparation.check(some, tmp_path).data_digest == before
    photo = tmp_path / "photos" / table.loc[3, "front"]
    Image.fromarray(np.asarray(Image.open(photo)) // 2).save(photo)
    changed = preparation.check(some, tmp_path).data_digest
    readings = pd.read_csv(tmp_path / "readings.csv")
    readings.loc[5, "hr"] += 1
    readings.to_csv(tmp_path / "readings.csv", index=False)
    assert len({before, changed, preparation.check(some, tmp_path).data_digest}) == 3


def test_a_table_on_disk_holds_the_same(tmp_path: Path) -> None:
    base = tmp_path / "study"
    write(base)
    features = {}
    for out_of_memory in (False, True):
        data = {"source": "csv", "params": {"path": "table.csv"}, "target": "ill", "out_of_core": out_of_memory}
        folder = StudyFolder(tmp_path / str(out_of_memory))
        preparation.prepare(spec(data=data, blocks=BLOCKS[0::2]), base, folder)
        part = storage.open_part(folder.data, "search")
        assert part.is_whole is not out_of_memory
        features[out_of_memory] = pd.concat([part.shard(number) for number in range(len(part))])
    whole, pieces = (f.sort_values(["age", "remark"], ignore_index=True) for f in features.values())
    assert list(whole["image"]) == list(pieces["image"])
    assert list(whole["sequence"]) == list(pieces["sequence"])
    photo = next((base / "photos").glob("*-front.png"))
    said = {"target": "ill", "name": "t", "blocks": layouts(base)[0::2]}
    digest = out_of_core.survey("csv", {"path": "table.csv"}, base, **said).dataset.digest
    Image.fromarray(255 - np.asarray(Image.open(photo))).save(photo)
    assert digest != out_of_core.survey("csv", {"path": "table.csv"}, base, **said).dataset.digest


def layouts(base: Path) -> list[blocks.Layout]:
    return preparation.layouts(spec(), base)


def test_folders_are_classes_and_need_no_table(
    tmp_path: Path, configuration: Callable[..., Configuration], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "study"
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        for number in range(15):
            (base / "pets" / label / "more").mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 128, (5, 5), np.uint8) + (128 if label == "dog" else 0)
            place = base / "pets" / label / ("more" if number % 2 else ".") / f"{number}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(place)
    (base / "pets" / "dog" / "notes.txt").write_text("not an image")
    data = {"source": "folder", "params": {"path": "pets"}, "target": "label"}
    chosen = configuration(Task.BINARY, network=Choice("cnn", {"depth": 1, "width": 4}))
    prepared, model = trained(base, spec(data=data, blocks=[]), chosen)
    assert prepared.schema.target.classes == ("cat", "dog")
    assert prepared.n_search + prepared.n_test == 30
    assert prepared.schema.blocks[0].shape == (1, 5, 5)
    said = [{"kind": "image_files", "column": "image", "shape": [3, 4, 4]}]
    assert preparation.check(spec(data=data, blocks=said), base).schema.blocks[0].shape == (3, 4, 4)
    monkeypatch.setattr("automl.memory.available", lambda: 3 * 30 * 25 * 4)
    assert preparation.check(spec(data=data, blocks=[]), base).n_shards > 1
    (tmp_path / "new").mkdir()
    shutil.copy(base / "pets" / "dog" / "0.png", tmp_path / "new" / "one.png")
    shutil.copy(base / "pets" / "cat" / "0.png", tmp_path / "new" / "another.png")
    prediction.predict_file(model, tmp_path / "new", tmp_path / "out.csv")
    predicted = pd.read_csv(tmp_path / "out.csv")
    assert predicted["image"].tolist() == ["another.png", "one.png"]  # in the order of their names
    table = pd.DataFrame({"image": ["one.png", None]})
    table.to_csv(tmp_path / "new" / "table.csv", index=False)
    prediction.predict_file(model, tmp_path / "new" / "table.csv", tmp_path / "out.csv")
    assert pd.read_csv(tmp_path / "out.csv")["prediction"].notna().all()


def test_a_long_table_is_predicted_an_id_at_a_time(tmp_path: Path, configuration: Callable[..., Configuration]) -> None:
    base = tmp_path / "study"
    table = write(base)
    readings = pd.read_csv(base / "readings.csv").merge(table[["patient", "age", "ill"]])
    readings.to_csv(base / "table.csv", index=False)
    sequence = [{"kind": "sequence", "id": "patient", "time": "t", "values": ["hr", "bp"]}]
    chosen = configuration(Task.BINARY, network=Choice("recurrent", {"width": 8}))
    prepared, model = trained(base, spec(blocks=sequence), chosen)
    assert prepared.n_search + prepared.n_test == N_ROWS
    assert prepared.schema.names() == ["patient", "age"]
    new = readings.query("patient in ['person-007', 'person-003']").drop(columns="ill")
    new["device"] = range(len(new))  # changes in time, which is nothing to a model that does not know it
    new.to_parquet(tmp_path / "new.parquet", index=False)
    prediction.predict_file(model, tmp_path / "new.parquet", tmp_path / "out.csv")
    predicted = pd.read_csv(tmp_path / "out.csv")
    assert list(predicted.columns) == ["patient", "prediction", "proba_0", "proba_1"]
    assert predicted["patient"].tolist() == list(new["patient"].unique())


WRONG = {
    "names": (
        {"blocks": [{**BLOCKS[0], "column": "fornt"}, {**BLOCKS[2], "id": "patients"}, {**BLOCKS[1], "root": "no"}]},
        [
            "blocks.0.column: there is no feature column `fornt`. Did you mean `front`?",
            "blocks.1.id: there is no feature column `patients`. Did you mean `patient`?",
            "blocks.2.root: there is no folder",
        ],
    ),
    "channels": (
        {"blocks": [{**BLOCKS[2], "values": ["hr", "pb"]}]},
        ["readings.csv: there is no column `pb`. Known: `patient`, `t`, `hr`, `bp`"],
    ),
    "shape": ({"blocks": [{**BLOCKS[0], "shape": [2, 6, 6]}]}, ["found [2, 6, 6]; allowed: channels (1, 3 or 4)"]),
    "twice": (
        {"blocks": [BLOCKS[0], {**BLOCKS[0], "name": "again"}]},
        ["blocks: the column `front` is in the block `image` already. Name a copy of it."],
    ),
    "name": ({"blocks": [{**BLOCKS[0], "name": "age"}]}, ["blocks: the name `age` is that of a column"]),
    "target": ({"blocks": [{**BLOCKS[0], "column": "ill"}]}, ["there is no feature column `ill`"]),
    "outside": ({"blocks": [{**BLOCKS[0], "root": "../.."}]}, ["blocks.0.root", "leads out of the folder"]),
    "folded twice": (
        {"blocks": [{k: v for k, v in BLOCKS[2].items() if k != "file"}] * 2},
        ["blocks: two blocks have no `file`, and the study's own table can be folded once"],
    ),
    "kind": ({"data": {**spec().data.model_dump(), "kinds": {"front": "key"}}}, ["found `key`, which no column is"]),
    "no such kind": ({"blocks": [{"kind": "imge", "column": "a"}]}, ["found `imge`; allowed: `image`, `image_files`"]),
    "own words": ({"blocks": [{**BLOCKS[0], "missing_file": 0.1}]}, ["unknown key `missing_file`. Did you mean"]),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("forms") / "study"
    write(made)
    return made


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_told(base: Path, case: str) -> None:
    changes, sentences = WRONG[case]
    with pytest.raises(AutomlError) as caught:
        preparation.check(spec(**changes), base)
    for sentence in sentences:
        assert sentence in str(caught.value)


def test_files_and_ids_that_are_not_there_are_told_at_once(base: Path, tmp_path: Path) -> None:
    place = shutil.copytree(base, tmp_path / "study")
    table = pd.read_csv(place / "table.csv")
    (place / "photos" / table.loc[0, "front"]).unlink()
    (place / "photos" / table.loc[1, "side"]).write_bytes(b"\x89PNG\r\n")
    table.loc[2, "patient"] = "nobody"
    table.loc[4, "remark"] = " "
    table.to_csv(place / "table.csv", index=False)
    with pytest.raises(AutomlError) as caught:
        preparation.check(spec(), place)
    assert caught.value.exit_code == 2
    told = str(caught.value)
    assert f"`front`: 1 of 40 images are missing: `{table.loc[0, 'front']}` (row 1)" in told
    assert f"`side`: 1 of 40 images are unreadable: `{table.loc[1, 'side']}` (row 2" in told
    assert told.count("1 of 40 ids have no row among the readings: `nobody` (row 3)") == 2
    allowed = [{**b, ("missing_ids" if b["kind"] == "sequence" else "missing_files"): 0.05} for b in BLOCKS]
    notes = preparation.check(spec(blocks=allowed), place).notes
    assert any("1 images are missing or unreadable, and gaps" in note for note in notes)
    assert any("`remark`: 1 of 40 texts are empty." in note for note in notes)


def test_where_files_are_at_prediction_is_checked(base: Path, tmp_path: Path) -> None:
    prepared = preparation.check(spec(), base)
    with pytest.raises(ConfigError, match="the model reads no block `photos` from files"):
        prediction._places(prepared.schema, base / "table.csv", {"photos": base}, {})
    with pytest.raises(ConfigError, match="--files: there is no "):
        prediction._places(prepared.schema, base / "table.csv", {"image": base / "no"}, {})
    usual = blocks.files(layouts(base))
    assert {name: place.name for name, place in usual.items()} == {
        "image": "photos", "side_view": "photos", "sequence": "readings.csv", "diary": "diary.parquet",
    }  # fmt: skip
    places = prediction._places(prepared.schema, base / "table.csv", {"image": tmp_path}, usual)
    assert (places["image"], places["side_view"]) == (tmp_path, base / "photos")
    assert prediction._places(prepared.schema, base / "table.csv", {}, {})["image"] == base


@pytest.mark.slow
def test_a_folder_is_checked_from_the_command_line(base: Path, place: Any) -> None:
    for number, photo in enumerate(sorted((base / "photos").iterdir())):
        (place.path / "pets" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, place.path / "pets" / "ab"[number % 2])
    said = place.quick("check", "--data", "pets").out
    assert "study pets-label: binary, target `label`" in said
    assert "image: image of 3 x 8 x 8, one for each `image`" in said
    photo.rename(place.path / "pets" / "a" / "broken.png").write_text("broken")
    ended = place.quick("check", "--data", "pets", code=2)
    assert "`image`: 1 of 81 images are unreadable: `a/broken.png`" in ended.err
