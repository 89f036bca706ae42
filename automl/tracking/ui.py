"""MLflow's own pages on a tracking store, served on this machine only."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from automl.errors import ConfigError, TrackingError
from automl.tracking.tracker import sqlite_path


def serve_ui(tracking_uri: str, port: int) -> int:
    """Runs `mlflow server` on loopback until it is ended, and returns its exit code.

    Raises:
        ConfigError: The tracking URI is a server, which has pages of its own, or there are no results here yet.
        TrackingError: The port is taken.
    """
    port = port or _free_port()
    if tracking_uri.startswith(("http://", "https://")):
        raise ConfigError(f"{tracking_uri} is a server with pages of its own", remedy="Open it in a browser.")
    database = sqlite_path(tracking_uri)
    if database is not None and not database.is_file():
        raise ConfigError(
            f"there is no {database} yet", remedy="Run a study here first, or name another --tracking-uri."
        )
    if not _is_free(port):
        raise TrackingError(f"port {port} is taken", where="--port", remedy=f"Try --port {port + 1}")
    artifacts = (database.parent if database is not None else Path.cwd()) / "mlartifacts"
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracking_uri,
        "--artifacts-destination", str(artifacts), "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    # No jobs and no telemetry: nobody asked for them, and each is a way in.
    variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    print(f"http://127.0.0.1:{port} (Ctrl-C ends it)", file=sys.stderr)
    try:
        return subprocess.call(command, env={**os.environ, **variables})
    except KeyboardInterrupt:
        return 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
