"""A full disk ends a study with a sentence; what had ended is kept, and the same command goes on when there is room."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import Workplace

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.getuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24M", "tmpfs", folder]).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("filled", ["at the start", "in mid-run"])
def test_a_full_disk(
    small_disk: Path, filled: str, wait_for: Callable[..., None], observed: Callable[..., None]
) -> None:
    place: Any = Workplace(small_disk)
    place.write_table(n=1000)
    place.write_study(budget={"trials": 4}, trainer={"max_epochs": 150, "patience": 150}, pruner={"name": "none"})
    state = small_disk / ".automl/studies/small"
    journal, filling = state / "journal.log", small_disk / "filling"

    def fill() -> None:  # page by page: the study writes beside it
        with filling.open("wb", buffering=0) as opened, contextlib.suppress(OSError):
            while opened.write(bytes(4096)):
                pass

    if filled == "at the start":
        place.automl("check", "small.yaml")
        fill()
        ended = place.automl("run", "small.yaml", code=4)
        err, n_ended = ended.err, 0
    else:
        process = place.start("run", "small.yaml", "--workers", 1, "--json")
        wait_for(lambda: journal.is_file() and "automl:result" in journal.read_text(), "a trial has ended")
        fill()
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (4, ""), err
        n_ended = sum(trial.state.is_finished() for trial in place.trials())
        assert n_ended >= 1
    assert "Traceback" not in err
    assert "the disk is full. Free some space and type the same command again: what has ended is kept." in err
    before = (
        [(t.number, t.value, t.datetime_complete) for t in place.trials() if t.state.is_finished()] if n_ended else []
    )
    filling.unlink()
    document = place.automl("run", "small.yaml", "--workers", 1, "--json").json
    assert document["trials"] == {"complete": 4, "pruned": 0, "failed": 0}
    after = [(t.number, t.value, t.datetime_complete) for t in place.trials()]
    assert after[: len(before)] == before
    assert place.quick("sync", "--json").json["pending"] == {"small": 0}
    assert sorted(run.info.run_name for run in place.runs()) == [f"trial {number}" for number in range(4)]
    assert {run.info.status for run in place.runs()} == {"FINISHED"}
    observed(
        f"the disk is full {filled}",
        "exit 4 with a sentence; with room again the same command goes on, nothing is lost or doubled",
    )
