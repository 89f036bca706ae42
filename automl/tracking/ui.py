"""MLflow's own pages on a tracking store, served on this machine only unless they ask for a password."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import secrets
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from automl.errors import ConfigError, RefusedError, TrackingError
from automl.tracking.tracker import sqlite_path

#: The variable in which MLflow takes the first password of its user `admin`.
ADMIN_PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"  # noqa: S105  the variable's name
SHORTEST_PASSWORD = 12
#: The variable with the names that MLflow answers to, against pages of others that rebind theirs to this machine.
ALLOWED_HOSTS = "MLFLOW_SERVER_ALLOWED_HOSTS"


def serve_ui(tracking_uri: str, port: int, host: str = "127.0.0.1") -> int:
    """Runs `mlflow server` until it is ended, and returns its exit code.

    Args:
        host: Address to listen on. Where others can reach it, MLflow asks them for name and password.

    Raises:
        ConfigError: The tracking URI is a server, which has pages of its own, or there are no results here yet.
        RefusedError: Others could reach the pages, and no password is set.
        TrackingError: The port is taken.
    """
    asks = [] if _is_loopback(host) else _authentication(host)
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
        "--artifacts-destination", str(artifacts), "--host", host, "--port", str(port), "--workers", "1", *asks,
    ]  # fmt: skip
    # No jobs and no telemetry: nobody asked for them, and each is a way in.
    variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    # By default MLflow answers to any name that begins like a private address, such as `10.example.org`.
    variables |= {ALLOWED_HOSTS: os.environ.get(ALLOWED_HOSTS, ",".join(_names(host, port)))}
    if asks:
        variables |= {"MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32)}
    print(f"http://{host}:{port} (Ctrl-C ends it)", file=sys.stderr)
    server = subprocess.Popen(command, env={**os.environ, **variables})
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it ends as by Ctrl-C
    try:
        return server.wait()
    except KeyboardInterrupt:
        _end(server)
        return 0


def _end(server: subprocess.Popen[bytes]) -> None:
    """Ends MLflow's server and the processes that it has started, which would go on without it."""
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(server.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.terminate()
    server.terminate()
    server.wait()


def _names(host: str, port: int) -> list[str]:
    """Returns the names by which browsers may ask for the pages, with and without the port."""
    names = {"localhost", "127.0.0.1", "[::1]"}
    if not _is_loopback(host):
        addresses = [each.address.partition("%")[0] for of in psutil.net_if_addrs().values() for each in of]
        names |= {socket.gethostname(), socket.getfqdn(), host}
        names |= {f"[{address}]" if ":" in address else address for address in addresses}
    return sorted(names | {f"{name}:{port}" for name in names})


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _authentication(host: str) -> list[str]:
    """Returns the arguments with which MLflow asks for a password."""
    problems = []
    if len(os.environ.get(ADMIN_PASSWORD, "")) < SHORTEST_PASSWORD:
        problems.append(
            f"{ADMIN_PASSWORD} is to hold a password of at least {SHORTEST_PASSWORD} characters for `admin`"
        )
    if importlib.util.find_spec("flask_wtf") is None:
        problems.append("MLflow's authentication is to be installed: pip install 'automl-platform[server]'")
    if problems:
        raise RefusedError(
            f"others could reach `{host}`, and change or delete every result",
            where="--host",
            remedy=f"Keep to 127.0.0.1, or let it ask for a password: {'; '.join(problems)}.",
        )
    return ["--app-name", "basic-auth"]


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
