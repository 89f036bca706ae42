"""Writes docs/reliability.md from what the tests of faults saw: `python tests/faults/table.py` after they ran."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
OBSERVED = ROOT / ".pytest_cache/v/faults"

PROMISE = """# Reliability

*A killed study goes on with the same command; no finished trial is lost or run twice; at most as many trials as there
are workers are repeated, from their last checkpoint; every trial ends as complete, pruned or failed; what MLflow shows
converges to what happened.*

Each row was observed by a test that injects the fault for real: signals to real processes, a TCP proxy between the
study and a real MLflow server, a real PostgreSQL that is restarted, a file system that is full, real files. `make
test-faults` runs them and writes this page.
"""


#: The tests, in the order in which a person asks.
PARTS = {
    "Faults": [
        *("test_launcher", "test_trials", "test_random_kills", "test_tracking", "test_disk", "test_promotion"),
        "test_doctor",
    ],
    "Tables": ["test_tables"],
    "Files and other people": ["test_hostile"],
}  # fmt: skip


def main() -> None:
    rows = [json.loads(path.read_text()) for path in OBSERVED.iterdir()]
    text = PROMISE
    for part, modules in PARTS.items():
        text += f"\n## {part}\n\n| what | what was seen | test |\n|---|---|---|\n"
        found = sorted((modules.index(_module(row)), row["fault"], row) for row in rows if _module(row) in modules)
        for _, fault, row in found:
            test = row["test"].partition("::")[2].partition("[")[0]
            text += f"| {_cell(fault)} | {_cell(row['outcome'])} | `{_module(row)}::{test}` |\n"
    (ROOT / "docs/reliability.md").write_text(text)


def _module(row: dict[str, str]) -> str:
    return Path(row["test"].partition("::")[0]).stem


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()
