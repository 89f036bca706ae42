"""Predicting on files with a model folder, and proving that a model folder works."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from automl import manifest
from automl.data import sources
from automl.errors import ConfigError, ResourceError
from automl.predictor import Predictor

ENDINGS = (".parquet", ".csv", ".json")


def predict_file(folder: Path, data: Path, output: Path, read_as: Mapping[str, Any] | None = None) -> int:
    """Returns the number of rows written to `output`: one per row of `data`, in its order.

    Args:
        folder: The model.
        data: The table.
        output: A file whose ending says its form.
        read_as: `source` and `params` of the study's own table: another one of that form is read alike.

    Raises:
        ConfigError: The ending of `output` is none that can be written.
        DataError: The table cannot be read, or lacks columns.
        RefusedError: The model folder is not what its manifest says.
        ResourceError: The output cannot be written.
    """
    if output.suffix not in ENDINGS:
        raise ConfigError(
            f"found `{output.name}`; allowed endings: {', '.join(ENDINGS)}",
            where="--output",
        )
    if not output.parent.is_dir():  # told before the work, not after it
        raise ConfigError(f"there is no folder `{output.parent}`", where="--output", remedy="Make it first.")
    predictor = Predictor.load(folder)
    source, params = sources.infer(data)
    if read_as is not None and read_as["source"] == source:
        params = {**read_as["params"], **params}
    predictions = predictor.predict(sources.read(source, params, Path.cwd())).reset_index(drop=True)
    _write(predictions, output)
    return len(predictions)


def prove(folder: Path) -> dict[str, Any]:
    """Returns the digest and number of files of a model folder that is intact, loads and predicts a made-up row.

    Raises:
        RefusedError: It is not what its manifest says, or holds what is not loaded.
    """
    digest = manifest.verify(folder)
    predictor = Predictor.load(folder)
    predictor.predict(pd.DataFrame([predictor.schema.example()]))
    files = json.loads((folder / manifest.NAME).read_text(encoding="utf-8"))["files"]
    return {"digest": digest, "files": len(files), "members": len(predictor.members)}


def _write(predictions: pd.DataFrame, output: Path) -> None:
    # A full disk must not leave half a file under the name asked for.
    temporary = output.with_name(f".{output.name}.new")
    try:
        if output.suffix == ".parquet":
            predictions.to_parquet(temporary, index=False)
        elif output.suffix == ".csv":
            predictions.to_csv(temporary, index=False)
        else:
            predictions.to_json(temporary, orient="records", lines=False, force_ascii=False)
        os.replace(temporary, output)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ResourceError(f"cannot be written: {error.strerror or error}", where=str(output)) from error
