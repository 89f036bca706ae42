"""What is shipped: schema, fitted preprocessing and networks, in one folder without pickle.

A model folder holds `schema.json`, `architecture.json` (each member's network by name, with its hyperparameters,
inputs and weight), `weights.safetensors`, one folder of fitted preprocessing a member, `manifest.json` with the
SHA-256 of every file, and, once it is logged, what MLflow needs to load and serve it. It holds no training row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from automl import manifest, plugins
from automl.components import catalogue
from automl.data.dataset import conform
from automl.errors import RefusedError
from automl.losses import forward
from automl.preprocessing.preprocessing import Preprocessing
from automl.values import Choice, InputSpec, Schema, TargetSpec, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

FORMAT = 1
#: Rows that are transformed and predicted at once, so that memory does not grow with the table.
CHUNK_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Member:
    """One trained network with the preprocessing it was trained behind.

    Attributes:
        weight: Its share in the average.
        choice: The network's name and hyperparameters, from which it is built again.
    """

    preprocessing: Preprocessing
    network: nn.Module
    choice: Choice
    target: TargetSpec
    weight: float = 1.0


class Predictor:
    """Predicts on tables that look like the one it was trained on.

    Args:
        schema: What a table must look like.
        members: The networks whose probabilities or values are averaged by weight.
    """

    def __init__(self, schema: Schema, members: Sequence[Member]) -> None:
        self.schema = schema
        self.members = tuple(members)

    def predictions(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Returns probabilities (rows, classes), in the order of the target's classes, or values (rows,).

        Raises:
            DataError: Columns are missing or hold what they may not hold.
        """
        return self._predictions(conform(frame, self.schema)[0])

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Returns one row per row of `frame`, in its order: `prediction`, and `proba_<class>` for classes.

        Raises:
            DataError: Columns are missing or hold what they may not hold.
        """
        return self.predict_conformed(conform(frame, self.schema)[0])

    def predict_conformed(self, features: pd.DataFrame) -> pd.DataFrame:
        """Returns what `predict` does, of a canonical frame."""
        predictions = self._predictions(features)
        if self.schema.target.task is Task.REGRESSION:
            return pd.DataFrame({"prediction": predictions}, index=features.index)
        classes = self.schema.target.classes
        labels = pd.Series(classes).take(predictions.argmax(axis=1)).set_axis(features.index)
        probabilities = {f"proba_{name}": predictions[:, position] for position, name in enumerate(classes)}
        return pd.DataFrame({"prediction": labels, **probabilities}, index=features.index)

    def save(self, folder: Path) -> None:
        """Writes the model's files into an empty or missing folder, the manifest last."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "schema.json", self.schema.to_json())
        members = [
            {
                "weight": member.weight,
                "network": {"name": member.choice.name, "params": dict(member.choice.params)},
                "inputs": member.preprocessing.inputs.to_json(),
                "target": asdict(member.target),
            }
            for member in self.members
        ]
        _write(folder / "architecture.json", {"format": FORMAT, "members": members})
        save_file(
            {
                f"{number}.{name}": tensor.contiguous()
                for number, member in enumerate(self.members)
                for name, tensor in member.network.state_dict().items()
            },
            folder / "weights.safetensors",
        )
        (folder / "preprocessing").mkdir(exist_ok=True)
        for number, member in enumerate(self.members):
            member.preprocessing.save(folder / "preprocessing" / f"{number}.skops")
        manifest.write(folder)

    @classmethod
    def load(cls, folder: Path) -> Predictor:
        """Returns the model in a folder, after its manifest has been checked.

        Raises:
            RefusedError: A file was changed, added or removed, or is of a kind that is not loaded.
        """
        from safetensors.torch import load_file

        manifest.verify(folder)
        plugins.load()
        schema = Schema.from_json(_read(folder / "schema.json"))
        architecture = _read(folder / "architecture.json")
        if architecture.get("format") != FORMAT:
            raise RefusedError(
                f"is of model format {architecture.get('format')}; this version reads {FORMAT}", where=str(folder)
            )
        tensors = load_file(folder / "weights.safetensors", device="cpu")
        members = []
        for number, document in enumerate(architecture["members"]):
            choice = Choice(document["network"]["name"], document["network"]["params"])
            target = document["target"]
            target = TargetSpec(
                **{**target, "task": Task(target["task"]), "class_counts": tuple(target["class_counts"])}
            )
            network = catalogue("network").build(choice, InputSpec.from_json(document["inputs"]), target.n_outputs)
            prefix = f"{number}."
            network.load_state_dict({k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)})
            preprocessing = Preprocessing.load(folder / "preprocessing" / f"{number}.skops", schema)
            members.append(Member(preprocessing, network.eval(), choice, target, document["weight"]))
        return cls(schema, members)

    def _predictions(self, features: pd.DataFrame) -> NDArray[np.float64]:
        starts = range(0, max(len(features), 1), CHUNK_ROWS)
        return np.concatenate([self._chunk(features.iloc[start : start + CHUNK_ROWS]) for start in starts])

    def _chunk(self, features: pd.DataFrame) -> NDArray[np.float64]:
        total = sum(member.weight for member in self.members)
        return sum(
            (member.weight / total) * forward(member.network, member.preprocessing.transform(features), member.target)
            for member in self.members
        )  # type: ignore[return-value]


def combine(predictors: Sequence[tuple[Predictor, float]]) -> Predictor:
    """Returns one predictor that averages several by weight."""
    schema = predictors[0][0].schema
    members = []
    for predictor, weight in predictors:
        total = sum(member.weight for member in predictor.members)
        members += [
            Member(m.preprocessing, m.network, m.choice, m.target, weight * m.weight / total) for m in predictor.members
        ]
    return Predictor(schema, members)


class _PythonFunction:
    """What MLflow calls."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        return self._predictor.predict(pd.DataFrame(model_input))


def _load_pyfunc(path: str) -> _PythonFunction:
    """Returns the model for `mlflow.pyfunc.load_model`, which finds this function by its name."""
    return _PythonFunction(Predictor.load(Path(path)))


def _write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
