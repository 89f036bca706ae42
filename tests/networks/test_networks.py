"""What the built-in networks do beyond the contract of every network, which `tests/contracts/` checks."""

import pytest
import torch

from automl.networks.mlp import mlp
from automl.networks.residual_mlp import residual_mlp
from automl.values import BlockSpec, InputSpec

torch.set_num_threads(1)

NUMERIC = BlockSpec("numeric", (4,))
CATEGORICAL = BlockSpec("categorical", (3,), (2, 5, 300))
INPUTS = {
    "numeric": InputSpec({"numeric": NUMERIC}),
    "categorical": InputSpec({"categorical": CATEGORICAL}),
    "both": InputSpec({"numeric": NUMERIC, "categorical": CATEGORICAL}),
}
NETWORKS = [mlp, residual_mlp]

pytestmark = pytest.mark.parametrize("factory", NETWORKS)


def batch(inputs, n_rows):
    blocks = {}
    for name, block in inputs.blocks.items():
        if block.kind == "numeric":
            blocks[name] = torch.randn(n_rows, *block.shape)
        else:
            blocks[name] = torch.stack([torch.randint(n, (n_rows,)) for n in block.cardinalities], dim=1)
    return blocks


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_learns_32_rows_by_heart(factory):
    network = factory(INPUTS["both"], 2, width=64, dropout=0.0)
    rows, y = batch(INPUTS["both"], 32), torch.randint(2, (32,))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(rows), y)
        loss.backward()
        optimizer.step()
    assert loss < 0.01


def test_an_unknown_code_is_neutral_until_it_is_learned(factory):
    network = factory(INPUTS["categorical"], 1)
    embeddings = [module for module in network.modules() if isinstance(module, torch.nn.Embedding)]
    assert [layer.num_embeddings for layer in embeddings] == [2, 5, 300]
    assert all((layer.weight[0] == 0).all() and layer.weight[0].requires_grad for layer in embeddings)


def test_embeddings_grow_with_the_cardinality_up_to_the_cap(factory):
    network = factory(INPUTS["categorical"], 1, embedding_size=16)
    sizes = [module.embedding_dim for module in network.modules() if isinstance(module, torch.nn.Embedding)]
    assert sizes == [2, 4, 16]


@pytest.mark.parametrize("blocks", [{}, {"photo": BlockSpec("image", (1, 8, 8))}], ids=["none", "image"])
def test_says_what_inputs_it_cannot_take(factory, blocks):
    with pytest.raises(ValueError, match="however"):
        factory(InputSpec(blocks), 1)
