"""What the encoder and the decoder share (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762)."""

from collections.abc import Sequence
from math import sqrt

import numpy as np

from optc.models.zoo.builder import GraphBuilder

BATCH_SEQUENCE = ("batch", "sequence")


def linear(b: GraphBuilder, x: str, name: str, inputs: int, outputs: int) -> str:
    """x @ kernel + bias over the last axis; the kernel is [inputs, outputs]."""
    product = b.node("MatMul", [x, b.parameter(f"{name}.kernel", inputs, outputs)], f"{name}.matmul")
    return b.add(product, b.parameter(f"{name}.bias", outputs), name)


def layer_norm(b: GraphBuilder, x: str, name: str, hidden: int, epsilon: float) -> str:
    """LayerNormalization over the last axis."""
    inputs = [x, b.parameter(f"{name}.gamma", hidden), b.parameter(f"{name}.beta", hidden)]
    return b.node("LayerNormalization", inputs, name, axis=-1, epsilon=epsilon)


def gelu(b: GraphBuilder, x: str, name: str) -> str:
    """x * (1 + erf(x / sqrt 2)) / 2 in the nodes that exporters write (https://arxiv.org/abs/1606.08415)."""
    erf = b.node("Erf", [b.node("Div", [x, _scalar(b, sqrt(2.0))], f"{name}.div")], f"{name}.erf")
    twice = b.node("Mul", [x, b.add(erf, _scalar(b, 1.0), f"{name}.add")], f"{name}.mul")
    return b.node("Mul", [twice, _scalar(b, 0.5)], name)


def attention(
    b: GraphBuilder, x: str, name: str, mask: str, hidden: int, heads: int, projections: Sequence[str]
) -> str:
    """Multi-head self-attention of [batch, sequence, hidden]; `mask` is added to the scores.

    `projections` names query, key, value and output; `mask` broadcasts to [batch, heads, sequence, sequence].
    """
    width = hidden // heads
    split = b.constant("split_heads", np.array([0, 0, heads, width], np.int64))
    parts = []
    for part, order in zip(projections[:3], ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True):
        y = linear(b, x, f"{name}.{part}", hidden, hidden)
        y = b.node("Reshape", [y, split], f"{name}.{part}.split")
        parts.append(b.node("Transpose", [y], f"{name}.{part}.heads", perm=order))
    query, key, value = parts
    scores = b.node("MatMul", [query, key], f"{name}.scores")
    scores = b.node("Mul", [scores, _scalar(b, 1.0 / sqrt(width))], f"{name}.scaled")
    weights = b.node("Softmax", [b.add(scores, mask, f"{name}.masked")], f"{name}.weights", axis=-1)
    context = b.node("MatMul", [weights, value], f"{name}.context")
    context = b.node("Transpose", [context], f"{name}.context.transposed", perm=[0, 2, 1, 3])
    merge = b.constant("merge_heads", np.array([0, 0, hidden], np.int64))
    context = b.node("Reshape", [context, merge], f"{name}.context.merged")
    return linear(b, context, f"{name}.{projections[3]}", hidden, hidden)


def sequence_length(b: GraphBuilder, ids: str) -> str:
    """The length of [batch, sequence] as an int64 tensor of one element."""
    shape = b.node("Shape", [ids], "ids.shape")
    return b.node(
        "Gather", [shape, b.constant("one_index", np.array([1], np.int64))], "sequence_length", axis=0
    )


def leading(b: GraphBuilder, x: str, lengths: str, axes: Sequence[int], name: str) -> str:
    """The first `lengths` rows of x along each of `axes`."""
    starts = b.constant(f"{name}.starts", np.zeros(len(axes), np.int64))
    return b.node("Slice", [x, starts, lengths, b.constant(f"{name}.axes", np.array(axes, np.int64))], name)


def _scalar(b: GraphBuilder, value: float) -> str:
    return b.constant(f"scalar_{value:.6g}", np.float32(value))
