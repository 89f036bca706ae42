"""The one place that takes secrets out of text, before it is shown, logged or stored."""

from __future__ import annotations

import os
import re

#: Names of environment variables whose values are secrets.
_SECRET = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API_?KEY|ACCESS_KEY|PRIVATE_KEY|CREDENTIAL|_PWD$", re.IGNORECASE
)
#: Shorter values are words that stand elsewhere for themselves.
_SHORTEST = 8
_IN_ADDRESS = re.compile(r"(://[^:/@\s]*:)(?!\d+/)([^@\s]+)@")  # SQLAlchemy takes a `/` in a password
_IN_QUERY = re.compile(r"([?&;](?:password|passwd|pwd|token|secret|api_?key)=)([^&;\s]+)", re.IGNORECASE)


def redact(text: str) -> str:
    """Returns the text without passwords in addresses and without the values of secret environment variables.

    Addresses that a variable holds, such as `DATABASE_URL`, lose their passwords wherever they stand.
    """
    for value in secrets():
        text = text.replace(value, "***")
    return _IN_QUERY.sub(r"\1***", _IN_ADDRESS.sub(r"\1***@", text))


def secrets() -> list[str]:
    """Returns the values of environment variables that must not be shown, the longest first."""
    found = {value for name, value in os.environ.items() if _SECRET.search(name)}
    for value in os.environ.values():
        found |= {match[2] for pattern in (_IN_ADDRESS, _IN_QUERY) for match in pattern.finditer(value)}
    return sorted((value for value in found if len(value) >= _SHORTEST), key=len, reverse=True)
