"""Dynamic quantization: activations become 8-bit at run time, by the range that each run shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context, Contract, Lossy
from optc.passes.canonicalize.edit import Edit, standard
from optc.passes.names import chosen_names, layer_name
from optc.passes.quantize.blocks import Grid, Scales, Type, nearest_scales, quantized
from optc.passes.quantize.scales import INT32_MAX
from optc.passes.quantize.weight_layers import (
    WeightLayer,
    check_finite,
    find_weight_layers,
)

Array = NDArray[Any]

_OLDEST_OPSET = 11
_BYTES = Type(8, symmetric=True)


@dataclass(frozen=True)
class QuantizeDynamic:
    """Let MatMul and Gemm by constant weights multiply integers: uint8 activations by int8 weights.

    A DynamicQuantizeLinear, shared by all that read the value, finds an activation's scale and zero point in
    each run; no calibration samples are needed. MatMulInteger, Cast, a Mul by the scales' product and the Add
    of the bias follow; ONNX Runtime makes one node of them. Weights are symmetric, one scale a channel
    (`per_channel`) or a tensor. `layers`, `skip`: name patterns of what is, and is not, quantized.

    Convolutions stay float: ConvInteger is slower than Conv in ONNX Runtime. On x86 CPUs without VNNI, ONNX
    Runtime's uint8 by int8 product saturates sums of two at 16 bits.

    Needs opset 11. What stays float is declined with the reason. Raises `InputError` for NaN or infinity in
    weights and for a pattern of names that matches no layer.
    """

    name: ClassVar[str] = "quantize-dynamic"
    contract: ClassVar[Contract] = Lossy("the precision beyond 8 bits of weights and activations")

    per_channel: bool = True
    layers: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def run(self, model: Model, context: Context) -> bool:
        """Quantize the products of `model`; True unless there are none (more)."""
        layers = _find(model, context)
        names = chosen_names("quantize-dynamic", [x.name for x in layers], self.layers, self.skip)
        layers = [x for x in layers if x.name in names]
        if not layers:
            return False
        if model.opset < _OLDEST_OPSET:
            raise InputError(
                f"quantize-dynamic needs opset {_OLDEST_OPSET} or later, the model has {model.opset}; "
                "run upgrade-opset first"
            )
        for layer in layers:
            check_finite(layer.weight, layer.nodes[0])
        self._write(model, context, layers)
        return True

    def _write(self, model: Model, context: Context, layers: list[WeightLayer]) -> None:
        """Replace the nodes of `layers` in graph order: the first reader of a value has it quantized."""
        writer = _Writer(Edit(model.graph, model, context, {t.name for t in model.view.outputs}))
        weights = {}
        for layer in layers:
            weights.update(dict.fromkeys(map(id, layer.nodes), writer.weight(layer, self.per_channel)))
        done = [n for n in model.view.nodes if id(n) in weights]
        for node in context.visit(done):
            writer.replace(node, *weights[id(node)])
        writer.edit.finish()
        stored = {t.name: t.values for pair in weights.values() for t in pair}
        context.facts.update(
            quantized=dict(sorted(Counter(str(n.op) for n in done).items())),
            quantizers=len(writer.codes),
            bytes_before=sum(int(x.weight.values.nbytes) for x in layers),
            bytes_after=sum(int(values.nbytes) for values in stored.values()),
        )


def _find(model: Model, context: Context) -> list[WeightLayer]:
    """The layers that have an integer form; the others are declined."""
    for node in model.view.nodes:
        if node.op in ("Conv", "ConvTranspose") and standard(node):
            context.decline(node, "integer convolutions are slower than float ones in ONNX Runtime")
    found = []
    for layer in find_weight_layers(model, ("MatMul", "Gemm"), context.decline):
        reasons = [_reason(layer, node) for node in layer.nodes]
        for node, reason in zip(layer.nodes, reasons, strict=True):
            if reason:
                context.decline(node, reason)
        layer.nodes = [n for n, reason in zip(layer.nodes, reasons, strict=True) if reason is None]
        if layer.nodes:
            found.append(layer)
    return found


def _reason(layer: WeightLayer, node: gs.Node) -> str | None:
    """Why a product has no integer form, or None."""
    if len(layer.weight.shape) != 2:
        return "it multiplies by more than one matrix"
    if layer.weight.shape[layer.summed] * 255 * 127 > INT32_MAX:
        return "its sums could overflow int32"
    if any(node.attrs.get(name, 1) != 1 for name in ("alpha", "beta")) or node.attrs.get("transA", 0):
        return "its alpha or beta is not 1, or its input is transposed"
    return None


class _Writer:
    """Replaces products; `codes`: codes, scale and zero point of each quantized value, by its id()."""

    def __init__(self, edit: Edit) -> None:
        self.edit = edit
        self.codes: dict[int, tuple[gs.Variable, gs.Variable, gs.Variable]] = {}

    def weight(self, layer: WeightLayer, per_channel: bool) -> tuple[gs.Constant, gs.Constant]:
        """The int8 weight of `layer`, [k, m], and its scales, [m] or a scalar."""
        weight, grid = layer.weight.values, Grid(layer.channel, layer.summed, None)
        scales = nearest_scales(weight, grid, _BYTES)
        if not per_channel:
            scales = Scales(np.broadcast_to(scales.scale.max(), scales.scale.shape), scales.zero)
        integers = quantized(weight, scales, grid, _BYTES).astype(np.int8)
        if layer.summed == 1:
            integers = np.ascontiguousarray(integers.T)
        name = layer.weight.name
        return (
            self.edit.new_constant(f"{name}_quantized", integers),
            self.edit.new_constant(f"{name}_scale", scales.scale if per_channel else scales.scale[0]),
        )

    def replace(self, node: gs.Node, weight: gs.Constant, scale: gs.Constant) -> None:
        """Put MatMulInteger, Cast, Mul by both scales, and the Add of a Gemm's bias, in place of `node`."""
        x, x_scale, x_zero = self._quantize(node, node.inputs[0])
        output, bias = node.outputs[0], self.edit.input(node, 2)
        base = layer_name(node)
        sums = self._variable(f"{base}_sums", np.int32)
        floats = self._variable(f"{base}_float", np.float32)
        factor = self._variable(f"{base}_scale", np.float32)
        product = output if bias is None else self._variable(f"{base}_product", np.float32)
        new = [
            self._node("MatMulInteger", [x, weight, x_zero], [sums]),
            self._node("Cast", [sums], [floats], to=np.float32),
            self._node("Mul", [x_scale, scale], [factor]),
            self._node("Mul", [floats, factor], [product]),
        ]
        if bias is not None:
            new.append(self._node("Add", [product, bias], [output]))
        self.edit.insert(node, new)
        self.edit.remove(node)

    def _quantize(self, node: gs.Node, value: gs.Tensor) -> tuple[gs.Variable, gs.Variable, gs.Variable]:
        """The codes of `value`, made in front of `node` where nothing has made them yet."""
        if id(value) not in self.codes:
            made = (
                self._variable(f"{value.name}_quantized", np.uint8, value.shape),
                self._variable(f"{value.name}_scale", np.float32, []),
                self._variable(f"{value.name}_zero_point", np.uint8, []),
            )
            self.codes[id(value)] = made
            self.edit.insert(node, [self._node("DynamicQuantizeLinear", [value], list(made))])
        return self.codes[id(value)]

    def _variable(self, name: str, dtype: type, shape: list[Any] | None = None) -> gs.Variable:
        return gs.Variable(self.edit.new_name(name), np.dtype(dtype), shape)

    def _node(self, op: str, inputs: list[gs.Tensor], outputs: list[gs.Tensor], **attrs: Any) -> gs.Node:
        return gs.Node(op, self.edit.new_name(f"{outputs[0].name}_{op}"), attrs, inputs, outputs)
