"""What every process of a study needs loaded; the fork server imports this module once."""

from __future__ import annotations

import warnings

warnings.filterwarnings("ignore", category=DeprecationWarning)

import imblearn.over_sampling  # noqa: E402
import imblearn.under_sampling  # noqa: E402, F401

from automl import finalise, plugins, preparation, references, trial  # noqa: E402, F401

plugins.load_builtin()
