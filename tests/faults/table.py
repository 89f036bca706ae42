"""Writes docs/reliability.md from what the tests of faults saw: `python tests/faults/table.py` after they ran."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
OBSERVED = ROOT / ".pytest_cache/v/faults/observed"

PROMISE = """# Reliability

*A killed study goes on with the same command; no finished trial is lost or run twice; at most as many trials as there
are workers are repeated, from their last checkpoint; every trial ends as complete, pruned or failed; what MLflow shows
converges to what happened.*

Each row was observed by a test that injects the fault for real: signals to real processes, a TCP proxy between the
study and a real MLflow server, a real PostgreSQL that is restarted, a file system that is full. `make test-faults` runs
them and writes this table.

| fault | what was seen | test |
|---|---|---|
"""


def main() -> None:
    rows = []
    for key, outcome in json.loads(OBSERVED.read_text()).items():
        node, fault = key.split("|", 1)
        file, _, test = node.partition("::")
        rows.append((file, test, f"| {fault} | {outcome} | `{Path(file).stem}::{test.partition('[')[0]}` |"))
    (ROOT / "docs/reliability.md").write_text(PROMISE + "\n".join(row for *_, row in sorted(rows)) + "\n")


if __name__ == "__main__":
    main()
