from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from automl import memory

MIB = 2**20


def available_under(limit_mb: int) -> int:
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({limit_mb * MIB}, {limit_mb * MIB}))\n"
        "from automl import memory; print(memory.available())"
    )
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def test_it_is_at_most_what_the_machine_has_free() -> None:
    assert 0 < memory.available() <= psutil.virtual_memory().total


def test_a_limit_of_the_process_counts_less_what_it_has_taken() -> None:
    assert 0 < available_under(500) < 500 * MIB


@pytest.mark.parametrize(
    ("line", "files"),
    [
        (
            "0::/box/inner",
            {
                "box/memory.max": "900\n",
                "box/memory.current": "500\n",
                "box/memory.stat": "anon 1\ninactive_file 100\n",
            },
        ),
        (
            "4:memory:/box",
            {
                "memory/box/memory.limit_in_bytes": "900",
                "memory/box/memory.usage_in_bytes": "500",
                "memory/box/memory.stat": "total_inactive_file 100\n",
            },
        ),
    ],
)
def test_a_control_group_counts_without_the_pages_that_it_gives_back(
    line: str, files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "own").write_text(f"3:cpu:/\n{line}\n")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    monkeypatch.setattr(memory, "_OWN", tmp_path / "own")
    assert memory.available() == 500


def test_without_control_groups_the_machine_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_OWN", tmp_path / "missing")
    assert memory.available() > 0
