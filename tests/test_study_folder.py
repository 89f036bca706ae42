from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from automl import study_folder
from automl.errors import ConfigError, StorageError
from automl.study_folder import StudyFolder, read_json, write_json

HOLD = """
import sys, time
from pathlib import Path
from automl.study_folder import StudyFolder
with StudyFolder(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_holds_a_study_until_it_ends_however_it_ends(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "churn")
    assert not folder.is_locked()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder.path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert folder.is_locked()
        with pytest.raises(ConfigError, match=f"the study `churn` is being run by process {holder.pid}"):
            folder.lock().__enter__()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()  # type: ignore[union-attr]
    assert not folder.is_locked()
    with folder.lock():
        assert folder.is_locked()
        assert (folder.path / "lock").read_text() == str(os.getpid())
    assert not folder.is_locked()


def test_a_document_is_written_whole_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.json"
    write_json(path, {"größe": [1, None, 1.5]})
    assert read_json(path) == {"größe": [1, None, 1.5]}
    assert [file.name for file in path.parent.iterdir()] == ["x.json"]


def test_a_failed_write_leaves_the_old_document(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        write_json(path, {"new": 1, "not JSON": object()})
    assert read_json(path) == {"old": 1}


WRITE_FOREVER = """
import sys
from pathlib import Path
from automl.study_folder import write_json
for number in range(10_000_000):
    write_json(Path(sys.argv[1]), {"numbers": [number] * 20_000})
    print(number, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_document(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for delay in (0.0, 0.004, 0.011):
        writer = subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(delay)
        writer.kill()
        writer.wait()
        writer.stdout.close()
        assert len(set(json.loads(path.read_text())["numbers"])) == 1


@pytest.mark.parametrize(
    ("content", "said"), [(None, "is missing"), (b"{", "cannot be read"), (b"\xff", "cannot be read")]
)
def test_a_missing_or_damaged_document_is_told(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StorageError) as caught:
        read_json(path)
    assert f"{path}: {said}" in str(caught.value)


def test_where_nothing_can_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/x\.json: cannot be written"):
        write_json(tmp_path / "file" / "x.json", {})


def test_studies_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(study_folder.STATE_VARIABLE, str(tmp_path / "state"))
    assert study_folder.names() == []
    with pytest.raises(ConfigError, match=r"there is no study `churn` .*Nothing has been run"):
        study_folder.existing("churn")
    write_json(study_folder.study_folder("churn").spec, {})
    (tmp_path / "state" / "studies" / "stray").mkdir()
    assert study_folder.names() == ["churn"]
    assert study_folder.existing("churn").path == tmp_path / "state" / "studies" / "churn"
    with pytest.raises(ConfigError, match=r"Did you mean `churn`\?"):
        study_folder.existing("chrun")


def test_state_lies_in_the_working_folder_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(study_folder.STATE_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    assert study_folder.state_folder() == tmp_path / ".automl"


def test_an_unused_name_is_the_next_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(study_folder.STATE_VARIABLE, str(tmp_path))
    assert study_folder.unused_name("churn") == "churn"
    for name in ("churn", "churn-2"):
        write_json(study_folder.study_folder(name).spec, {})
    assert study_folder.unused_name("churn") == "churn-3"
