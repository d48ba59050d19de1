"""Small quantized ONNX models with scales that a test chooses: powers of two, by their exponents."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from optc.models.model import Model

Array = NDArray[Any]
Shape = tuple[int | str, ...]


@dataclass
class Qdq:
    """A model being written. A value is the name of a float tensor: codes behind a DequantizeLinear.

    `rounding`: the model's; codes are `dtype` with zero point `zero`. `start`: the exponent of the inputs.
    """

    rounding: str = "half_up"
    dtype: Any = np.int8
    zero: int = 0
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    exponents: dict[str, Array] = field(default_factory=dict)

    def constant(self, values: Any, dtype: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def input(self, shape: Shape, exponent: int = 0) -> str:
        """A graph input in codes of 2^exponent."""
        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return self.code(name, exponent)

    def code(self, value: str, exponent: int) -> str:
        """`value` through Q and DQ."""
        scale = self.constant(2.0**exponent, np.float32)
        zero = self.constant(self.zero, self.dtype)
        found = self.node(
            "DequantizeLinear", [self.node("QuantizeLinear", [value, scale, zero]), scale, zero]
        )
        self.exponents[found] = np.asarray(exponent)
        return found

    def weight(self, codes: Array, exponent: Any, axis: int = 0, dtype: Any = np.int8) -> str:
        """Constant codes behind a DQ; `exponent`: one, or one for each index of `axis`."""
        scale = self.constant(np.ldexp(1.0, np.asarray(exponent)), np.float32)
        per_axis = {"axis": axis} if np.ndim(exponent) else {}
        return self.node("DequantizeLinear", [self.constant(codes, dtype), scale], **per_axis)

    def layer(
        self,
        op: str,
        value: str,
        weight: Array,
        exponent: Any = 0,
        bias: Array | None = None,
        channels: int = 0,
        **attributes: Any,
    ) -> str:
        """Conv, Gemm or MatMul: the accumulator. `channels`: the weight's axis of output channels."""
        inputs = [value, self.weight(weight, exponent, channels)]
        if bias is not None:
            inputs.append(self.weight(bias, np.asarray(exponent) + self.exponents[value], 0, np.int32))
        return self.node(op, inputs, **attributes)

    def model(self, *outputs: str) -> Model:
        """The model with these outputs."""
        info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
        graph = helper.make_graph(self.nodes, "qdq", self.inputs, info, self.constants)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        helper.set_model_props(proto, {"optc.rounding": self.rounding})
        return Model(onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True))


def codes(rng: np.random.Generator, shape: tuple[int, ...], most: int = 127) -> Array:
    """Weights: int8 between -most and most."""
    return rng.integers(-most, most + 1, shape).astype(np.int8)


def feeds(model: Model, seed: int = 0, batch: int = 1) -> dict[str, Array]:
    """Floats that reach and pass the limits of int8 at scale 1, whole and half numbers among them."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for tensor in model.view.inputs:
        shape = [d if isinstance(d, int) else batch for d in tensor.shape or []]
        found[tensor.name] = (rng.integers(-300, 301, shape) / 2).astype(np.float32)
    return found
