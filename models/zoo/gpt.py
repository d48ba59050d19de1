"""A causal decoder after GPT-2 (Radford et al. 2019): normalization first, tied embeddings."""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from optc.models.zoo.builder import GraphBuilder, Parameters, RandomParameters
from optc.models.zoo.transformer import (
    BATCH_SEQUENCE,
    attention,
    gelu,
    layer_norm,
    leading,
    linear,
    sequence_length,
)

_PROJECTIONS = ("query", "key", "value", "output")
_EPSILON = 1e-5


@dataclass(frozen=True)
class GptSizes:
    """Sizes of a decoder; GPT-2 is 12 layers of 768, 12 heads, 50257 tokens, 1024 positions."""

    layers: int = 4
    hidden: int = 256
    heads: int = 8
    vocabulary: int = 8192
    positions: int = 256


def build_gpt_decoder(sizes: GptSizes | None = None, parameters: Parameters | None = None) -> onnx.ModelProto:
    """`input_ids` int64 [batch, sequence] -> `logits` float32 [batch, sequence, vocabulary].

    Token i sees tokens 0 to i; the sequence is at most `sizes.positions` long. ValueError where the heads
    do not divide the hidden size.
    """
    sizes = sizes or GptSizes()
    if sizes.hidden % sizes.heads:
        raise ValueError(f"{sizes.heads} heads do not divide a hidden size of {sizes.hidden}")
    b = GraphBuilder("gpt-decoder", parameters or RandomParameters())
    ids = b.input("input_ids", BATCH_SEQUENCE, TensorProto.INT64)
    length = sequence_length(b, ids)
    table = b.parameter("tokens.weight", sizes.vocabulary, sizes.hidden)
    tokens = b.node("Gather", [table, ids], "tokens", axis=0)
    places = b.parameter("positions.weight", sizes.positions, sizes.hidden)
    x = b.add(tokens, leading(b, places, length, [0], "positions"), "embeddings")
    mask = _causal_mask(b, length, sizes.positions)
    for index in range(sizes.layers):
        x = _layer(b, x, f"layer{index}", mask, sizes)
    x = layer_norm(b, x, "norm", sizes.hidden, _EPSILON)
    x = b.node("MatMul", [x, b.node("Transpose", [table], "tokens.transposed", perm=[1, 0])], "logits")
    b.output(x, (*BATCH_SEQUENCE, sizes.vocabulary))
    return b.model(
        "GPT-2-like causal decoder. Input 'input_ids': int64 [batch,sequence]. Output 'logits': float32 "
        "[batch,sequence,vocabulary]. Random weights."
    )


def _causal_mask(b: GraphBuilder, length: str, positions: int) -> str:
    """0 on and below the diagonal, a large negative number above it: [sequence, sequence]."""
    full = b.constant("mask.full", np.triu(np.full((positions, positions), -1e4, np.float32), 1))
    return leading(b, full, b.node("Concat", [length, length], "mask.lengths", axis=0), [0, 1], "mask")


def _layer(b: GraphBuilder, x: str, name: str, mask: str, sizes: GptSizes) -> str:
    y = layer_norm(b, x, f"{name}.norm1", sizes.hidden, _EPSILON)
    y = attention(b, y, f"{name}.attention", mask, sizes.hidden, sizes.heads, _PROJECTIONS)
    x = b.add(x, y, f"{name}.add1")
    y = layer_norm(b, x, f"{name}.norm2", sizes.hidden, _EPSILON)
    y = gelu(b, linear(b, y, f"{name}.inner", sizes.hidden, 4 * sizes.hidden), f"{name}.gelu")
    y = linear(b, y, f"{name}.outer", 4 * sizes.hidden, sizes.hidden)
    return b.add(x, y, f"{name}.add2")
