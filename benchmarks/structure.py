"""How good is it on series, domains and relations, beside their plain rivals? On the data of the experiments.

    python benchmarks/structure.py [--seconds 120] [--only PART ...]

`forecast`, `relations` and `neighbours` are studies of so many seconds, beside the reference models on the same test
rows. `domains` trains one network a fixed number of epochs, with and without what is made of domains, on states that
are held out whole, with nothing chosen. Prints tables, and writes `results/structure.md` when all is run at length.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
RESULTS = Path(__file__).with_name("results")

#: Study, and what of its file is changed for the plain rival.
STUDIES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "forecast": [("us_employment", {})],
    "relations": [("lecture_ratings", {}), ("lecture_ratings", {"search_space": "auto"})],
    "neighbours": [("state_income", {}), ("state_income", {"neighbours": None})],
}
#: Rows that are held out whole, and the number that is predicted.
DOMAINS = [("state_crime", "violent"), ("state_income", "income")]
N_EPOCHS, SEEDS, FOLDS = 30, (0, 1, 2), 10


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = [*STUDIES, "domains"]
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, metavar="PART")
    options = parser.parse_args()
    lines: list[str] = []
    for part in options.only:
        found = of_domains() if part == "domains" else of_studies(STUDIES[part], options.seconds)
        print("\n".join(found), flush=True)
        lines += found
    if options.only == parts and options.seconds == 120:
        (RESULTS / "structure.md").write_text("\n".join(lines) + "\n")


def of_studies(studies: list[tuple[str, dict[str, Any]]], seconds: int) -> list[str]:
    """Returns a table of what was shipped and the reference models, on test rows that no trial saw."""
    lines = [
        "| study | metric | shipped | references, best first | trials |",
        "|---|---|---|---|---|",
    ]
    for name, changes in studies:
        document = run(name, changes, seconds)
        references = [(one["test"], one["name"]) for one in document["references"] if one["test"] is not None]
        told = ", ".join(f"{reference} {value:.4g}" for value, reference in sorted(references))
        changed = ", ".join(f"`{key}: {value or 'left out'}`" for key, value in changes.items())
        lines.append(
            f"| {name}{' with ' if changed else ''}{changed} | {document['metric']['name']} | {document['test']:.4g} "
            f"| {told} | {document['trials']['complete']} |"
        )
    return [f"Studies of {seconds} seconds on 2 cores, test rows.", "", *lines, ""]


def run(name: str, changes: dict[str, Any], seconds: int) -> dict[str, Any]:
    """Returns the result of an experiment, for so many seconds and with changes to its file."""
    document = yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text()) | changes | {"budget": {"time": seconds}}
    with tempfile.TemporaryDirectory(prefix="structure-") as folder:
        shutil.copytree(EXPERIMENTS / "data", Path(folder, "data"))
        Path(folder, "study.yaml").write_text(yaml.safe_dump(document))
        command = [sys.executable, "-m", "automl", "run", "study.yaml", "--workers", "2", "--json", "--quiet"]
        made = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(made)
    return found


def of_domains() -> list[str]:
    """Returns a table of errors on domains that were not trained on, the mean over folds, for each seed."""
    lines = [
        f"One network, {N_EPOCHS} epochs, {FOLDS} folds of whole states, RMSE: mean and deviation over seeds {SEEDS}.",
        "",
        "| data | nothing | embedding | adversarial | adversarial better on |",
        "|---|---|---|---|---|",
    ]
    for name, target in DOMAINS:
        errors = {kind: errors_of(name, kind) for kind in ("none", "embedding", "adversarial")}
        cells = [f"{each.mean():.4g} ± {each.mean(axis=1).std():.2g}" for each in errors.values()]
        n_better = int((errors["adversarial"] < errors["none"]).sum())
        lines.append(f"| {name} ({target}) | {' | '.join(cells)} | {n_better} of {errors['none'].size} folds |")
    return [*lines, ""]


def errors_of(name: str, kind: str) -> np.ndarray:
    """Returns the root mean squared error of each seed and fold; (seeds, folds)."""
    import torch

    from automl import plugins, study_spec
    from automl.data import sources
    from automl.data.dataset import make_dataset
    from automl.data.splits import split
    from automl.losses import forward
    from automl.training.fit import retrain
    from automl.trial import prepare
    from automl.values import Choice, Configuration, Step, TrainerSettings

    torch.set_num_threads(1)
    plugins.load_builtin()
    data = study_spec.load(EXPERIMENTS / f"{name}.yaml").data
    frame = sources.read(data.source, data.params, EXPERIMENTS)
    table = make_dataset(frame, target=data.target, domain=data.domain, name=name, source="")
    splits = split(table, strategy="kfold", n_folds=FOLDS, test_size=0, group=data.domain)
    configuration = Configuration(
        preprocessing=(Step("scaling", Choice("standard")),),
        network=Choice("mlp", {"depth": 2, "width": 64, "dropout": 0.2, "normalisation": "layer"}),
        optimizer=Choice("adamw", {"lr": 3e-3, "weight_decay": 0.01}),
        schedule=Choice("cosine"),
        loss=Choice("mse"),
        batch_size=64,
        domain=Choice(kind),
    )
    errors = np.empty((len(SEEDS), FOLDS))
    for row, seed in enumerate(SEEDS):
        for column, fold in enumerate(splits.folds):
            prepared, _ = prepare(configuration, table.schema, table.features, table.target, fold, seed)
            settings = TrainerSettings(max_epochs=N_EPOCHS, accelerator="cpu")
            network = retrain(configuration, prepared, settings, seed=seed, n_epochs=N_EPOCHS)
            assert network is not None  # there was no time at which to end
            found = forward(network, prepared.val.piece(0).inputs, prepared.target)
            errors[row, column] = np.sqrt(np.mean((found - prepared.val.target) ** 2))
    return errors


if __name__ == "__main__":
    main()
