from __future__ import annotations

import pytest

from automl.errors import ConfigError
from automl.redaction import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:hunter2@host/db", "postgresql://me:***@host/db"),
        ("https://user:p%40ss@host:5000 failed", "https://user:***@host:5000 failed"),
        ("http://host:5000/path@place", "http://host:5000/path@place"),
        ("postgresql://me:hunt/er2@host/db", "postgresql://me:***@host/db"),
        ("postgresql://host/db?user=me&password=hunter2&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("no secret here", "no secret here"),
    ],
)
def test_passwords_in_addresses_are_not_shown(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_values_of_secret_variables_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "canary-token-1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret-2")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:canary-word-3@host/db")
    monkeypatch.setenv("SHORT_TOKEN", "a")
    text = "canary-token-1, canary-secret-2, canary-word-3, a"
    assert redact(text) == "***, ***, ***, a"


def test_errors_do_not_show_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "canary-key-4")
    error = ConfigError("found `canary-key-4`", where="x://me:hunter2@host")
    assert str(error) == "x://me:***@host: found `***`."
