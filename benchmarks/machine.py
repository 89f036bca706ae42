"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

PACKAGES = ("torch", "pytorch-lightning", "optuna", "mlflow", "scikit-learn")


def describe() -> dict[str, Any]:
    """Returns the machine and the versions that a figure depends on; for the results on disk."""
    return {
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }
