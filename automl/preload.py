"""What every process of a study needs loaded; the fork server imports this module once."""

from __future__ import annotations

import warnings

warnings.filterwarnings("ignore", category=DeprecationWarning)

# torch before everything that brings an OpenMP of its own: after scikit-learn, it trains at half the speed.
import torch  # noqa: E402, F401, I001
import imblearn.over_sampling  # noqa: E402
import imblearn.under_sampling  # noqa: E402, F401

from automl import finalise, plugins, preparation, references, trial  # noqa: E402, F401

plugins.load_builtin()
