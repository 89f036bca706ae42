"""Where the time of a trial goes: the parts of a logged trial of the fixed work, beside those of the bare loop.

    python benchmarks/trial_profile.py [--short]

One worker runs a study of the fixed work as a person runs it. Named functions of the launcher and of the trials'
processes are wrapped with timers from outside (`timers.py`); the parts of a trial follow one another from the end of
the trial before to its own end, so that together with what no timer explains they are the whole. Means over trials 3
to 20. Prints a table and writes it to `results/`; `--short` runs 3 trials and only prints.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fixed_work
import machine
import studies
import timers

HERE = Path(__file__).parent
RESULTS = HERE / "results"
FIRST, LAST = 3, 20

#: What a trial is made of, in the order of time, as the timers call it and as the table does.
PARTS = {
    "between": "worker: the last trial to the spool, the next one begun",
    "boot": "process: fork, boot",
    "plug-ins": "process: looking for plug-ins",
    "data": "opening the data",
    "preprocessing": "preprocessing: fit and transform",
    "set-up": "network, optimizer, Fabric",
    "gathering": "training: gathering batches",
    "forward": "training: forward and loss",
    "backward": "training: backward",
    "optimizer": "training: optimizer step, zero_grad",
    "validation": "validation: forward and loss",
    "metric": "metric of each epoch",
    "reports": "reports up the pipe",
    "best": "best weights scored as they ship",
    "metrics": "all metrics",
    "saving": "model and predictions saved",
    "unexplained": "not explained: loops, weights kept, collecting garbage",
    "sending": "result sent",
    "telling": "worker: the result told to the search",
}
#: What happens meanwhile, and nobody waits for.
BESIDE = {
    "claim": "the next trial asked of the sampler",
    "trial_started": "the trial's parameters to the spool",
    "report": "epochs to the search",
    "epoch": "epochs to the spool",
    "exit": "the last process gives back its memory",
    "cpu": "processor time of the launcher, MLflow's thread included",
}


@dataclass(frozen=True, slots=True)
class Profile:
    """Milliseconds of one trial, by the names above.

    Attributes:
        bare: Of the bare loop, where it has such a part.
        trainer: Milliseconds of the same epochs: under Lightning's Trainer, and in the loop of the trials.
    """

    parts: dict[str, float]
    beside: dict[str, float]
    bare: dict[str, float]
    trainer: dict[str, float]

    def lines(self) -> list[str]:
        """Returns the table, a line each."""
        whole, bare = sum(self.parts.values()), sum(self.bare.values())
        rows = [
            (shown, f"{self.parts[name]:.1f}", f"{self.parts[name] / whole:.1%}", self._bare(name))
            for name, shown in PARTS.items()
        ]
        rows.append(("the whole", f"{whole:.1f}", "100%", f"{bare:.1f}"))
        rows += [(f"meanwhile: {shown}", f"{self.beside[name]:.1f}", "", "") for name, shown in BESIDE.items()]
        theirs, ours = self.trainer["trainer"], self.trainer["ours"]
        step = (theirs - ours) / self.trainer["n_steps"] * 1000
        rows.append((f"the same epochs in the trials' loop: {ours / bare:.2f} bare loops", f"{ours:.1f}", "", ""))
        rows.append((f"and under Lightning's Trainer: {theirs / bare:.2f} bare loops", f"{theirs:.1f}", "", ""))
        rows.append((f"Trainer / our loop: {theirs / ours:.2f}, {step:.0f} microseconds a step", "", "", ""))
        head = ["| part of a trial | ms | share | bare loop, ms |", "|---|---|---|---|"]
        return [*head, *("| " + " | ".join(row) + " |" for row in rows)]

    def _bare(self, name: str) -> str:
        return f"{self.bare[name]:.1f}" if name in self.bare else ""


def measure(n_trials: int) -> Profile:
    """Returns the profile of a study of so many trials."""
    parts, beside = _study(n_trials)
    return Profile(parts, beside, _child("bare"), _child("trainer"))


def report() -> None:
    """Measures, prints the table, and writes it with machine and versions."""
    profile = measure(LAST)
    print("\n".join(profile.lines()), flush=True)
    RESULTS.mkdir(exist_ok=True)
    document = {"machine": machine.describe(), **asdict(profile)}
    (RESULTS / "trial_profile.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / "trial_profile.md").write_text("\n".join(profile.lines()) + "\n")


# --- the study -----------------------------------------------------------------------------------------------------


def _study(n_trials: int) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the milliseconds of a trial's parts, and of what happened beside it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, record = Path(scratch) / "study", Path(scratch) / "calls.json"
        # Not a file: each process of a trial would load the file by which its launcher was begun.
        code = f"import sys; sys.path.insert(0, {str(HERE)!r}); import pathlib, timers; "
        code += f"timers.launch(pathlib.Path({str(record)!r}))"
        studies.run(folder, n_trials, program=(sys.executable, "-c", code))
        calls = [_Call(*call) for call in json.loads(record.read_text())]
        trials = folder / ".automl/studies/fixed_work/trials"
        kept = {
            number: json.loads(timers.record_of(trials / f"{number:05d}").read_text())
            for number in range(FIRST - 1, n_trials)
        }
    each = [_trial(document, calls) for document in kept.values()]
    parts = {name: statistics.mean(trial[0][name] for trial in each) * 1000 for name in PARTS}
    beside = {name: statistics.mean(trial[1][name] for trial in each) * 1000 for name in BESIDE}
    return parts, beside


@dataclass(frozen=True, slots=True)
class _Call:
    """A noted call of the launcher; `cpu` is its processor time up to the end of the call."""

    name: str
    began: float
    ended: float
    cpu: float


def _trial(document: dict[str, Any], calls: list[_Call]) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the seconds of one trial's parts, and of what happened beside it."""
    made = max((c for c in calls if c.name == "__init__" and c.began < document["began"]), key=lambda c: c.began)
    last = max((c for c in calls if c.name == "tell" and c.ended < made.began), key=lambda c: c.ended)
    received = min((c for c in calls if c.name == "_end" and c.began > document["ended"]), key=lambda c: c.began)
    told = min((c for c in calls if c.name == "tell" and c.began > received.began), key=lambda c: c.began)
    within = defaultdict(float, document["parts"])
    spent = document["ended"] - document["began"] - document["wrapping"]
    parts = {name: within[name] for name in PARTS} | {
        "between": made.began - last.ended,
        "boot": document["began"] - made.began,
        "unexplained": spent - sum(within.values()),
        "sending": received.began - document["ended"],
        "telling": told.ended - received.began,
    }
    beside: defaultdict[str, float] = defaultdict(float)
    for call in calls:
        if last.ended < call.began < told.ended:
            beside[call.name] += call.ended - call.began
    return parts, beside | {"cpu": told.cpu - last.cpu}


# --- beside it, each in a process of its own -----------------------------------------------------------------------


def _child(name: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=studies.single_threaded())
    document: dict[str, float] = json.loads(done.stdout)
    return document


def _bare() -> dict[str, float]:
    """Returns the milliseconds of the bare loop's parts."""
    import sklearn.metrics
    import torch

    torch.set_num_threads(1)
    fixed_work.bare(2_000, validate=True)  # what is only slow once
    clock = timers.Timers()

    def training_or_not() -> str:
        return "forward" if torch.is_grad_enabled() else "validation"

    for owner, name, label in (
        (torch, "randperm", "gathering"),
        (torch.Tensor, "__getitem__", "gathering"),
        (torch.nn.Sequential, "__call__", training_or_not),
        (torch.nn.functional, "cross_entropy", training_or_not),
        (torch.Tensor, "backward", "backward"),
        (torch.optim.AdamW, "step", "optimizer"),
        (torch.optim.AdamW, "zero_grad", "optimizer"),
        (sklearn.metrics, "roc_auc_score", "metric"),
    ):
        clock.wrap(owner, name, label)
    runs = []
    for _ in range(3):
        clock.seconds.clear()
        seconds = fixed_work.bare(20_000, validate=True)["seconds"]
        runs.append({**clock.seconds, "unexplained": seconds - sum(clock.seconds.values())})
    return {name: statistics.median(run[name] for run in runs) * 1000 for name in runs[0]}


def _trainer() -> dict[str, float]:
    """Returns the milliseconds of the same epochs under Lightning's Trainer, nothing extra asked of it, and in ours."""
    import pytorch_lightning as pl
    import torch

    from automl import losses, metrics, plugins
    from automl.components import catalogue
    from automl.training.fit import fit
    from automl.training.loaders import Batches
    from automl.training.module import SupervisedModule
    from automl.values import (
        BlockSpec,
        Choice,
        Configuration,
        InputSpec,
        Part,
        PreparedData,
        TargetSpec,
        Task,
        TrainerSettings,
    )  # fmt: skip

    plugins.load_builtin()
    torch.set_num_threads(1)
    n_train, n_epochs = 20_000, fixed_work.N_EPOCHS
    frame = fixed_work.table(n_train)
    X, y = frame.drop(columns="target").to_numpy(), frame["target"].to_numpy()
    data = PreparedData(
        Part({"numeric": X[:n_train]}, y[:n_train]),
        Part({"numeric": X[n_train:]}, y[n_train:]),
        InputSpec({"numeric": BlockSpec("numeric", (fixed_work.N_COLUMNS,))}),
        TargetSpec(Task.BINARY, 1, (1, 1)),
    )
    network = Choice("mlp", {"depth": 2, "width": fixed_work.WIDTH, "dropout": 0.0, "normalisation": "none"})
    chosen = Configuration(
        (), network, Choice("adamw", {"lr": 1e-3}), Choice("constant"), Choice("cross_entropy"), fixed_work.BATCH_SIZE
    )  # fmt: skip
    settings = TrainerSettings(max_epochs=n_epochs, patience=n_epochs, accelerator="cpu")
    train = Batches(data.train, data.target, chosen.batch_size, seed=0)
    val = Batches(data.val, data.target, losses.EVALUATION_BATCH_SIZE)
    n_steps = n_epochs * len(train)

    def ours() -> float:
        found = fit(chosen, data, metrics.metric("roc_auc", Task.BINARY), settings, seed=0, report=lambda epoch: False)
        return sum(epoch.metrics["epoch_seconds"] for epoch in found.history)

    def theirs() -> float:
        model = catalogue("network").build(network, data.inputs, 1)
        loss = catalogue("loss").build(chosen.loss, data.target)
        module = SupervisedModule(model, loss, chosen.optimizer, chosen.schedule, n_steps)
        clock = _Clock()
        trainer = pl.Trainer(
            max_epochs=n_epochs,
            accelerator="cpu",
            callbacks=[clock.callback],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, train, val)
        return clock.seconds

    runs = [(ours(), theirs()) for _ in range(5)][1:]  # in turn: what slows the machine slows both
    return {
        "ours": statistics.median(run[0] for run in runs) * 1000,
        "trainer": statistics.median(run[1] for run in runs) * 1000,
        "n_steps": n_steps,
    }


class _Clock:
    """The seconds between the beginning of a Trainer's first epoch and the end of its last."""

    def __init__(self) -> None:
        from pytorch_lightning.callbacks import LambdaCallback

        self._began = self._ended = 0.0
        self.callback = LambdaCallback(on_train_start=self._begin, on_train_end=self._end)

    @property
    def seconds(self) -> float:
        return self._ended - self._began

    def _begin(self, *_: Any) -> None:
        self._began = time.perf_counter()

    def _end(self, *_: Any) -> None:
        self._ended = time.perf_counter()


def main() -> None:
    """Reports, or does a part of the work that needs a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--child", choices=["bare", "trainer"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps({"bare": _bare, "trainer": _trainer}[options.child]()))
        return
    if options.short:
        print("\n".join(measure(FIRST).lines()))
    else:
        report()


if __name__ == "__main__":
    main()
