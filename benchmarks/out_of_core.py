"""A study on a table four times as large as the memory allowed: does it train, and how fast.

    python benchmarks/out_of_core.py [--limit-mb 2048] [--columns 200] [--folder FOLDER]

Writes a folder of parquet files as pandas writes them, and runs `automl run` with one trial of one epoch on it, under a
control group with that much memory where one can be made, else under `ulimit -v` for each process. Prints one JSON
document: rows a second of training (with reading, preprocessing and validating), and those of the same study on a table
of the same kind that fits into memory; and the highest memory of all processes together, without pages of files, where
the control group tells.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import machine
import numpy as np
import pandas as pd

TIMES = 4
ROWS_A_FILE = 100_000
SPACE = """
version: 1
preprocessing: [{stage: scaling, options: [standard]}]
network: [{name: mlp, params: {depth: 2, width: 128, dropout: 0.0, normalisation: none}}]
optimizer: [{name: adamw, params: {lr: {type: float, low: 5.0e-4, high: 2.0e-3, log: true}}}]
batch_size: 256
"""
STUDY = """
version: 1
name: large
data: {source: parquet, params: {path: PATH}, target: target}
search_space: space.yaml
validation: {strategy: holdout}
budget: {trials: 1}
trainer: {max_epochs: 1, accelerator: cpu}
references: false
"""


def make_table(folder: Path, n_bytes: float, n_columns: int) -> None:
    """Writes parquet files of float32 numbers and a binary `target` until they take so many bytes."""
    folder.mkdir(parents=True)
    written, number = 0, 0
    while written < n_bytes:
        rng = np.random.default_rng(number)
        X = rng.standard_normal((ROWS_A_FILE, n_columns), dtype=np.float32)
        signal = X[:, 0] * X[:, 1] + X[:, 2] + 0.5 * rng.standard_normal(ROWS_A_FILE, dtype=np.float32)
        frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(n_columns)]).assign(target=(signal > 0).astype(int))
        file = folder / f"{number:04d}.parquet"
        frame.to_parquet(file)
        written, number = written + file.stat().st_size, number + 1


def run(base: Path, table: Path, limit: int | None) -> dict[str, Any]:
    """Returns what a study of one trial and one epoch on a table did, run in a folder under a limit of memory."""
    base.mkdir()
    (base / "space.yaml").write_text(SPACE)
    (base / "study.yaml").write_text(STUDY.replace("PATH", json.dumps(str(table))))
    command = [sys.executable, "-m", "automl", "run", "study.yaml", "--workers", "1", "--json", "--quiet"]
    began, memory = time.perf_counter(), 0
    with (
        _limited(limit) as (enter, used, kind),
        (base / "result.json").open("w") as out,
        (base / "errors.txt").open("w") as err,
        subprocess.Popen(command, cwd=base, stdout=out, stderr=err, preexec_fn=enter) as process,
    ):
        while process.poll() is None:
            memory = max(memory, used())
            time.sleep(0.1)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"`automl run` ended with {process.returncode}: {(base / 'errors.txt').read_text()}")
    state = base / ".automl/studies/large"
    prepared = json.loads((state / "prepared.json").read_text())
    points = [
        point["value"]
        for line in (state / "spool/events.jsonl").read_text().splitlines()
        for point in json.loads(line).get("metrics", [])
        if point["name"] == "epoch_seconds"
    ]
    return {
        "n_rows": prepared["n_search"] + prepared["n_test"],
        "n_shards": prepared["n_shards"],
        "test": json.loads((base / "result.json").read_text())["test"],
        "rows_per_s": prepared["n_train"] / sum(points),
        "seconds": seconds,
        "limited_by": kind,
        "peak_mb": memory / 1e6 or None,
    }


Limit = tuple[Callable[[], None] | None, Callable[[], int], str]


@contextmanager
def _limited(limit: int | None) -> Iterator[Limit]:
    """Yields what a process calls to be under the limit, what tells the memory in use, and what kind of limit it is.

    In use is what no file backs: pages of files fill all the memory there is, and are given back when it is needed.
    """
    if limit is None:
        yield None, lambda: 0, "nothing"
        return
    group, limit_name, used_name = _group()
    try:
        group.mkdir()
        (group / limit_name).write_text(str(limit))
        usable = True
    except OSError:
        usable = False
    if not usable:
        yield (lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))), lambda: 0, "ulimit -v"
        return

    def enter() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    def used() -> int:
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return int(stat[used_name])

    try:
        yield enter, used, "control group"
    finally:
        while (group / "cgroup.procs").read_text():  # the study's helpers end a moment after it
            time.sleep(0.1)
        group.rmdir()


def _group() -> tuple[Path, str, str]:
    root = Path("/sys/fs/cgroup")
    name = f"automl-benchmark-{os.getpid()}"
    if (root / "memory").is_dir():
        return root / "memory" / name, "memory.limit_in_bytes", "rss"
    return root / name, "memory.max", "anon"


def main() -> None:
    """Measures both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit-mb", type=int, default=2048)
    parser.add_argument("--columns", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="Keeps the table, and uses it again.")
    options = parser.parse_args()
    limit = options.limit_mb * 2**20
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        place = options.folder or Path(scratch)
        large, small = place / "large", place / "small"
        if not large.is_dir():
            make_table(large, TIMES * limit, options.columns)
            make_table(small, limit / 8, options.columns)
        document = {
            "machine": machine.describe(),
            "limit_mb": limit / 1e6,
            "table_mb": sum(file.stat().st_size for file in large.iterdir()) / 1e6,
            "columns": options.columns,
            **run(Path(scratch) / "out_of_core", large.absolute(), limit),
            "rows_per_s_in_memory": run(Path(scratch) / "in_memory", small.absolute(), None)["rows_per_s"],
        }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
