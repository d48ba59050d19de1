"""Writing QuantizeLinear and DequantizeLinear into a graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.passes.canonicalize.edit import all_names
from optc.passes.quantize.channelwise import constant_codes
from optc.passes.quantize.layers import Layer
from optc.passes.quantize.region import Region
from optc.passes.quantize.scales import Code
from optc.passes.quantize.units import Unit

Array = NDArray[Any]


class Inserter:
    """Collects new nodes and puts them where they belong in the order of the graph."""

    def __init__(self, graph: gs.Graph, region: Region) -> None:
        self._graph = graph
        self._region = region
        self._names = all_names(graph)
        self._first: list[gs.Node] = []
        self._before: dict[int, list[gs.Node]] = {}
        self._after: dict[int, list[gs.Node]] = {}
        self._stored: dict[tuple[int, bytes], gs.Constant] = {}

    def code(self, tensor: gs.Tensor, code: Code) -> None:
        """Put a Q and a DQ on `tensor`.

        Every reader of a value that the region makes reads the DQ; a value that comes from a float node or
        from outside is read through it by the region's units only.
        """
        unit = self._region.producers.get(id(tensor))
        name = tensor.name
        scale = self._constant(f"{name}_scale", np.array(code.scale, np.float32))
        zero = self._constant(f"{name}_zero_point", np.array(code.zero_point, code.dtype))
        codes = gs.Variable(self._name(f"{name}_quantized"), code.dtype, tensor.shape)
        if unit is None:
            source, target = (
                tensor,
                gs.Variable(self._name(f"{name}_dequantized"), np.dtype(np.float32), tensor.shape),
            )
        else:
            source, target = (
                gs.Variable(self._name(f"{name}_float"), np.dtype(np.float32), tensor.shape),
                tensor,
            )
        anchor = tensor.inputs[0] if tensor.inputs else None
        if unit is None:
            self._redirect(tensor, target)
        else:
            unit.nodes[-1].outputs = [source]
        pair = [
            self._node("QuantizeLinear", [source, scale, zero], codes),
            self._node("DequantizeLinear", [codes, scale, zero], target),
        ]
        (self._first if anchor is None else self._after.setdefault(id(anchor), [])).extend(pair)

    def _redirect(self, tensor: gs.Tensor, target: gs.Variable) -> None:
        """Let the operands of the region's units that are `tensor` be `target`."""
        for unit in self._region.units:
            if any(t is tensor for t in unit.operands):
                unit.operands = [target if t is tensor else t for t in unit.operands]
                for index, read in enumerate(list(unit.head.inputs)):
                    if read is tensor:
                        unit.head.inputs[index] = target

    def layer(self, unit: Unit, layer: Layer) -> None:
        """Put the integer weight and bias of `unit`, each behind a DQ, in place of the float ones."""
        assert unit.weight is not None
        weight = self._stored_weight(unit.weight, layer)
        self._dequantize(unit.head, unit.weight, weight, layer.scale, unit.axis)
        if unit.bias is not None and layer.bias is not None:
            reader = next(n for n in unit.nodes if any(t is unit.bias for t in n.inputs))
            codes = self._constant(f"{unit.bias.name}_quantized", layer.bias)
            self._dequantize(reader, unit.bias, codes, layer.product, 0)

    def constants(self, unit: Unit, code: Code) -> None:
        """Put the constants of `unit`, as codes of the scale of `code` behind a DQ, for the floats."""
        for node, constant in unit.constants:
            codes, zero = constant_codes(node.op, constant.values, code)
            stored = self._constant(f"{constant.name}_quantized", codes)
            self._dequantize(node, constant, stored, np.asarray(code.scale), 0, zero)

    def _stored_weight(self, weight: gs.Constant, layer: Layer) -> gs.Constant:
        """The int8 weight; nodes that share a weight and quantize it alike share its integers."""
        key = (id(weight), layer.scale.tobytes())
        if key not in self._stored:
            self._stored[key] = self._constant(f"{weight.name}_quantized", layer.weight)
        return self._stored[key]

    def _dequantize(
        self, reader: gs.Node, old: gs.Tensor, codes: gs.Constant, scale: Array, axis: int, zero: int = 0
    ) -> None:
        """Let `reader` read `codes` through a DQ where it read `old`."""
        single = scale.size == 1 and (not scale.ndim or codes.values.shape[axis] != 1)
        values = scale.reshape(()) if single else scale
        zeros = np.full(values.shape, zero, codes.values.dtype)
        inputs = [
            codes,
            self._constant(f"{old.name}_scale", values),
            self._constant(f"{old.name}_zero_point", zeros),
        ]
        output = gs.Variable(
            self._name(f"{old.name}_dequantized"), np.dtype(np.float32), list(codes.values.shape)
        )
        node = self._node("DequantizeLinear", inputs, output)
        if values.ndim:
            node.attrs["axis"] = axis
        self._before.setdefault(id(reader), []).append(node)
        reader.inputs[next(i for i, t in enumerate(reader.inputs) if t is old)] = output

    def finish(self) -> None:
        """Put the new nodes into the graph, in an order that ONNX accepts."""
        nodes = list(self._first)
        for node in self._graph.nodes:
            nodes += self._before.get(id(node), [])
            nodes.append(node)
            nodes += self._after.get(id(node), [])
        self._graph.nodes = nodes

    def _constant(self, name: str, values: Array) -> gs.Constant:
        return gs.Constant(self._name(name), values)

    def _node(self, op: str, inputs: Iterable[gs.Tensor], output: gs.Variable) -> gs.Node:
        return gs.Node(op, self._name(f"{output.name}_{op}"), inputs=list(inputs), outputs=[output])

    def _name(self, wanted: str) -> str:
        """`wanted`, with a number behind it where the graph has that name."""
        name, number = wanted, 1
        while name in self._names:
            name, number = f"{wanted}_{number}", number + 1
        self._names.add(name)
        return name
