"""Many kills at random: no finished trial is lost or run twice, and MLflow shows in the end what Optuna knows."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

#: Kills over a study of half as many trials more. A name with `AUTOML_` would be taken out of the environment.
N_KILLS = int(os.environ.get("FAULTS_KILLS", "20"))
N_TRIALS = max(30, N_KILLS * 3 // 2)


def test_random_kills(place: Any, observed: Callable[[str, str], None]) -> None:
    rng = random.Random(0)
    place.write_table(n=400)
    place.write_study(
        budget={"trials": N_TRIALS},
        trainer={"max_epochs": 60, "patience": 60},
        pruner={"name": "none"},
        sampler={"name": "random"},
    )
    ended: dict[int, tuple[Any, ...]] = {}
    kills: Counter[str] = Counter()
    while sum(kills.values()) < N_KILLS:
        process = place.start("run", "small.yaml", "--workers", 2, "--quiet", "--json")
        try:
            _kill_some(process, rng, kills, hurry=sum(kills.values()) / N_KILLS < len(ended) / (N_TRIALS * 0.8))
        finally:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        if not (place.path / ".automl/studies/small/journal.log").is_file():
            continue
        now = {t.number: (t.value, t.params, t.datetime_complete) for t in place.trials() if t.state.is_finished()}
        assert ended.items() <= now.items(), "a finished trial was lost, or run again"
        ended = now
        if len(ended) >= N_TRIALS - 4:
            break
    assert sum(kills.values()) >= 0.9 * N_KILLS, "trials ended faster than they could be killed"
    place.automl("run", "small.yaml", "--workers", 2, timeout=600)
    trials = place.trials()
    assert ended.items() <= {t.number: (t.value, t.params, t.datetime_complete) for t in trials}.items()
    results = [trial.user_attrs["automl:result"] for trial in trials]
    states = Counter(result["reason"] or result["state"] for result in results)
    assert set(states) <= {"complete", "lost", "error"}
    assert states["complete"] + states["error"] == N_TRIALS
    assert place.quick("sync", "--json").json["pending"] == {"small": 0}
    assert place.automl("doctor", "--json").json["studies"] == {"small": []}
    names = Counter(run.info.run_name for run in place.runs())
    assert set(names.values()) == {1}
    assert len(names) == len(trials)
    observed(
        "kills at random times, of launchers and of trials' processes",
        f"{sum(kills.values())} kills over {len(trials)} trials: no finished trial lost or run again; "
        "`automl doctor` finds nothing",
    )


def _kill_some(process: Any, rng: random.Random, kills: Counter[str], *, hurry: bool) -> None:
    """Kills processes of trials one after the other, and the launcher in the end; in a hurry, fewer trials end."""
    until = time.monotonic() + rng.uniform(3.0, 14.0)
    while time.monotonic() < until and process.poll() is None and sum(kills.values()) < N_KILLS - 1:
        time.sleep(rng.uniform(0.1, 0.4) if hurry else rng.uniform(0.2, 1.5))
        with suppress(psutil.Error):
            below = [p for p in psutil.Process(process.pid).children(recursive=True) if not p.children()]
            if below and time.monotonic() > until - 8:
                rng.choice(below).kill()
                kills["trial"] += 1
    if process.poll() is None:
        process.kill()
        kills["launcher"] += 1
