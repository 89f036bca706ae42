"""What goes wrong inside a trial is recorded with its reason, and the study goes on."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.slow

FAULTY = '''
import time, torch
from torch import nn
from automl.components import register
from automl.networks.mlp import mlp

@register("network")
def hungry(inputs, n_outputs, *, seed: int = 0):
    """Takes memory without end."""
    kept = []
    while True:
        kept.append(bytearray(b"x" * (20 << 20)))
        time.sleep(0.02)

@register("network")
def stuck(inputs, n_outputs, *, seed: int = 0):
    """Never comes back."""
    time.sleep(3600)

@register("network")
def broken(inputs, n_outputs, *, seed: int = 0):
    """Raises."""
    raise ValueError("a bug of the plug-in")

@register("network")
def not_a_number(inputs, n_outputs, *, seed: int = 0):
    """Says NaN."""
    network = mlp(inputs, n_outputs, depth=1, width=4)
    for parameter in network.parameters():
        nn.init.constant_(parameter, float("nan"))
    return network
'''
SEED = {"seed": {"type": "int", "low": 0, "high": 10_000}}


def write(place: Any, networks: list[Any], **changes: Any) -> None:
    import yaml

    place.write_table()
    place.write_study(**{"sampler": {"name": "random"}, "pruner": {"name": "none"}, **changes})
    (place.path / "faulty.py").write_text(FAULTY)
    space = yaml.safe_load((place.path / "space.yaml").read_text())
    (place.path / "space.yaml").write_text(yaml.safe_dump({**space, "network": networks}))


def reasons(place: Any) -> Counter[str]:
    return Counter(t.user_attrs["automl:result"]["reason"] or "none" for t in place.trials())


def good() -> dict[str, Any]:
    return {"name": "mlp", "params": {"depth": 1, "width": {"type": "int", "low": 4, "high": 4000}}}


@pytest.mark.parametrize(
    ("network", "reason", "limit", "fault"),
    [
        ("hungry", "oom", {"trial_memory": "600MB"}, "a trial takes more memory than it may"),
        ("stuck", "timeout", {"trial_time": "6s"}, "a trial hangs"),
        ("broken", "error", {}, "a trial raises"),
        ("not_a_number", "nan", {}, "the loss of a trial is not a number"),
    ],
)
def test_a_bad_trial_is_told_and_the_study_goes_on(
    place: Any, observed: Callable[[str, str], None], network: str, reason: str, limit: dict[str, str], fault: str
) -> None:
    write(place, [good(), {"name": network, "params": SEED}], budget={"trials": 8, **limit}, seed=2)
    document = place.automl("run", "small.yaml", "--plugin", "faulty", "--json", PYTHONPATH=str(place.path)).json
    found = reasons(place)
    assert set(found) == {"none", reason}
    assert document["trials"] == {"complete": found["none"], "pruned": 0, "failed": found[reason]}
    failed = {run.info.run_name for run in place.runs() if run.info.status == "FAILED"}
    tagged = {run.info.run_name for run in place.runs() if run.data.tags.get("automl.reason") == reason}
    assert failed == tagged
    assert len(failed) == found[reason]
    observed(fault, f"it is recorded as `{reason}`, in MLflow as FAILED with the reason; the study goes on, exit 0")


def test_when_every_trial_fails_the_study_stops_and_says_why(place: Any, observed: Callable[[str, str], None]) -> None:
    networks = [{"name": "broken", "params": SEED}, {"name": "not_a_number", "params": SEED}]
    write(place, networks, budget={"trials": 50, "max_consecutive_failures": 5}, seed=1)
    ended = place.automl("run", "small.yaml", "--plugin", "faulty", "--workers", 1, code=1, PYTHONPATH=str(place.path))
    assert "no trial succeeded; " in ended.err
    assert "x error: ValueError: a bug of the plug-in" in ended.err
    assert "x nan: training diverged" in ended.err
    assert len(place.trials()) <= 7  # one may run, and one is claimed ahead
    observed("every trial fails", "the study stops after N in a row with the reasons grouped, exit 1")


def test_a_killed_trial_process_goes_on_from_its_checkpoint(
    place: Any, wait_for: Callable[..., None], observed: Callable[[str, str], None]
) -> None:
    place.write_table(n=1000)
    place.write_study(budget={"trials": 2}, trainer={"max_epochs": 700, "patience": 700}, pruner={"name": "none"})
    process = place.start("run", "small.yaml", "--workers", 1, "--json")
    journal = place.path / ".automl/studies/small/journal.log"
    checkpoints = place.path / ".automl/studies/small/trials/00000/checkpoints"
    wait_for(lambda: checkpoints.is_dir() and any(checkpoints.glob("*.pt")), "the trial has been kept")
    before = journal.read_text()
    (server,) = [p for p in psutil.Process(process.pid).children() if p.children()]
    for trial in server.children():
        trial.send_signal(signal.SIGKILL)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "its process was ended by SIGKILL; it will be gone on with" in err
    first, second = place.trials()
    assert first.state.name == second.state.name == "COMPLETE"
    assert first.user_attrs["automl:losses"]["n"] == 1
    assert before
    steps = sorted(first.intermediate_values)
    assert steps == list(range(len(steps)))
    assert out
    assert {run.info.status for run in place.runs()} == {"FINISHED"}
    observed(
        "`kill -9` of a trial's process",
        "the study goes on; the trial goes on from its checkpoint, in the same MLflow run; exit 0",
    )
