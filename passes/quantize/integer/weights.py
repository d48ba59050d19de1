"""The integer weights and the biases of a quantized layer, as the model stores them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.passes.quantize.integer.facts import Facts, Scales, is_quantizer
from optc.passes.quantize.reference import quantize
from optc.passes.quantize.scales import Code

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Weight:
    """`values`: int8, zero points taken off; `scale`: float32 [] or [c]; `nodes`: the DQ, and a Q before."""

    values: Array
    scale: Array
    nodes: list[gs.Node]


@dataclass(frozen=True, eq=False)
class Bias:
    """`values`: int32 of the accumulator's scale, or float32; [1] or [c]; `nodes`: the DQ, if any."""

    values: Array
    nodes: list[gs.Node]


@dataclass(frozen=True, eq=False)
class Stored:
    """Constant codes, their scales, and the DQ that makes floats of them, maybe behind a Q."""

    codes: Array
    scales: Scales
    nodes: list[gs.Node]


def read_weight(tensor: gs.Tensor, axis: int, facts: Facts) -> Weight | str:
    """The weight that `tensor` stands for, its channels along `axis`; a reason where it has no int8 form."""
    stored = stored_codes(tensor, facts)
    if isinstance(stored, str):
        return stored
    scale, zero = stored.scales.scale, stored.scales.zero
    if stored.codes.dtype not in (np.int8, np.uint8):
        return f"its weight is {stored.codes.dtype}, not int8 or uint8"
    rank = stored.codes.ndim
    if scale.size == 1 and zero.size == 1:
        scale, zero = scale.reshape(()), zero.reshape(())
    elif scale.shape != (stored.codes.shape[axis],) or stored.scales.axis % rank != axis:
        return "the scales of its weight are not one for each output channel"
    else:
        zero = zero.reshape([-1 if a == axis else 1 for a in range(rank)])
    values = stored.codes.astype(np.int16) - zero
    if values.size and (values.min() < -128 or values.max() > 127):
        return "its weight less its zero point does not fit int8"
    return Weight(values.astype(np.int8), scale, stored.nodes)


def read_bias(tensor: gs.Tensor, product: Array, facts: Facts) -> Bias | str:
    """The bias that `tensor` stands for: int32 where its scale is `product` ([] or [c]), else float32."""
    floats = facts.constant(tensor)
    if floats is not None:
        return _float_bias(floats, [])
    stored = stored_codes(tensor, facts)
    if isinstance(stored, str):
        return "its bias is not a constant"
    codes, scale, zero = stored.codes, stored.scales.scale, stored.scales.zero
    if codes.ndim > 1 and scale.size > 1:
        return "its bias has a scale a channel, but more than one dimension"
    same = scale.size == 1 or scale.size == codes.size
    if same and codes.dtype == np.int32 and not zero.any() and _equal(scale, product, codes.size):
        return Bias(codes.reshape(-1), stored.nodes)
    return _float_bias((codes.astype(np.int64) - zero).astype(np.float32) * scale, stored.nodes)


def _equal(scale: Array, product: Array, size: int) -> bool:
    """Whether two scales, [] or one a channel, are the same for a bias of `size` entries."""
    wanted = np.broadcast_to(product.reshape(-1), (max(size, product.size),))
    return scale.size in (1, wanted.size) and bool(np.all(scale.reshape(-1) == wanted))


def _float_bias(values: Array, nodes: list[gs.Node]) -> Bias | str:
    if values.dtype != np.float32 or not np.isfinite(values).all():
        return "its bias is not finite float32"
    return Bias(values.reshape(-1), nodes)


def stored_codes(tensor: gs.Tensor, facts: Facts) -> Stored | str:
    """The constant codes behind a DQ: stored, or made by a Q from a float constant."""
    node = tensor.inputs[0] if tensor.inputs else None
    if node is None or not is_quantizer(node, "DequantizeLinear"):
        return "its weight is float"
    if node.attrs.get("block_size", 0):
        return "its weight is quantized in blocks"
    scales = facts.scales(node)
    if isinstance(scales, str):
        return scales
    codes = facts.constant(node.inputs[0])
    if codes is not None:
        return Stored(codes, scales, [node])
    source = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
    if source is None or not is_quantizer(source, "QuantizeLinear"):
        return "its weight is computed at run time"
    made = _quantized(source, facts)
    return made if isinstance(made, str) else Stored(made, scales, [source, node])


def _quantized(node: gs.Node, facts: Facts) -> Array | str:
    """The codes that a Q makes of a float constant."""
    values, scales = facts.constant(node.inputs[0]), facts.scales(node)
    if values is None or values.dtype != np.float32:
        return "its weight is computed at run time"
    if isinstance(scales, str):
        return scales
    if scales.zero.dtype not in (np.int8, np.uint8):
        return f"its weight is {scales.zero.dtype}, not int8 or uint8"
    if scales.scale.size == 1:
        code = Code(np.float32(scales.scale.reshape(())), int(scales.zero.reshape(-1)[0]), scales.zero.dtype)
        return quantize(values, code, facts.rounding)
    axis = scales.axis % values.ndim
    if scales.scale.shape != (values.shape[axis],) or node.attrs.get("block_size", 0):
        return "its weight is quantized in blocks"
    parts = [
        quantize(part, Code(s, int(z), scales.zero.dtype), facts.rounding)
        for part, s, z in zip(np.moveaxis(values, axis, 0), scales.scale, scales.zero, strict=True)
    ]
    return np.moveaxis(np.stack(parts), 0, axis)
