"""Network over blocks of several kinds: an encoder for each, and one of three ways to bring them together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from automl.networks._encoded import Encoders, MakeEncoder
from automl.networks._steps import TOKEN_SIZE
from automl.networks.bag_of_words import WordBag
from automl.networks.cnn import ConvolutionalEncoder
from automl.networks.inception_time import InceptionEncoder
from automl.networks.recurrent import RecurrentEncoder
from automl.networks.residual_cnn import ResidualEncoder
from automl.networks.temporal_cnn import TemporalEncoder
from automl.networks.transformer import TransformerEncoder

if TYPE_CHECKING:
    from automl.values import BlockSpec, InputSpec

TAKES = ("image", "sequence", "tokens")

ImageEncoder = Literal["cnn", "residual_cnn"]
SequenceEncoder = Literal["temporal_cnn", "inception_time", "recurrent", "transformer"]
TextEncoder = Literal["bag_of_words", "temporal_cnn", "recurrent", "transformer"]
Fusion = Literal["concatenation", "gated", "attention"]

#: Codes that pairs of neighbouring words fall into.
N_PAIRS = 2**15


class Mixture(nn.Module):
    """One vector a block, all of one width; what is made of them; and the outputs.

    Args:
        encoders: Of the blocks.
        n_outputs: Number of logits or values per row.
        width, fusion, dropout: As of `mixture`.
    """

    def __init__(self, encoders: Encoders, n_outputs: int, *, width: int, fusion: Fusion, dropout: float) -> None:
        super().__init__()
        n_blocks = len(encoders.widths)
        self.encoders = encoders
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Linear(n_in, width), nn.LayerNorm(width), nn.GELU(), nn.Dropout(dropout))
            for n_in in encoders.widths
        )
        self.gate = nn.Linear(n_blocks * width, n_blocks) if fusion == "gated" and n_blocks > 1 else None
        self.attention = None
        if fusion == "attention" and n_blocks > 1:
            self.kinds = nn.Parameter(0.02 * torch.randn(n_blocks, width))
            self.attention = nn.TransformerEncoderLayer(
                width, 4, 2 * width, dropout, "gelu", batch_first=True, norm_first=True
            )
        self.output = nn.Linear(n_blocks * width if fusion == "concatenation" else width, n_outputs)
        self._fusion = fusion

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Returns (batch, n_outputs)."""
        found = [project(vector) for project, vector in zip(self.projections, self.encoders(inputs), strict=True)]
        vectors = torch.stack(found, dim=1)  # (batch, blocks, width)
        if self._fusion == "concatenation":
            fused = vectors.flatten(1)
        elif self.gate is not None:
            fused = (self.gate(vectors.flatten(1)).softmax(1)[..., None] * vectors).sum(1)
        else:
            fused = (vectors if self.attention is None else self.attention(vectors + self.kinds)).mean(1)
        outputs: Tensor = self.output(fused)
        return outputs


def mixture(
    inputs: InputSpec,
    n_outputs: int,
    *,
    image_encoder: ImageEncoder = "cnn",
    sequence_encoder: SequenceEncoder = "temporal_cnn",
    text_encoder: TextEncoder = "bag_of_words",
    fusion: Fusion = "concatenation",
    depth: int = 2,
    encoder_width: int = 32,
    width: int = 64,
    dropout: float = 0.2,
    embedding_size: int = 32,
) -> nn.Module:
    """Returns a network over images, sequences, texts and the columns of a table, with an encoder for each.

    The vectors of all blocks are brought to one width and put side by side, weighted by gates that see all of them
    (Arevalo et al. 2017, arXiv 1702.01992), or told about each other by attention; then the outputs. The network maps a
    dictionary of blocks to (batch, n_outputs); it cannot train on a batch of one row.

    Args:
        inputs: What the blocks hold; at least one image, sequence or text.
        n_outputs: Number of logits or values per row.
        image_encoder: What turns images into vectors, as the network of this name does.
        sequence_encoder: The same of sequences.
        text_encoder: The same of texts.
        fusion: How vectors are brought together.
        depth: Stages, blocks or layers of each encoder.
        encoder_width: Channels or units of each encoder, of the first stage for images.
        width: Of the vector of a block; a multiple of 4.
        dropout: Share of the values that are dropped in encoders, and of the vectors.
        embedding_size: The largest width of a categorical column's embedding.

    Raises:
        ValueError: There is no image, sequence or text, no stage, or a width that attention cannot divide.
    """
    if depth < 1 or width % 4 or encoder_width % 4:
        raise ValueError(
            f"needs a stage and widths that are multiples of 4, however: `depth` is {depth}, the widths are "
            f"{width} and {encoder_width}"
        )

    def image(block: BlockSpec) -> nn.Module:
        if image_encoder == "residual_cnn":
            return ResidualEncoder(block.shape, stages=depth, blocks=1, width=encoder_width, dropout=0.0)
        return ConvolutionalEncoder(
            block.shape, depth=depth, width=encoder_width, kernel=3, pooling="max", activation="relu", dropout=0.0
        )

    def steps(name: str) -> MakeEncoder:
        def make(block: BlockSpec) -> nn.Module:
            if name == "bag_of_words":
                return WordBag(block, width=encoder_width, n_pairs=N_PAIRS, dropout=dropout)
            if name == "inception_time":
                return InceptionEncoder(
                    block, depth=depth, width=max(4, encoder_width // 4), longest=20, dropout=dropout
                )
            if name == "recurrent":
                return RecurrentEncoder(
                    block,
                    cell="lstm",
                    layers=1,
                    width=encoder_width,
                    bidirectional=True,
                    dropout=dropout,
                    summary="pooled",
                    token_size=TOKEN_SIZE,
                )
            if name == "transformer":
                return TransformerEncoder(
                    block, layers=depth, width=encoder_width, heads=4, patch=4, dropout=dropout, token_size=TOKEN_SIZE
                )
            return TemporalEncoder(
                block,
                depth=depth,
                width=encoder_width,
                kernel=3,
                activation="relu",
                dropout=dropout,
                token_size=TOKEN_SIZE,
            )

        return make

    makers = {"image": image, "sequence": steps(sequence_encoder), "tokens": steps(text_encoder)}
    return Mixture(Encoders(inputs, makers, embedding_size), n_outputs, width=width, fusion=fusion, dropout=dropout)
