"""Promotion: gates, evidence, and the alias that moves last. Rollback moves it back.

A crash at any point leaves the alias at the old version or at the new, whole one; promoting again goes on with the
version that was made.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from automl import manifest, metrics
from automl.data import blocks, storage
from automl.data.storage import StoredPart
from automl.errors import AutomlError, ConfigError, Problem, RefusedError, TrackingError
from automl.predictor import Predictor
from automl.study_folder import StudyFolder, read_json, write_json
from automl.tracking.tracker import ModelVersion, Registry
from automl.values import ColumnKind, Schema

#: Rows on which a clean process must predict as this one does.
CLEAN_ROWS = 100
CLEAN_TIMEOUT_S = 300

#: Runs with nothing but what is installed: no working folder, no variables, nothing that was imported before.
_CLEAN_LOAD = """
import sys, numpy, pandas, mlflow.pyfunc
model = mlflow.pyfunc.load_model(sys.argv[1])
read = numpy.load if sys.argv[2].endswith(".npy") else pandas.read_parquet
model.predict(read(sys.argv[2])).to_parquet(sys.argv[3])
"""

#: Tags of a version. Which version had an alias before is kept for each alias.
METRIC, SCORE, STUDY = "automl.metric", "automl.test_score", "automl.study"
MANIFEST, SPLIT, PREVIOUS = "automl.manifest", "automl.split_digest", "automl.previous.{alias}"


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition of a promotion, and what was found."""

    name: str
    passed: bool
    found: str


def promote(folder: StudyFolder, model: str, alias: str, registry: Registry) -> dict[str, Any]:
    """Registers a study's model and moves an alias to it.

    Returns:
        The evidence, which is also kept in the study's folder: study, model, version, previous version, and each gate.

    Raises:
        RefusedError: A gate did not open; with what was found.
        TrackingError: MLflow cannot be reached, or does not have the model yet.
    """
    _check_names(model, alias)
    if not folder.result.is_file():
        name = folder.path.name
        raise ConfigError(f"the study `{name}` has no result yet", remedy=f"Finish it: automl resume {name}")
    document = read_json(folder.result)
    if document["model_uri"] is None:
        raise TrackingError(
            f"the model of `{document['study']}` has not reached MLflow yet", remedy="Send it: automl sync"
        )
    champion = registry.alias(model, alias)
    with tempfile.TemporaryDirectory(prefix="automl-promote-") as scratch:
        gates, digest = _gates(folder, document, champion, registry, Path(scratch))
    evidence: dict[str, Any] = {
        "study": document["study"],
        "model": model,
        "alias": alias,
        "model_uri": document["model_uri"],
        "manifest": digest,
        "promoted": False,
        "version": None,
        "previous": champion.version if champion else None,
        "gates": [{"name": gate.name, "passed": gate.passed, "found": gate.found} for gate in gates],
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    kept = folder.path / "promotions" / f"{time.time_ns()}.json"
    closed = [gate for gate in gates if not gate.passed]
    if closed:
        write_json(kept, evidence)
        raise RefusedError(f"not promoted: {'; '.join(f'{gate.name}: {gate.found}' for gate in closed)}")
    tags = {
        STUDY: document["study"],
        METRIC: document["metric"]["name"],
        SCORE: repr(document["test"]),
        MANIFEST: digest,
        SPLIT: read_json(folder.prepared)["split_digest"],
        **({PREVIOUS.format(alias=alias): str(champion.version)} if champion else {}),
    }
    made = [version for version in registry.versions(model) if version.tags == {**version.tags, **tags}]
    version = made[0].version if made else registry.add_version(model, document["model_uri"], tags)
    write_json(kept, {**evidence, "version": version})
    registry.point(model, alias, version)
    evidence |= {"version": version, "promoted": True}
    write_json(kept, evidence)
    return evidence


def rollback(model: str, alias: str, registry: Registry) -> dict[str, Any]:
    """Moves an alias back to the version that had it before.

    Raises:
        RefusedError: There is no version before it.
    """
    _check_names(model, alias)
    present = registry.alias(model, alias)
    if present is None:
        raise RefusedError(f"`{model}` has no alias `{alias}`", remedy=f"Promote a study: --model {model}")
    previous = present.tags.get(PREVIOUS.format(alias=alias))
    if previous is None or int(previous) not in {version.version for version in registry.versions(model)}:
        raise RefusedError(f"version {present.version} of `{model}` is the first that was `{alias}`")
    registry.point(model, alias, int(previous))
    return {"model": model, "alias": alias, "version": int(previous), "previous": present.version}


def _check_names(model: str, alias: str) -> None:
    """Refuses names that MLflow would refuse, in words that name the flag."""
    problems = []
    if not model.strip() or set(model) & set("/:"):
        problems.append(Problem(f"found `{model}`; allowed: a name without `/` and `:`", "--model"))
    if not re.fullmatch(r"[A-Za-z0-9_-]+", alias) or re.fullmatch(r"latest|v\d+", alias, re.IGNORECASE):
        allowed = "letters, digits, `_` and `-`, but neither `latest` nor `v1`, which MLflow reserves"
        problems.append(Problem(f"found `{alias}`; allowed: {allowed}", "--alias"))
    if problems:
        raise ConfigError(problems)


def _gates(
    folder: StudyFolder,
    document: dict[str, Any],
    champion: ModelVersion | None,
    registry: Registry,
    scratch: Path,
) -> tuple[list[Gate], str]:
    """Returns every gate, and the digest of the model's manifest."""
    digest = manifest.verify(folder.model)
    logged = registry.download(document["model_uri"], scratch / "candidate")
    found = manifest.verify(logged)
    gates = [Gate("hashes match", found == digest, f"MLflow holds manifest {found[:12]}, the study {digest[:12]}")]
    candidate = Predictor.load(logged)
    if candidate.input_shape is not None:
        return [*gates, *_gates_of_arrays(logged, candidate, champion, scratch, digest)], digest
    rows = storage.open_part(folder.data, "test" if document["test"] is not None else "search")
    # A forecast asks for a history, and of that the study keeps windows alone.
    is_forecast = candidate.schema.forecast is not None
    given = pd.DataFrame(candidate.schema.example()) if is_forecast else rows.shard(0).iloc[:CLEAN_ROWS]
    gates.append(_clean_process(logged, candidate, given, scratch))
    prepared = read_json(folder.prepared)
    better = _better(candidate, rows, document, prepared["is_logged"], champion, registry, scratch, digest)
    split = prepared["split_digest"]
    if champion is not None and champion.tags.get(SPLIT, split) != split:
        # Rows that test one study may have trained another; that can only hold a candidate back.
        better = replace(better, found=f"{better.found}; the champion had another split, which may flatter it")
    gates.append(better)
    return gates, digest


def _gates_of_arrays(
    folder: Path, candidate: Predictor, champion: ModelVersion | None, scratch: Path, digest: str
) -> list[Gate]:
    """Returns the gates of a LightningModule that reads no table: it is tried on zeros, as there are no rows."""
    shape = candidate.input_shape
    if not shape:
        return [Gate("loads and predicts in a clean process", False, "it gives no outputs for rows to be served")]
    better = Gate("better than the champion", True, "there is no champion yet")
    if champion is not None:
        same = champion.tags.get(MANIFEST) == digest
        what = "is this very model" if same else "cannot be compared: no rows are kept of a LightningDataModule"
        better = Gate(better.name, False, f"version {champion.version} {what}")
    return [_clean_process(folder, candidate, np.zeros((CLEAN_ROWS, *shape), dtype=np.float32), scratch), better]


def _clean_process(folder: Path, candidate: Predictor, rows: pd.DataFrame | NDArray[Any], scratch: Path) -> Gate:
    """Loads the model as MLflow would in a new process, and compares what it predicts."""
    name = "loads and predicts in a clean process"
    made = scratch / "predictions.parquet"
    if isinstance(rows, pd.DataFrame):
        given = scratch / "rows.parquet"
        is_history = candidate.schema.forecast is not None  # which is no canonical frame
        (rows if is_history else _as_signed(rows, candidate.schema)).to_parquet(given)
    else:
        given = scratch / "rows.npy"
        np.save(given, rows)
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    environment = {**kept, "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
    try:
        subprocess.run(
            [sys.executable, "-I", "-c", _CLEAN_LOAD, str(folder), str(given), str(made)],
            cwd=scratch,
            env=environment,
            capture_output=True,
            text=True,
            timeout=CLEAN_TIMEOUT_S,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return Gate(name, False, f"took more than {CLEAN_TIMEOUT_S} s")
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines() or ["no message"])[-1]
        return Gate(name, False, f"{said} (a plug-in must be an installed package to be loaded elsewhere)")
    here = candidate.predict(rows) if isinstance(rows, pd.DataFrame) else candidate.predict_array(rows)
    there = pd.read_parquet(made)
    same = list(here.columns) == list(there.columns) and all(
        np.allclose(here[column], there[column], rtol=1e-5, atol=1e-7)
        if here[column].dtype.kind == "f"
        else (here[column].to_numpy() == there[column].to_numpy()).all()
        for column in here.columns
    )
    return Gate(name, same, f"{len(here)} rows predicted {'the same' if same else 'differently'}")


def _as_signed(rows: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Returns canonical rows in the types of the model's signature, in which a truth value is no number."""
    truths = {
        name: rows[name].map({1.0: True, 0.0: False}).astype(object).where(rows[name].notna(), None)
        for name in schema.names(ColumnKind.BOOLEAN)
    }
    return blocks.spelled(rows.assign(**truths), schema)


def _better(
    candidate: Predictor,
    rows: StoredPart,
    document: dict[str, Any],
    is_logged: bool,
    champion: ModelVersion | None,
    registry: Registry,
    scratch: Path,
    digest: str,
) -> Gate:
    """Compares with the present champion, on the champion's own metric and the same test rows."""
    name = "better than the champion"
    if champion is None:
        return Gate(name, True, "there is no champion yet")
    if champion.tags.get(MANIFEST) == digest:
        return Gate(name, False, f"version {champion.version} is this very model")
    if is_logged:
        what = f"`{document['metric']['name']}` was logged in training: there is no computing it on the same rows"
        return Gate(name, False, what)
    if document["test"] is None:
        return Gate(name, False, "the study has no test rows to compare on (`test_size: 0`)")
    target = candidate.schema.target
    try:
        metric = metrics.metric(champion.tags.get(METRIC, document["metric"]["name"]), target)
        present = Predictor.load(registry.download(champion.uri, scratch / "champion"))
        if present.schema.target != target:
            return Gate(name, False, f"version {champion.version} predicts another target")
        old = metrics.score(metric, rows.target, rows.predict(present.predictions))
    except AutomlError as error:
        return Gate(name, False, f"version {champion.version} cannot be compared: {error}")
    new = metrics.score(metric, rows.target, rows.predict(candidate.predictions))
    scores = f"candidate {new:.5g}, champion (version {champion.version}) {old:.5g}"
    found = f"{metric.name} on {len(rows.target):,} test rows: {scores}"
    return Gate(name, metric.better(new, old), found)
