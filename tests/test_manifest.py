from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from automl import manifest
from automl.errors import RefusedError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "preprocessing").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "weights.safetensors").write_bytes(bytes(range(256)) * 1000)
    (folder / "preprocessing" / "größe.skops").write_bytes(b"")
    return folder


def test_a_finished_folder_verifies_with_the_digest_that_was_written(folder: Path) -> None:
    assert manifest.write(folder) == manifest.verify(folder)
    files = json.loads((folder / manifest.NAME).read_text(encoding="utf-8"))["files"]
    assert list(files) == ["MLmodel", "preprocessing/größe.skops", "weights.safetensors"]
    assert files["preprocessing/größe.skops"].startswith("e3b0c442")  # SHA-256 of nothing


def test_writing_again_changes_nothing(folder: Path) -> None:
    assert manifest.write(folder) == manifest.write(folder)


def test_every_difference_is_named_at_once(folder: Path) -> None:
    manifest.write(folder)
    (folder / "MLmodel").write_text("flavors: {python_function: {}}\n")
    (folder / "weights.safetensors").unlink()
    (folder / "preprocessing" / "code.py").write_text("")
    with pytest.raises(RefusedError) as caught:
        manifest.verify(folder)
    text = str(caught.value)
    assert "MLmodel: the file was changed" in text
    assert "weights.safetensors: the file is missing" in text
    assert "code.py: the file was added" in text
    assert "größe" not in text


def test_what_mlflow_leaves_in_a_loaded_folder_is_tolerated_at_its_root_only(folder: Path) -> None:
    manifest.write(folder)
    (folder / "registered_model_meta").write_text("model_name: m\n")
    manifest.verify(folder)
    (folder / "preprocessing" / "registered_model_meta").write_text("")
    with pytest.raises(RefusedError, match="added"):
        manifest.verify(folder)


def test_links_are_refused_even_to_the_same_content(folder: Path, tmp_path: Path) -> None:
    manifest.write(folder)
    weights = folder / "weights.safetensors"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RefusedError, match="no links"):
        manifest.verify(folder)
    with pytest.raises(RefusedError, match="no links"):
        manifest.write(folder)


def test_a_link_to_a_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    manifest.write(folder)
    (folder / "more").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(RefusedError, match="no links"):
        manifest.verify(folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "a\\b", "./MLmodel", "a//b", "nul\0"])
def test_a_manifest_may_not_name_what_is_outside(folder: Path, name: str) -> None:
    manifest.write(folder)
    document = json.loads((folder / manifest.NAME).read_text(encoding="utf-8"))
    document["files"][name] = "0" * 64
    (folder / manifest.NAME).write_text(json.dumps(document))
    with pytest.raises(RefusedError, match="outside"):
        manifest.verify(folder)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text(""),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text('{"version": 1}'),
        lambda path: path.write_text('{"version": 1, "files": []}'),
        lambda path: path.write_text('{"version": 2, "files": {}}'),
        lambda path: path.write_bytes(b"\xff"),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.rename(path.with_name("other")).parent.joinpath(path.name).symlink_to("other"),
    ],
)
def test_an_unusable_manifest_is_refused(folder: Path, spoil: Callable[[Path], object]) -> None:
    manifest.write(folder)
    spoil(folder / manifest.NAME)
    with pytest.raises(RefusedError, match="no usable manifest"):
        manifest.verify(folder)
