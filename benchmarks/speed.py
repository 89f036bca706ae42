"""How fast is it? Ratios of the platform's time to that of the bare work, each taken in one run.

    python benchmarks/speed.py [--short | --long] [--only NAME ...]

`--short` measures what is stable on a busy machine, `--long` is the study of 10,000 trials alone, for half an hour.
Prints a table, writes it to `results/`, where `--only` renews its own lines, and exits with 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import large_table
import machine
import studies
import trial_profile

HERE = Path(__file__).parent
RESULTS = HERE / "results"
#: What `--help` must not load.
HEAVY = ("torch", "sklearn", "mlflow", "pandas", "optuna", "pytorch_lightning")
#: Of a kept line.
COLUMNS = ("what", "target", "figure", "detail")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        target: Such as `<= 1.5`; empty for what is reported only.
        detail: The two sides of a ratio, and what else explains it.
    """

    what: str
    target: str
    figure: float
    detail: str

    @property
    def verdict(self) -> str:
        """Whether the target is met."""
        if not self.target:
            return "reported"
        sign, bound = self.target.split()
        met = self.figure <= float(bound) if sign == "<=" else self.figure >= float(bound)
        return "met" if met else "MISSED"


# --- what is measured ----------------------------------------------------------------------------------------------


def overhead() -> list[Row]:
    """Returns a logged trial against the bare loop, measured before and after it."""
    loops = [_bare()]
    trial = one_worker().interval(3, 20)
    loops.append(_bare())
    loop = statistics.median(seconds for document in loops for seconds in document["seconds"])
    alone = statistics.median(seconds for document in loops for seconds in document["training_only"])
    detail = f"{trial:.3f} s / {loop:.3f} s (without its validation {alone:.3f} s), trials 3 to 20"
    return [Row("logged trial / bare loop", "<= 1.5", trial / loop, detail)]


def tutorial(trial: float, n_trials: int, target: str) -> list[Row]:
    """Returns the stack that the tutorials show against a logged trial of so many seconds."""
    seconds = statistics.median(_fixed_work("tutorial", "--trials", str(n_trials))["seconds"][1:])
    return [Row("tutorial stack / logged trial", target, seconds / trial, f"{seconds:.2f} s / {trial:.3f} s")]


def workers() -> list[Row]:
    """Returns trials a minute with two workers against one, and what the machine gives two bare loops."""
    one, two = one_worker().interval(21, 40), _study("two", 60, workers=2).interval(21, 60)
    both = [subprocess.Popen(_command("bare"), stdout=subprocess.PIPE, env=studies.single_threaded()) for _ in range(2)]
    side = statistics.mean(min(json.loads(process.communicate()[0])["seconds"]) for process in both)
    alone = min(_bare()["seconds"])
    detail = f"{60 / two:.0f} / {60 / one:.0f} a minute; two bare loops side by side: {2 * alone / side:.2f}"
    return [Row("trials a minute, 2 workers / 1", ">= 1.8", one / two, detail)]


def growth(n_trials: int, target: str) -> list[Row]:
    """Returns platform seconds a trial at the end of a study of short trainings against its beginning."""
    record = _study(f"growth{n_trials}", n_trials, n_train=800, n_epochs=4)
    # Not the very first: MLflow makes its database beside them.
    early, late = record.platform(21, 120), record.platform(n_trials - 99, n_trials)
    training = statistics.median(record.training)
    detail = (
        f"{late * 1000:.0f} ms / {early * 1000:.0f} ms beside {training * 1000:.0f} ms of training; "
        f"{record.seconds:.0f} s in all, {record.pending} events pending"
    )
    return [Row(f"platform seconds a trial, last 100 of {n_trials:,} / trials 21 to 120", target, late / early, detail)]


def start() -> list[Row]:
    """Returns the seconds from the command to the first epoch, and of `--help`."""
    first = min(_study(f"start{i}", 1, n_train=2_000).first_epoch for i in range(3))
    imports = min(_seconds([sys.executable, "-c", "import automl.preload"]) for _ in range(3))
    shown = min(_seconds([sys.executable, "-m", "automl", "--help"]) for _ in range(5))
    code = (
        "import sys; from automl.cli import app; app(['--help'], standalone_mode=False); "
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.strip()
    return [
        Row("`automl run` of 1 trial: seconds to the first epoch", "<= 6", first, f"imports alone {imports:.2f} s"),
        Row("`automl --help`: seconds", "<= 0.35", shown, f"heavy modules loaded: {loaded}"),
    ]


def memory() -> list[Row]:
    """Returns peak memory, which has no target."""
    peak = one_worker().peak_mb
    return [
        Row("launcher: peak resident MB", "", peak["launcher"], "with MLflow's client and database"),
        Row("trial process: peak resident MB", "", peak["below"], "torch, Lightning and scikit-learn shared by fork"),
    ]


def tracking() -> list[Row]:
    """Returns the seconds of epochs beside a server that does not answer, against those beside a database that does."""
    loops = [_study("before", 24)]
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:  # connections are made, and nothing comes back
        port = silent.getsockname()[1]
        hanging = _study("hanging", 24, tracking_uri=f"http://127.0.0.1:{port}")
    refusing = _study("refusing", 24, tracking_uri=f"http://127.0.0.1:{port}")  # nobody listens there any more
    loops.append(_study("after", 24))
    usual = statistics.median(seconds for record in loops for seconds in record.training[2:])
    rows = []
    for how, record in (("hangs", hanging), ("refuses", refusing)):
        seconds = statistics.median(record.training[2:])
        detail = f"{seconds:.3f} s / {usual:.3f} s of training a trial; {record.pending} events pending"
        rows.append(Row(f"epochs while MLflow {how} / while it answers", "<= 1.05", seconds / usual, detail))
    return rows


def large() -> list[Row]:
    """Returns how a table of a million rows does, beside the bare work on it."""
    with tempfile.TemporaryDirectory() as scratch:
        large_table.make_table(Path(scratch), 1_000_000)
        trained, predicted = large_table.train(Path(scratch)), large_table.predict(Path(scratch))
    rates = f"{trained['rows_per_s']:,.0f} / {trained['bare_rows_per_s']:,.0f} rows a second, one epoch"
    held = f"{trained['peak_mb']:.0f} MB / {trained['matrix_mb']:.0f} MB beyond the imports"
    seconds = (
        f"{predicted['seconds']:.2f} s / {predicted['bare_seconds']:.2f} s; peak {predicted['peak_mb']:.0f} MB "
        f"(bare {predicted['bare_peak_mb']:.0f} MB); `automl predict` in all {predicted['command_seconds']:.1f} s"
    )
    return [
        Row("a million rows: training / bare loop, rows a second", ">= 0.8", trained["ratio"], rates),
        Row("a million rows: peak memory of a trial / its float32 matrix", "<= 3", trained["memory_ratio"], held),
        Row("a million rows: predict / bare, seconds", "<= 1.5", predicted["ratio"], seconds),
    ]


def kinds() -> list[Row]:
    """Returns how training does on each kind of data, beside a loop in plain torch over the same rows and network."""
    command = [sys.executable, str(HERE / "kind_speed.py")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=studies.single_threaded())
    rows = []
    for name, found in json.loads(done.stdout.splitlines()[-1]).items():
        detail = f"{found['ours']:.2f} s / {found['bare']:.2f} s"
        rows.append(Row(f"{name}: training / bare loop", "<= 1.5", found["ratio"], detail))
    return rows


def gpu() -> list[Row]:
    """Returns how trials share a GPU, beside the bare loop there; nothing on a machine without one."""
    import torch

    if not torch.cuda.is_available():
        print("no GPU here: its rows are left out", flush=True)
        return []
    return shared_device("cuda", "gpu", f"{torch.cuda.get_device_name()}: ", (1, 4, 8))


def shared_device(device: str, accelerator: str, name: str, n_workers: Sequence[int]) -> list[Row]:
    """Returns trials a minute against the bare loop on a device, with several trials sharing it."""
    loop = min(_fixed_work("bare", "--trials", "5", "--device", device)["seconds"])
    rows = []
    for workers in n_workers:
        first, last = 4 * workers + 1, 12 * workers  # the first ones load what a device needs
        record = _study(f"{device}{workers}", last, workers=workers, accelerator=accelerator)
        seconds = record.interval(first, last)
        detail = f"{60 / seconds:.0f} / {60 / loop:.0f} a minute"
        rows.append(Row(f"{name}trials a minute, {workers} at a time / bare loop", "", loop / seconds, detail))
    return rows


GROUPS: dict[str, Callable[[], list[Row]]] = {
    "overhead": overhead,
    "tutorial": lambda: tutorial(one_worker().interval(3, 20), 4, ">= 12"),
    "workers": workers,
    "growth": lambda: growth(1_000, "<= 1.3"),
    "start": start,
    "memory": memory,
    "tracking": tracking,
    "large": large,
    "kinds": kinds,
    "gpu": gpu,
}
#: Half of the target: neighbours on a busy machine do not slow both sides alike.
SHORT: dict[str, Callable[[], list[Row]]] = {
    "tutorial": lambda: tutorial(_study("short", 12).interval(5, 12), 2, ">= 6")
}
LONG: dict[str, Callable[[], list[Row]]] = {"long_growth": lambda: growth(10_000, "<= 2")}


# --- how -----------------------------------------------------------------------------------------------------------


@cache
def one_worker() -> studies.Record:
    """Returns the study of the fixed work that several rows look at."""
    return _study("one", 40)


def _study(name: str, n_trials: int, **options: Any) -> studies.Record:
    with tempfile.TemporaryDirectory() as scratch:
        return studies.run(Path(scratch) / name, n_trials, **options)


def _bare() -> dict[str, list[float]]:
    return _fixed_work("bare", "--trials", "5")


def _fixed_work(*arguments: str) -> dict[str, list[float]]:
    done = subprocess.run(
        _command(*arguments), check=True, capture_output=True, text=True, env=studies.single_threaded()
    )
    document: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return document


def _command(*arguments: str) -> list[str]:
    return [sys.executable, str(HERE / "fixed_work.py"), *arguments]


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=studies.environment())
    return time.perf_counter() - began


def write(rows: list[Row], name: str, *, renews: bool) -> None:
    """Writes the table with machine, versions and day to files of this name; what it does not renew stays."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    kept = json.loads(path.read_text())["rows"] if renews and path.is_file() else []
    found = {row["what"]: row for row in kept}
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    found |= {row.what: {**asdict(row), "verdict": row.verdict, "day": day} for row in rows}
    path.write_text(json.dumps({"machine": machine.describe(), "rows": list(found.values())}, indent=1) + "\n")
    lines = ["| what | target | figure | verdict | detail | day |", "|---|---|---|---|---|---|"]
    lines += [f"{_line(Row(*(row[key] for key in COLUMNS)))} {row['day']} |" for row in found.values()]
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n")


def _line(row: Row) -> str:
    return f"| {row.what} | {row.target} | {row.figure:.2f} | {row.verdict} | {row.detail} |"


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--only", nargs="+", choices=[*GROUPS, *LONG], metavar="NAME")
    options = parser.parse_args()
    groups = SHORT if options.short else LONG if options.long else {**GROUPS, **LONG} if options.only else GROUPS
    rows = []
    for name in options.only or groups:
        for row in groups[name]():
            rows.append(row)
            print(_line(row), flush=True)
    if not options.short:
        is_long = options.long or (bool(options.only) and set(options.only) <= set(LONG))
        write(rows, "speed_long" if is_long else "speed", renews=bool(options.only))
    if groups is GROUPS:
        trial_profile.report()
    sys.exit(any(row.verdict == "MISSED" for row in rows))


if __name__ == "__main__":
    main()
