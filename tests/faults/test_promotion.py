"""A promotion that is killed at any point leaves the alias at a whole version, and can be typed again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import mlflow
import pytest

from tests.command_line import served
from tests.faults.proxy import FaultProxy
from tests.faults.test_tracking import server_command

pytestmark = pytest.mark.slow


def test_killed_at_every_change(place: Any, free_port: Callable[[], int], observed: Callable[..., None]) -> None:
    place.write_table(n=400)
    place.write_study("poor", budget={"trials": 1}, trainer={"max_epochs": 1})
    place.write_study("good", budget={"trials": 2}, trainer={"max_epochs": 25})
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    with served(server_command(port, place.path), f"{uri}/health", place.path, {}):
        for name in ("poor", "good"):
            place.automl("run", f"{name}.yaml", "--tracking-uri", uri)
        place.quick("promote", "poor", "--model", "m", "--tracking-uri", uri)
        client = mlflow.MlflowClient(uri)
        old = client.get_model_version_by_alias("m", "champion")
        n_kills = 0
        while True:
            proxy = FaultProxy(port)
            process = place.start("promote", "good", "--model", "m", "--tracking-uri", proxy.url)
            proxy.on_request = _KillAtChange(process.pid, arrives=n_kills % 2 == 1)
            _, err = process.communicate(timeout=120)
            proxy.close()
            present = client.get_model_version_by_alias("m", "champion")
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, err
            n_kills += 1
            if present.version != old.version:  # the last change has arrived
                break
        again = place.automl("promote", "good", "--model", "m", "--tracking-uri", uri, code=None)
        present = client.get_model_version_by_alias("m", "champion")
        assert int(present.version) == int(old.version) + 1, again.err
        versions = client.search_model_versions("name='m'")
        assert len(versions) == 2, "a promotion that was killed made a version of its own"
        assert n_kills >= 3
        place.automl("verify", "models:/m@champion", "--tracking-uri", uri)
    observed(
        "`kill -9` of `automl promote`, at each of its changes in MLflow, which then arrives or does not",
        "the alias is at the old version until it is at the new, whole one; typed again, it makes no second version",
    )


class _KillAtChange:
    """Kills a process at the first request with which it changes something, which arrives or does not."""

    def __init__(self, pid: int, *, arrives: bool) -> None:
        self._pid, self._arrives = pid, arrives
        self._killed = False

    def __call__(self, data: bytes) -> bool:
        if self._killed or not data.startswith((b"POST", b"PATCH", b"PUT", b"DELETE")):
            return True
        self._killed = True
        os.kill(self._pid, signal.SIGKILL)
        return self._arrives
