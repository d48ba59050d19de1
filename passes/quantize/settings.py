"""The settings that a layer can be quantized with, and what each makes of the layer's inputs and weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from optc.passes.quantize.layers import quantize_layer
from optc.passes.quantize.plan import check_finite, layer_source
from optc.passes.quantize.scales import Code, activation_code, bounded
from optc.passes.quantize.units import Unit

Array = NDArray[Any]

_INT4_MAX = 7


@dataclass(frozen=True)
class Setting:
    """How the inputs and the weight of a layer are coded.

    `activations`: the type of the inputs' codes, None where they stay float. `weights`: int8 as in
    docs/semantics.md, or int4, whose codes lie within -7 and 7. A weight has one scale an output channel
    (`per_channel`), or one in all; int4 weights one for each `block` of those that make an output channel.
    """

    activations: Literal["uint8", "int8", "int16"] | None
    weights: Literal["int8", "int4"] = "int8"
    per_channel: bool = True
    pow2: bool = False
    block: int | None = None

    def touches(self, unit: Unit) -> bool:
        """Whether the setting rounds anything of `unit`: a product of activations has no weight."""
        return self.activations is not None or unit.weight is not None

    def code(self, low: float, high: float) -> Code | None:
        """The code of an input seen in [low, high]."""
        if self.activations is None:
            return None
        return activation_code(low, high, np.dtype(self.activations), self.pow2)

    def weight(self, unit: Unit, code: Code | None) -> Array:
        """The weight of `unit`, float32, as its codes say it; `code`: of the input.

        Raises `InputError` for a weight or bias with NaN or infinity.
        """
        assert unit.weight is not None
        if self.weights == "int4":
            check_finite(unit)
            return in_blocks(unit.weight.values, unit.axis, self.block)
        assert code is not None
        layer = quantize_layer(layer_source(unit, code, None), self.per_channel, self.pow2)
        shape = [1] * layer.weight.ndim
        shape[unit.axis] = layer.scale.size
        return np.asarray(layer.weight.astype(np.float32) * layer.scale.reshape(shape))


SETTINGS = {
    "int8": Setting("uint8"),
    "int8 per tensor": Setting("uint8", per_channel=False),
    "int8 pow2": Setting("int8", per_channel=False, pow2=True),
    "int16": Setting("int16"),
    "int4 weights": Setting(None, weights="int4", block=32),
}
"""The candidates: int8 as `quantize` does by itself, int8 pow2 as VTA takes it; int16 has int8 weights."""


def in_blocks(weight: Array, axis: int, block: int | None) -> Array:
    """`weight` rounded to 4 bits: codes from -7 to 7 times a float32 scale, max|w| / 7, a block.

    A block is `block` weights on end of those that make one channel of `axis`, or all of them.
    """
    moved = np.moveaxis(weight, axis, 0)
    if not moved.size:
        return np.zeros(weight.shape, np.float32)
    rows = moved.reshape(moved.shape[0], -1)
    size = min(block or rows.shape[1], rows.shape[1])
    blocks = np.pad(rows, ((0, 0), (0, -rows.shape[1] % size))).reshape(rows.shape[0], -1, size)
    scale = bounded(np.abs(blocks).max(axis=2, keepdims=True).astype(np.float64) / _INT4_MAX)
    codes = np.clip(np.rint(blocks / scale), -_INT4_MAX, _INT4_MAX)
    flat = (codes * scale).reshape(rows.shape[0], -1)[:, : rows.shape[1]]
    return np.ascontiguousarray(np.moveaxis(flat.reshape(moved.shape), 0, axis), np.float32)
