"""Where a model is: a study's name, a run id, `models:/NAME@alias`, `models:/NAME/3` or a folder."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from automl import manifest, model_folder, study_folder
from automl.errors import ConfigError, did_you_mean
from automl.tracking.mlflow_tracker import MlflowTracker
from automl.tracking.tracker import RejectedError, sqlite_path


@contextmanager
def open_model(name: str, tracking_uri: str) -> Iterator[Path]:
    """Yields the folder of a model, fetched from MLflow where it lies there.

    Raises:
        ConfigError: Nothing is called so.
        TrackingError: MLflow does not have it, or cannot be reached.
    """
    uri = name if name.startswith("models:/") else f"runs:/{name}" if re.fullmatch("[0-9a-f]{32}", name) else None
    if uri is not None:
        with tempfile.TemporaryDirectory(prefix="automl-model-") as scratch:
            yield _fetch(name, uri, tracking_uri, Path(scratch) / "model")
    elif (Path(name) / manifest.NAME).is_file():
        yield Path(name)
    elif name in study_folder.names():
        folder = study_folder.existing(name)
        if not folder.model.is_dir():
            raise ConfigError(f"the study `{name}` has no model yet", remedy=f"Finish it: automl resume {name}")
        yield folder.model
    else:
        raise ConfigError(
            f"`{name}` is no study, run id, `models:/NAME@alias` or model folder",
            remedy=did_you_mean(name, study_folder.names()) or "Nothing has been run in this folder yet.",
        )


def _fetch(name: str, uri: str, tracking_uri: str, to: Path) -> Path:
    database = sqlite_path(tracking_uri)
    if database is not None and not database.is_file():  # MLflow would make an empty one
        raise ConfigError(
            f"`{name}` is looked for in {database}, which does not exist",
            remedy="Go to the folder of the study, or name its MLflow: --tracking-uri URI",
        )
    try:
        return MlflowTracker(tracking_uri).download(uri, to)
    except RejectedError as error:
        raise ConfigError(
            f"MLflow has no model `{name}`: {error.problems[0].message.removeprefix('MLflow says: ')}",
            where=error.problems[0].where,
            remedy="`automl ui` shows which models there are.",
        ) from error


def copy_model(folder: Path, to: Path) -> None:
    """Copies a verified model folder.

    Raises:
        ConfigError: `to` exists.
        RefusedError: The folder is not what its manifest says.
    """
    if to.exists():
        raise ConfigError(f"`{to}` exists", where="--output", remedy="Name a folder that does not exist yet.")
    if not to.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder `{to.parent}`", where="--output", remedy="Make it first.")
    model_folder.verify(folder)
    shutil.copytree(folder, to)
