"""What the built-in networks do beyond the contract of every network, which `tests/contracts/` checks."""

import itertools

import pytest
import torch

from automl import plugins
from automl.components import catalogue
from automl.networks.mlp import mlp
from automl.networks.residual_mlp import residual_mlp
from automl.values import BlockSpec, InputSpec

torch.set_num_threads(1)
plugins.load_builtin()

NUMERIC = BlockSpec("numeric", (4,))
CATEGORICAL = BlockSpec("categorical", (3,), (2, 5, 300))
INPUTS = {
    "numeric": InputSpec({"numeric": NUMERIC}),
    "categorical": InputSpec({"categorical": CATEGORICAL}),
    "both": InputSpec({"numeric": NUMERIC, "categorical": CATEGORICAL}),
}
#: The first of a network's kinds says which of these it is given; columns, if it has none.
STRUCTURED_INPUTS = {
    "image": [InputSpec({"image": BlockSpec("image", (1, 8, 8))})],
    "sequence": [
        InputSpec({"sequence": BlockSpec("sequence", (2, 16))}),
        InputSpec({"sequence": BlockSpec("sequence", (2, 5), masked=True), "numeric": NUMERIC}),
    ],
    "tokens": [InputSpec({"tokens": BlockSpec("tokens", (9,), (40,)), "categorical": CATEGORICAL})],
}
#: What makes a network small.
SMALL = {
    "gandalf": {"stages": 2, "head_width": 16},
    "ft_transformer": {"width": 16, "heads": 2},
    "tabm": {"width": 32, "members": 3},
    "cnn": {"width": 8, "head_width": 32},
    "residual_cnn": {"width": 8, "stages": 2},
    "random_convolutions": {"n_features": 100},
    "inception_time": {"width": 8, "depth": 3},
    "bag_of_words": {"n_pairs": 100, "word_dropout": 0.0},
    "mixture": {"encoder_width": 8, "width": 16},
    "pretrained_backbone": {"width": 4, "side": 16, "backbone_rate": 1.0},
}
NETWORKS = {name: catalogue("network")[name] for name in catalogue("network").names()}
NAMES = list(NETWORKS)
OF_COLUMNS = [name for name, network in NETWORKS.items() if not network.traits]


def inputs_of(name):
    kinds = [kind for kind in STRUCTURED_INPUTS if kind in NETWORKS[name].traits]
    found = [inputs for kind in kinds for inputs in STRUCTURED_INPUTS[kind]]
    if len(kinds) == len(STRUCTURED_INPUTS):  # what brings them together is given all at once, too
        found.append(InputSpec({name: block for inputs in found for name, block in inputs.blocks.items()}))
    return found or list(INPUTS.values())


def build(name, inputs, n_outputs, **params):
    return NETWORKS[name].factory(inputs, n_outputs, **SMALL.get(name, {"width": 32}) | params)


def without_dropout(name):
    return {param: 0.0 for param in NETWORKS[name].hyperparameters if param.endswith("dropout")}


def batch(inputs, n_rows):
    blocks = {}
    for name, block in inputs.blocks.items():
        if not block.cardinalities:
            blocks[name] = torch.randn(n_rows, *block.shape)
        elif block.kind == "tokens":
            blocks[name] = torch.randint(1, block.cardinalities[0], (n_rows, *block.shape))
        else:
            blocks[name] = torch.stack([torch.randint(n, (n_rows,)) for n in block.cardinalities], dim=1)
    return blocks


def groups(network, lr):
    """Returns what an optimizer that honours the parameters' own learning rates is given."""
    return [{"params": [p], "lr": lr * getattr(p, "lr_factor", 1.0)} for p in network.parameters()]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_learns_32_rows_by_heart(name):
    inputs = inputs_of(name)[-1]
    network = build(name, inputs, 2, **without_dropout(name))
    rows, y = batch(inputs, 32), torch.randint(2, (32,))
    optimizer = torch.optim.Adam(groups(network, 1e-2))
    for _ in range(80):
        optimizer.zero_grad()
        outputs = network(rows)
        outputs = outputs if outputs.ndim == 3 else outputs[:, None]  # (rows, members, 2)
        members = outputs.shape[1]
        loss = torch.nn.functional.cross_entropy(outputs.flatten(0, 1), y.repeat_interleave(members))
        loss.backward()
        optimizer.step()
    assert loss < 0.1


CHOICES = [
    (name, parameter.name, choice)
    for name in NAMES
    for parameter in NETWORKS[name].hyperparameters.values()
    for choice in parameter.choices
]


@pytest.mark.parametrize(("name", "parameter", "choice"), CHOICES)
def test_every_choice_can_be_trained_on_any_columns(name, parameter, choice):
    for inputs in inputs_of(name):
        network = build(name, inputs, 3, **{parameter: choice})
        outputs = network(batch(inputs, 6))
        outputs.square().sum().backward()
        assert outputs.shape[0] == 6
        assert outputs.shape[-1] == 3
        assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("blocks", [{}, {"sound": BlockSpec("sound", (1, 8))}], ids=["none", "unknown"])
def test_says_what_inputs_it_cannot_take(name, blocks):
    with pytest.raises(ValueError, match="however"):
        build(name, InputSpec(blocks), 1)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OF_COLUMNS])
def test_columns_alone_are_nothing_for_what_reads_images_sequences_or_texts(name):
    with pytest.raises(ValueError, match="needs a block that is"):
        build(name, INPUTS["both"], 1)


@pytest.mark.parametrize("name", OF_COLUMNS)
def test_a_table_of_one_column_is_learned_from(name):
    inputs = InputSpec({"numeric": BlockSpec("numeric", (1,))})
    network = build(name, inputs, 1).eval()
    low, high = (network({"numeric": torch.full((1, 1), value)}) for value in (-1.0, 1.0))
    assert not torch.allclose(low, high)


WRONG = {
    "tabm": [{"depth": 0}, {"members": 0}, {"numeric_size": 0}],
    "ft_transformer": [{"depth": 0}, {"max_tokens": 0}, {"heads": 0}, {"heads": 3}],
    "realmlp": [{"numeric_size": 1}],
    "gandalf": [{"sparsity": 1.0}, {"sparsity": -0.1}],
    "denoising_mlp": [{"depth": 0}, {"noise": 0.0}, {"noise": 1.0}],
    "wide_and_deep": [{"factors": 0}, {"shrinkage": -1.0}],
    "cnn": [{"depth": 0}, {"kernel": 2}],
    "residual_cnn": [{"stages": 0}, {"blocks": 0}],
    "temporal_cnn": [{"depth": 0}, {"kernel": 4}],
    "inception_time": [{"depth": 0}],
    "transformer": [{"width": 30, "heads": 4}, {"patch": 0}],
    "mixture": [{"depth": 0}, {"width": 30}, {"encoder_width": 6}],
    "pretrained_backbone": [{"width": 0}, {"side": -1}, {"backbone_rate": -0.1}],
}


@pytest.mark.parametrize(("name", "params"), [(name, params) for name, all_ in WRONG.items() for params in all_])
def test_says_what_hyperparameters_it_cannot_take(name, params):
    with pytest.raises(ValueError, match="however"):
        build(name, inputs_of(name)[0], 1, **params)


@pytest.mark.parametrize("factory", [mlp, residual_mlp])
def test_an_unknown_code_is_neutral_until_it_is_learned(factory):
    network = factory(INPUTS["categorical"], 1)
    embeddings = [module for module in network.modules() if isinstance(module, torch.nn.Embedding)]
    assert [layer.num_embeddings for layer in embeddings] == [2, 5, 300]
    assert all((layer.weight[0] == 0).all() and layer.weight[0].requires_grad for layer in embeddings)


@pytest.mark.parametrize("factory", [mlp, residual_mlp])
def test_embeddings_grow_with_the_cardinality_up_to_the_cap(factory):
    network = factory(INPUTS["categorical"], 1, embedding_size=16)
    sizes = [module.embedding_dim for module in network.modules() if isinstance(module, torch.nn.Embedding)]
    assert sizes == [2, 4, 16]


@pytest.mark.parametrize(("name", "mix"), list(itertools.product(["mlp", "residual_mlp"], INPUTS)))
def test_the_weights_of_earlier_models_still_fit(name, mix):
    """Without numeric embeddings no weight has another name than before there were any."""
    names = build(name, INPUTS[mix], 1).state_dict()
    assert not any("numbers" in name for name in names)
    assert all(f"inputs.embeddings.categorical.{i}.weight" in names for i in range(3) if mix != "numeric")
