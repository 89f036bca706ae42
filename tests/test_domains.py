"""What networks make of domains, from a column of a table to a model that predicts where it is unknown."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from automl import metrics, plugins, preparation, study_spec
from automl.components import CATALOGUES, catalogue
from automl.data.dataset import conform, make_dataset
from automl.data.splits import split
from automl.errors import ConfigError, DataError
from automl.predictor import Member, Predictor
from automl.preprocessing.preprocessing import Preprocessing
from automl.search_space import SearchSpace
from automl.training.fit import fit
from automl.trial import prepare
from automl.values import BlockSpec, Choice, ColumnKind, Configuration, Dataset, Fold, InputSpec, Step, TrainerSettings

plugins.load_builtin()
torch.set_num_threads(1)

INPUTS = InputSpec({"domain": BlockSpec("domain", (1,), (4,)), "numeric": BlockSpec("numeric", (2,))})


def table(n: int = 120) -> pd.DataFrame:
    """Returns rows of four places, at which a sign of the target is worth something else."""
    rng = np.random.default_rng(0)
    place = rng.integers(4, size=n)
    signal = rng.normal(size=n)
    shortcut = np.where(place % 2, signal, -signal) + rng.normal(scale=0.1, size=n) + 3 * place
    columns = {"signal": signal + rng.normal(scale=0.3, size=n), "shortcut": shortcut, "place": place.astype(str)}
    return pd.DataFrame({**columns, "y": np.where(signal > 0, "yes", "no")})


def dataset(frame: pd.DataFrame | None = None, **settings: object) -> Dataset:
    given = table() if frame is None else frame
    return make_dataset(given, **{"target": "y", "name": "t", "source": "s", "domain": "place", **settings})


def configuration(domain: Choice) -> Configuration:
    return Configuration(
        preprocessing=(),
        network=Choice("mlp", {"depth": 1, "width": 16}),
        optimizer=Choice("adamw", {"lr": 0.01}),
        schedule=Choice("cosine"),
        loss=Choice("cross_entropy"),
        batch_size=32,
        domain=domain,
    )


class Known(nn.Module):
    """A network whose outputs are its weights, so that gradients are plain."""

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_outputs))

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        assert "domain" not in inputs
        return self.weight * inputs["numeric"][:, :1]


def test_the_gradient_of_the_guess_is_reversed_and_grows() -> None:
    torch.manual_seed(0)
    made = catalogue("domain").build(Choice("adversarial", {"features": 3}), lambda _, n: Known(n), INPUTS, 1)
    rows = {"numeric": torch.rand(8, 2) + 0.1, "domain": torch.arange(8)[:, None] % 4}

    def gradients(done: float) -> tuple[torch.Tensor, torch.Tensor]:
        made.zero_grad()
        made.train()(rows)
        made.penalty(done).backward()
        return made.network.weight.grad.clone(), made.guess[0].weight.grad.clone()

    (begin, head), (middle, _), (end, same_head) = gradients(0.0), gradients(0.1), gradients(1.0)
    assert torch.equal(begin, torch.zeros(3))
    assert torch.allclose(middle / end, torch.full((3,), (2 / (1 + np.exp(-1)) - 1) / (2 / (1 + np.exp(-10)) - 1)))
    assert torch.equal(head, same_head)  # who guesses learns from the first step on
    made.train()(rows)
    before = made.penalty(1.0).item()
    made.network.weight.data -= 1e-2 * end / end.norm()  # a step downhill makes domains harder to guess
    made.train()(rows)
    assert made.penalty(1.0).item() > before


def test_rows_of_unknown_domains_are_not_guessed() -> None:
    made = catalogue("domain").build(Choice("adversarial"), lambda _, n: Known(n), INPUTS, 1).train()
    made({"numeric": torch.rand(4, 2), "domain": torch.zeros(4, 1, dtype=torch.int64)})
    assert made.penalty(1.0) == 0


def test_some_domains_are_hidden_in_training_and_none_after_it() -> None:
    seen = []

    class Watching(nn.Module):
        def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            seen.append(inputs["domain"])
            return inputs["numeric"][:, :1]

    made = catalogue("domain").build(Choice("embedding", {"hidden": 0.5}), lambda i, n: Watching(), INPUTS, 1)
    rows = {"numeric": torch.rand(400, 2), "domain": torch.full((400, 1), 2)}
    torch.manual_seed(0)
    made.train()(rows)
    made.eval()(rows)
    assert 150 < int((seen[0] == 0).sum()) < 250
    assert torch.equal(seen[1], rows["domain"])


@pytest.mark.parametrize("choice", [Choice("embedding", {"hidden": 1.0}), Choice("adversarial", {"weight": -1.0})])
def test_what_makes_no_sense_is_refused(choice: Choice) -> None:
    with pytest.raises(ConfigError):
        catalogue("domain").build(choice, lambda _, n: Known(n), INPUTS, 1)


@pytest.mark.parametrize("name", ["none", "embedding", "adversarial"])
def test_a_model_predicts_rows_of_domains_that_nobody_knows(name: str, tmp_path) -> None:
    data = dataset()
    rows = np.arange(120)
    chosen = configuration(Choice(name))
    prepared, steps = prepare(chosen, data.schema, data.features, data.target, Fold(rows[:90], rows[90:]), 0)
    assert ("domain" in prepared.inputs.blocks) is (name != "none")
    trained = fit(
        chosen, prepared, metrics.metric("log_loss", data.schema.target.task), TrainerSettings(max_epochs=3),
        seed=0, report=lambda _: False,
    )  # fmt: skip
    member = Member(steps, trained.network, chosen.network, prepared.target, domain=chosen.domain)
    Predictor(data.schema, [member]).save(tmp_path / "model")
    model = Predictor.load(tmp_path / "model")
    known = table()
    np.testing.assert_array_equal(model.predictions(known), Predictor(data.schema, [member]).predictions(known))
    elsewhere, nowhere = known.assign(place="Mars"), known.drop(columns="place")
    np.testing.assert_array_equal(model.predictions(elsewhere), model.predictions(nowhere))
    assert np.allclose(model.predictions(known), model.predictions(nowhere)) is (name != "embedding")


def test_rows_that_are_made_up_are_of_no_domain() -> None:
    frame = table()
    frame = frame[(frame["y"] == "yes") | (np.arange(len(frame)) % 4 == 0)].reset_index(drop=True)
    data = dataset(frame)
    steps = (Step("resampling", Choice("smote")),)
    found, y = Preprocessing(steps, data.schema, seed=0, domains=True).fit_resample(data.features, data.target)
    assert len(y) > len(frame)
    codes = found["domain"][:, 0]
    assert np.array_equal(codes[: len(frame)], frame["place"].astype(int) + 1)
    assert (codes[len(frame) :] == 0).all()


def test_whole_domains_are_held_out() -> None:
    data = dataset()
    made = split(data, strategy="kfold", n_folds=3, test_size=0.2, group="place")
    places = table()["place"].to_numpy()
    for fold in made.folds:
        parts = [set(places[rows]) for rows in (made.search[fold.train], made.search[fold.val], made.test)]
        assert sum(map(len, parts)) == 4
        assert len(set.union(*parts)) == 4


def test_the_column_is_read_as_a_domain_and_may_lack() -> None:
    data = dataset()
    assert data.schema.names(ColumnKind.DOMAIN) == ["place"]
    assert list(data.extra.columns) == ["place"]
    features, _ = conform(table().drop(columns="place"), data.schema)
    assert features["place"].isna().all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"domain": "y"}, "the column to predict cannot be the domain"),
        ({"domain": "site"}, "there is no column `site`"),
        ({"split_columns": ["place"]}, "the column `place` steers the split already"),
        ({"kinds": {"place": ColumnKind.CATEGORICAL}}, "the column `place` has another kind already"),
        ({"frame": table().assign(place="here")}, "there is one domain only"),
        ({"frame": table().assign(place=None)}, "every domain is missing"),
        ({"frame": table()[["place", "y"]]}, "no column is left to predict from"),
    ],
)
def test_what_cannot_be_a_domain(settings: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        dataset(**settings)


def prepared(folder, space: dict | None = None, **changes: object) -> preparation.Prepared:
    table(400).to_csv(folder / "t.csv", index=False)
    document = {
        "name": "t",
        "data": {"source": "csv", "params": {"path": "t.csv"}, "target": "y", "domain": "place"},
        "validation": {"strategy": "domain"},
    }
    if space is not None:
        SearchSpace.model_validate(space)
        (folder / "s.yaml").write_text(json.dumps(space))
        document["search_space"] = "s.yaml"
    return preparation.check(study_spec.build({**document, **changes}, where="x.yaml"), folder)


SPACE = {"version": 1, "network": ["mlp"], "optimizer": ["adamw"]}


def test_a_study_of_domains_searches_what_is_made_of_them(tmp_path) -> None:
    found = prepared(tmp_path)
    assert found.n_folds == 3  # four domains, of which one is the test
    assert [option.name for option in found.space.domain] == ["none", "adversarial", "embedding"]
    assert found.space.defaults(CATALOGUES)["domain"] == "none"
    assert prepared(tmp_path, {**SPACE, "domain": ["adversarial"]}).space.domain[0].name == "adversarial"
    with pytest.raises(ConfigError, match="the domain `adversarial` needs domains"):
        prepared(tmp_path, {**SPACE, "domain": ["adversarial"]}, **without_domain())
    with pytest.raises(ConfigError, match=r"needs `data\.domain`"):
        prepared(tmp_path, data=without_domain()["data"])


def without_domain() -> dict:
    return {"data": {"source": "csv", "params": {"path": "t.csv"}, "target": "y"}, "validation": {}}


def test_the_guess_of_domains_is_made_in_full_precision_whatever_the_network_computes_in() -> None:
    module = catalogue("domain").build(
        Choice("adversarial"), lambda inputs, n: catalogue("network").build(Choice("mlp"), inputs, n), INPUTS, 1
    )
    rows = {"numeric": torch.randn(8, 2), "domain": torch.arange(8)[:, None] % 4}
    with torch.autocast("cpu", torch.bfloat16):
        outputs = module(rows)
    assert outputs.dtype is torch.bfloat16
    penalty = module.penalty(0.5)
    penalty.backward()
    assert penalty.dtype is torch.float32
    assert module.guess[0].weight.grad.isfinite().all()
