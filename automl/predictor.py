"""What is shipped: schema, fitted preprocessing and networks, in one folder without pickle.

A model folder holds `schema.json`, `architecture.json` (each member's network by name, with its hyperparameters,
inputs and weight, or the name of a reference model; calibration and decision), `weights.safetensors`, a file of what
was fitted beside it for each member, `manifest.json` with the SHA-256 of every file, and, once it is logged, what
MLflow needs to load and serve it. It holds no training row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from automl import manifest, metrics, model_folder, plugins
from automl.architecture import build
from automl.calibration import Calibration
from automl.components import catalogue
from automl.data import forecasting, neighbours
from automl.data.blocks import Places
from automl.data.dataset import conform
from automl.errors import ConfigError, DataError, RefusedError
from automl.losses import EVALUATION_BATCH_SIZE, forward
from automl.own_module import OwnModule, Says, as_x
from automl.preprocessing.preprocessing import Preprocessing
from automl.reference_model import ReferenceModel
from automl.values import Choice, InputSpec, Schema, Target, TargetSpec, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

#: 2 added reference models, calibration and decision, 3 a calibration for each of several targets; folders of earlier
#: formats have none of them, and are read alike.
FORMAT = 3
READABLE = (1, 2, FORMAT)
#: Rows that are transformed and predicted at once, and the numbers that they come to at most, about, so that memory
#: does not grow with the table.
CHUNK_ROWS, CHUNK_CELLS = 65_536, 2**26
#: Rows that a LightningModule of the user's sees at once.
EVALUATED = EVALUATION_BATCH_SIZE


@dataclass(frozen=True, slots=True)
class Member:
    """One trained network with the preprocessing it was trained behind.

    Attributes:
        weight: Its share in the average.
        choice: The network's name and hyperparameters, from which it is built again.
        domain: What it makes of domains, likewise.
    """

    preprocessing: Preprocessing
    network: nn.Module
    choice: Choice
    target: TargetSpec
    weight: float = 1.0
    domain: Choice = Choice("none")  # noqa: RUF009  frozen

    def predictions(self, features: pd.DataFrame) -> NDArray[np.float64]:
        """Returns what `Predictor.predictions` does, of a canonical frame."""
        return forward(self.network, self.preprocessing.transform(features), self.target)


@dataclass(frozen=True, slots=True)
class ReferenceMember:
    """A reference model as one of an ensemble.

    Attributes:
        weight: Its share in the average.
    """

    model: ReferenceModel
    weight: float = 1.0

    def predictions(self, features: pd.DataFrame) -> NDArray[np.float64]:
        """Returns what `Predictor.predictions` does, of a canonical frame."""
        return self.model.predictions(features)


class Predictor:
    """Predicts on tables that look like the one it was trained on.

    Args:
        schema: What a table must look like.
        members: Those whose probabilities or values are averaged by weight.
        calibrations: What is then done to each target's probabilities; empty: nothing.
        decision: What each column of probabilities is multiplied with before the largest one of a target is its label;
            empty: nothing.
    """

    def __init__(
        self,
        schema: Schema,
        members: Sequence[Member | ReferenceMember],
        calibrations: Sequence[Calibration] = (),
        decision: Sequence[float] = (),
    ) -> None:
        self.schema = schema
        self.members = tuple(members)
        self.calibrations = tuple(calibrations)
        self.decision = tuple(decision)

    @property
    def chunk_rows(self) -> int:
        """Rows that are predicted at once."""
        return min(CHUNK_ROWS, max(CHUNK_CELLS // self.schema.n_cells, 64))

    @property
    def packages(self) -> frozenset[str]:
        """The packages that predicting needs beside those that every model does."""
        networks = [member for member in self.members if isinstance(member, Member)]
        return frozenset[str]().union(*(member.preprocessing.packages for member in networks))

    @property
    def own_module(self) -> OwnModule | None:
        """The LightningModule whose outputs are handed on as they are, as they say nothing of the target; else None."""
        first = self.members[0]
        network = first.network if isinstance(first, Member) else None
        if isinstance(network, OwnModule) and network.says in (Says.NOTHING, Says.NUMBERS):
            return network
        return None

    @property
    def says_nothing(self) -> bool:
        """Whether it is a LightningModule that gives no outputs for rows, as the generator of a GAN does not."""
        return self.own_module is not None and self.own_module.says is Says.NOTHING

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """Shape of one row of an array to predict on, where the model reads no table; None: it reads one.

        Empty: there is no array that it says anything of.
        """
        if self.schema.columns:
            return None
        first = self.members[0]
        if not isinstance(first, Member) or self.says_nothing:
            return ()
        return next((block.shape for block in first.preprocessing.inputs.blocks.values()), ())

    def predictions(self, frame: pd.DataFrame, places: Places | None = None) -> NDArray[np.float64]:
        """Returns probabilities (rows, classes), in the order of the target's classes, or values (rows,).

        Quantiles are (rows, quantiles), rising. Of several targets all of these stand side by side.

        Args:
            frame: A table like the study's, or a canonical frame.
            places: As of `conform`.

        Raises:
            DataError: Columns are missing or hold what they may not hold.
        """
        return self._predictions(conform(frame, self.schema, places)[0])

    def predict(
        self, frame: pd.DataFrame, places: Places | None = None, *, edges: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """Returns one row per row of `frame`, in its order, with the columns that `Target.columns` names.

        Where it forecasts, `frame` is a history, and there is a row for each moment ahead of each series, which say so.

        Args:
            frame: A table like the study's, or a canonical frame.
            places: As of `conform`.
            edges: Where what neighbours are like was learned from, the edges between these rows; None: there are none.

        Raises:
            DataError: Columns are missing or hold what they may not hold.
        """
        if self.schema.neighbours is not None:
            frame = neighbours.with_edges(frame, edges, self.schema.neighbours)
        if self.schema.forecast is not None:
            ahead, features = forecasting.future(frame, self.schema)
            return pd.concat([ahead, self.predict_conformed(conform(features, self.schema)[0])], axis=1)
        return self.predict_conformed(conform(frame, self.schema, places)[0])

    def predict_conformed(self, features: pd.DataFrame) -> pd.DataFrame:
        """Returns what `predict` does, of a canonical frame."""
        if self.own_module is not None:
            return self._outputs(self.own_module, features)
        predictions = self._predictions(features)
        target = self.schema.target
        if not target.parts:
            found = _columns(target, predictions, self.decision)
        else:
            found = []
            for part, columns in zip(target.parts, target.slices, strict=True):
                shown = _columns(part, predictions[:, columns], self.decision[columns])
                found += [shown[0], shown[-1]] if part.task is Task.BINARY else shown
        names = [name for name, _ in target.columns()]
        return pd.DataFrame(dict(zip(names, found, strict=True)), index=features.index)

    def predict_array(self, rows: NDArray[Any]) -> pd.DataFrame:
        """Returns what a LightningModule that reads no table says of rows; one row each.

        Args:
            rows: As `x` of its batches; (rows, *input_shape).

        Raises:
            DataError: They have another shape, or the module says nothing of rows.
        """
        expected = self.input_shape
        if expected is None or self.own_module is None:
            raise DataError("the model reads tables, not arrays")
        if expected and rows.shape[1:] != expected:
            wanted = f"(rows, {', '.join(map(str, expected))})"
            raise DataError(f"found an array of the shape {rows.shape}; the module was fed with {wanted}")
        if rows.dtype.kind not in "fiub":
            raise DataError(f"found an array of {rows.dtype}; allowed: numbers")
        kept = rows.astype(np.float32 if self.own_module.reads_fractions else np.int64)
        parts = [self._said(self.own_module, {"x": kept[i : i + EVALUATED]}) for i in range(0, len(kept), EVALUATED)]
        return _numbered(np.concatenate(parts or [np.empty((0, 0))]))

    def _outputs(self, module: OwnModule, features: pd.DataFrame) -> pd.DataFrame:
        """Returns what a LightningModule says of the rows of a canonical frame, as it says it."""
        member = self.members[0]
        assert isinstance(member, Member)
        starts = range(0, max(len(features), 1), EVALUATED)
        chunks = (member.preprocessing.transform(features.iloc[start : start + EVALUATED]) for start in starts)
        return _numbered(np.concatenate([self._said(module, chunk) for chunk in chunks])).set_axis(features.index)

    @staticmethod
    def _said(module: OwnModule, blocks: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        try:
            return module.outputs(as_x({name: torch.as_tensor(block) for name, block in blocks.items()})).numpy()
        except Exception as error:  # whatever the module's own code raises
            raise DataError(
                f"`{type(module.module).__name__}` says nothing of rows: {type(error).__name__}: {error}",
                remedy="Give it a `predict_step`, or a `forward`, that takes what its batches hold as `x`.",
            ) from error

    def save(self, folder: Path) -> None:
        """Writes the model's files into an empty or missing folder, the manifest last."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "schema.json", self.schema.to_json())
        document = {
            "format": FORMAT,
            "members": [_describe(member) for member in self.members],
            "calibration": [calibration.to_json() for calibration in self.calibrations],
            "decision": list(self.decision),
            "packages": sorted(self.packages),
        }
        _write(folder / "architecture.json", document)
        tensors = {
            f"{number}.{name}": tensor.contiguous()
            for number, member in enumerate(self.members)
            if isinstance(member, Member)
            for name, tensor in member.network.state_dict().items()
        }
        save_file(_apart(tensors), folder / "weights.safetensors")
        for number, member in enumerate(self.members):
            path = _fitted_path(folder, number, is_reference=isinstance(member, ReferenceMember))
            path.parent.mkdir(exist_ok=True)
            (member.preprocessing if isinstance(member, Member) else member.model).save(path)
        manifest.write(folder)

    @classmethod
    def load(cls, folder: Path) -> Predictor:
        """Returns the model in a folder, after its manifest has been checked.

        Raises:
            RefusedError: A file was changed, added or removed, cannot be read, or is of a kind that is not loaded.
        """
        from safetensors import SafetensorError

        model_folder.verify(folder)
        plugins.load()
        try:
            return cls._load(folder)
        except (SafetensorError, OSError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            # Whoever writes a manifest that fits can put anything into the files.
            what = f"the model cannot be read: {type(error).__name__}: {error}"
            raise RefusedError(what, where=str(folder)) from error

    @classmethod
    def _load(cls, folder: Path) -> Predictor:
        from safetensors.torch import load_file

        schema = Schema.from_json(_read(folder / "schema.json"))
        architecture = _read(folder / "architecture.json")
        if architecture.get("format") not in READABLE:
            raise RefusedError(
                f"is of model format {architecture.get('format')}; this version reads {FORMAT}", where=str(folder)
            )
        tensors = load_file(folder / "weights.safetensors", device="cpu")
        members: list[Member | ReferenceMember] = []
        for number, document in enumerate(architecture["members"]):
            path = _fitted_path(folder, number, is_reference="reference" in document)
            if "reference" in document:
                members.append(ReferenceMember(ReferenceModel.load(path, schema), document["weight"]))
                continue
            choice = Choice(document["network"]["name"], document["network"]["params"])
            target = TargetSpec.from_json(document["target"])
            if choice.name not in catalogue("network"):
                raise ConfigError(
                    f"the model's network `{choice.name}` is registered by no plug-in that is loaded",
                    where=str(folder),
                    remedy="Name the one that does: --plugin MODULE, or AUTOML_PLUGINS=MODULE.",
                )
            domain = Choice(**document["domain"]) if "domain" in document else Choice("none")
            network = build(choice, InputSpec.from_json(document["inputs"]), target.n_outputs, domain)
            prefix = f"{number}."
            network.load_state_dict({k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)})
            preprocessing = Preprocessing.load(path, schema)
            members.append(Member(preprocessing, network.eval(), choice, target, document["weight"], domain))
        stored = architecture.get("calibration", [])
        calibrations = [Calibration.from_json(one) for one in (stored if isinstance(stored, list) else [stored])]
        return cls(schema, members, calibrations, architecture.get("decision", ()))

    def _predictions(self, features: pd.DataFrame) -> NDArray[np.float64]:
        starts = range(0, max(len(features), 1), self.chunk_rows)
        return np.concatenate([self._chunk(features.iloc[start : start + self.chunk_rows]) for start in starts])

    def _chunk(self, features: pd.DataFrame) -> NDArray[np.float64]:
        total = sum(member.weight for member in self.members)
        parts = [member.weight / total * member.predictions(features) for member in self.members]
        average: NDArray[np.float64] = np.sum(parts, axis=0)
        return calibrated(self.schema.target, average, self.calibrations)


def calibrated(
    target: Target, predictions: NDArray[np.float64], calibrations: Sequence[Calibration]
) -> NDArray[np.float64]:
    """Returns predictions whose probabilities are calibrated, each target's by its own calibration; empty: by none."""
    if not calibrations:
        return predictions
    if not target.parts:
        return calibrations[0].apply(predictions) if target.task.is_classification else predictions
    changed = predictions.copy()
    for part, columns, calibration in zip(target.parts, target.slices, calibrations, strict=True):
        if part.task.is_classification:
            changed[:, columns] = calibration.apply(predictions[:, columns])
    return changed


def combine(
    predictors: Sequence[tuple[Predictor, float]],
    calibrations: Sequence[Calibration] = (),
    decision: Sequence[float] = (),
) -> Predictor:
    """Returns one predictor that averages several, none of them calibrated, by weight."""
    members: list[Member | ReferenceMember] = []
    for predictor, weight in predictors:
        total = sum(member.weight for member in predictor.members)
        members += [replace(member, weight=weight * member.weight / total) for member in predictor.members]
    return Predictor(predictors[0][0].schema, members, calibrations, decision)


def _columns(target: Target, predictions: NDArray[np.float64], decision: Sequence[float]) -> list[Any]:
    """Returns what people are given of a single target: what a row is, and each probability or quantile; (rows,)."""
    if target.task.is_classification:
        labels = pd.Series(target.classes).take(metrics.labels(predictions, decision)).array
        return [labels, *predictions.T]
    if target.quantiles:
        middle = int(np.abs(np.array(target.quantiles) - 0.5).argmin())
        return [predictions[:, middle], *predictions.T]
    return [predictions.reshape(-1)]


def _describe(member: Member | ReferenceMember) -> dict[str, Any]:
    """Returns what is written down of a member, without what was fitted."""
    if isinstance(member, ReferenceMember):
        return {"weight": member.weight, "reference": member.model.name}
    return {
        "weight": member.weight,
        "network": {"name": member.choice.name, "params": dict(member.choice.params)},
        **({"domain": asdict(member.domain)} if member.domain != Choice("none") else {}),
        "inputs": member.preprocessing.inputs.to_json(),
        "target": asdict(member.target),
    }


def _fitted_path(folder: Path, number: int, *, is_reference: bool) -> Path:
    return folder / ("references" if is_reference else "preprocessing") / f"{number}.skops"


def _apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns tensors of which no two share memory, as tied weights do, and a file cannot say."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return apart


def _numbered(outputs: NDArray[np.float64]) -> pd.DataFrame:
    """Returns outputs (rows, numbers) as columns: `prediction` alone, or `output_0`, `output_1` and so on."""
    names = ["prediction"] if outputs.shape[1] == 1 else [f"output_{i}" for i in range(outputs.shape[1])]
    return pd.DataFrame(outputs, columns=names)


class _PythonFunction:
    """What MLflow calls."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        if self._predictor.input_shape is not None:
            return self._predictor.predict_array(np.asarray(model_input))
        return self._predictor.predict(pd.DataFrame(model_input))


def _load_pyfunc(path: str) -> _PythonFunction:
    """Returns the model for `mlflow.pyfunc.load_model`, which finds this function by its name."""
    return _PythonFunction(Predictor.load(Path(path)))


def _write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
