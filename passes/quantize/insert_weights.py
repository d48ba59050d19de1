"""Integer weights behind a DequantizeLinear, in place of float ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.passes.canonicalize.edit import Edit
from optc.passes.quantize.blocks import Grid, Scales, Type, nearest_scales, quantized
from optc.passes.quantize.weight_layers import WeightLayer

Array = NDArray[Any]


@dataclass(frozen=True)
class Stored:
    """The constants that a DequantizeLinear reads; `zero`: None where symmetric."""

    grid: Grid
    type: Type
    codes: gs.Constant
    scale: gs.Constant
    zero: gs.Constant | None

    def set(self, codes: Array, scales: Scales) -> None:
        """Replace the values by others of the same shapes."""
        self.codes.values = codes.astype(self.type.dtype)
        self.scale.values = scales.scale
        if self.zero is not None:
            self.zero.values = scales.zero.astype(self.type.dtype)


def weight_grid(layer: WeightLayer, block: int | None) -> Grid:
    """Which weights share a scale; those of a channel where `block` is None or more than are summed."""
    fits = block is not None and block <= layer.weight.shape[layer.summed]
    return Grid(layer.channel, layer.summed, block if fits else None)


def insert_weight(edit: Edit, layer: WeightLayer, type: Type, block: int | None) -> Stored:
    """Let the nodes of `layer` read the nearest integers through a DequantizeLinear; what it reads.

    A transposed weight of a Gemm is stored untransposed.
    """
    weight, grid = layer.weight.values, weight_grid(layer, block)
    if layer.nodes[0].op == "Gemm" and layer.nodes[0].attrs.get("transB", 0):
        weight, grid = np.ascontiguousarray(weight.T), Grid(layer.summed, layer.channel, grid.block)
        for node in layer.nodes:
            node.attrs = {**node.attrs, "transB": 0}
    scales = nearest_scales(weight, grid, type)
    codes = quantized(weight, scales, grid, type)
    stored = _constants(edit, layer.weight.name, grid, type, codes, scales)
    output = _dequantize(edit, layer, stored)
    for node in layer.nodes:
        edit.set_input(node, 1, output)
    return stored


def _constants(edit: Edit, name: str, grid: Grid, type: Type, codes: Array, scales: Scales) -> Stored:
    zero = None
    if not type.symmetric:
        zero = edit.new_constant(f"{name}_zero_point", scales.zero.astype(type.dtype))
    return Stored(
        grid,
        type,
        edit.new_constant(f"{name}_quantized", codes.astype(type.dtype)),
        edit.new_constant(f"{name}_scale", scales.scale),
        zero,
    )


def _dequantize(edit: Edit, layer: WeightLayer, stored: Stored) -> gs.Variable:
    """The DequantizeLinear of `stored`, in front of the layer's first node; its output."""
    name = edit.new_name(f"{layer.weight.name}_dequantized")
    output = gs.Variable(name, np.dtype(np.float32), list(stored.codes.values.shape))
    grid = stored.grid
    attrs = {"axis": grid.channel}
    if grid.block is not None:
        attrs = {"axis": grid.summed, "block_size": grid.block}
    inputs = [t for t in (stored.codes, stored.scale, stored.zero) if t is not None]
    node = gs.Node("DequantizeLinear", edit.new_name(f"{name}_DequantizeLinear"), attrs, inputs, [output])
    edit.insert(layer.nodes[0], [node])
    return output
