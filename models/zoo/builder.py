"""A small ONNX graph builder that every network of the zoo is written with."""

from collections.abc import Callable, Mapping, Sequence
from math import prod, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
Shape = Sequence[int | str]

OPSET = 21
IR_VERSION = 10
BATCH = "N"


class RandomParameters:
    """Seeded parameters that keep a signal alive through a deep network.

    Weights are He normal (He et al. 2015, https://arxiv.org/abs/1502.01852): standard deviation
    `gain * sqrt(2 / fan_in)`. BatchNormalization gets statistics that are not the trivial ones, so that
    folding it changes numbers.
    """

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)

    def __call__(self, name: str, shape: tuple[int, ...], gain: float = 1.0) -> Array:
        """A float32 array of `shape`; what it holds follows from the last part of `name`."""
        kind = name.rsplit(".", 1)[-1]
        if kind in ("gamma", "running_var"):
            return (gain * self._rng.uniform(0.6, 1.4, shape)).astype(np.float32)
        if kind in ("beta", "bias", "running_mean"):
            return (0.1 * self._rng.standard_normal(shape)).astype(np.float32)
        fan_in = shape[0] if kind == "kernel" else prod(shape[1:])  # of [in, out], of [out, in, ...]
        deviation = gain * sqrt(2.0 / fan_in)
        return (deviation * self._rng.standard_normal(shape, dtype=np.float32)).astype(np.float32)


class GivenParameters:
    """Trained parameters by name; `used` records which of them the network took."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays
        self.used: set[str] = set()

    def __call__(self, name: str, shape: tuple[int, ...], gain: float = 1.0) -> Array:
        """The array called `name`; ValueError where it is absent or of another shape."""
        if name not in self._arrays:
            raise ValueError(f"parameter {name} is missing")
        array = np.ascontiguousarray(self._arrays[name], dtype=np.float32)
        if array.shape != shape:
            raise ValueError(f"parameter {name} has shape {array.shape}, the network wants {shape}")
        self.used.add(name)
        return array

    def unused(self) -> list[str]:
        """Names that the network did not ask for."""
        return sorted(set(self._arrays) - self.used)


Parameters = Callable[[str, tuple[int, ...], float], Array]


class GraphBuilder:
    """Appends nodes to a graph; values are their names, and their channel counts are remembered."""

    def __init__(self, name: str, parameters: Parameters) -> None:
        self._name = name
        self._parameters = parameters
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._channels: dict[str, int] = {}

    def input(self, name: str, shape: Shape, dtype: int = TensorProto.FLOAT) -> str:
        """Declare a graph input; axis 1 is taken as its channels."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        if len(shape) > 1 and isinstance(shape[1], int):
            self._channels[name] = shape[1]
        return name

    def output(self, value: str, shape: Shape, dtype: int = TensorProto.FLOAT) -> None:
        """Declare `value` a graph output."""
        self._outputs.append(helper.make_tensor_value_info(value, dtype, list(shape)))

    def channels(self, value: str) -> int:
        """Channels (axis 1) of a value that conv, batch_norm or an input made."""
        return self._channels[value]

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        """An initializer with the given contents; a numpy scalar has no axes."""
        self._initializers[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def parameter(self, name: str, *shape: int, gain: float = 1.0) -> str:
        """An initializer whose contents come from the builder's parameters; made once a name."""
        if name not in self._initializers:
            self.constant(name, self._parameters(name, shape, gain))
        return name

    def node(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Append a node with one output, which carries the node's name; keeps the channels of input 0."""
        self._nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        if inputs and inputs[0] in self._channels:
            self._channels[name] = self._channels[inputs[0]]
        return name

    def conv(
        self,
        x: str,
        name: str,
        out: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        pad: int | None = None,
        gain: float = 1.0,
        **attributes: Any,
    ) -> str:
        """A square 2-D convolution; `pad` on all sides, by default `kernel // 2`."""
        shape = (out, self._channels[x] // groups, kernel, kernel)
        inputs = [x, self.parameter(f"{name}.weight", *shape, gain=gain)]
        if bias:
            inputs.append(self.parameter(f"{name}.bias", out))
        if "auto_pad" not in attributes:
            attributes["pads"] = [kernel // 2 if pad is None else pad] * 4
        sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "group": groups}
        y = self.node("Conv", inputs, name, **sizes, **attributes)
        self._channels[y] = out
        return y

    def conv_transpose(self, x: str, name: str, out: int, factor: int) -> str:
        """A transposed convolution with bias whose kernel and stride are `factor`: it enlarges by that."""
        weight = self.parameter(f"{name}.weight", self._channels[x], out, factor, factor)
        inputs = [x, weight, self.parameter(f"{name}.bias", out)]
        y = self.node("ConvTranspose", inputs, name, kernel_shape=[factor] * 2, strides=[factor] * 2)
        self._channels[y] = out
        return y

    def batch_norm(self, x: str, name: str, *, epsilon: float = 1e-5, gain: float = 1.0) -> str:
        """BatchNormalization in inference form, left for the passes to fold."""
        c = self._channels[x]
        gamma = self.parameter(f"{name}.gamma", c, gain=gain)
        others = [self.parameter(f"{name}.{kind}", c) for kind in ("beta", "running_mean", "running_var")]
        return self.node("BatchNormalization", [x, gamma, *others], name, epsilon=epsilon)

    def relu(self, x: str, name: str) -> str:
        """max(x, 0)."""
        return self.node("Relu", [x], name)

    def pool(
        self, op: str, x: str, name: str, kernel: int, stride: int, pad: int = 0, **attributes: Any
    ) -> str:
        """A square MaxPool or AveragePool."""
        sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        return self.node(op, [x], name, **sizes, **attributes)

    def add(self, a: str, b: str, name: str) -> str:
        """a + b."""
        return self.node("Add", [a, b], name)

    def concat(self, values: Sequence[str], name: str) -> str:
        """Concatenation along the channels."""
        y = self.node("Concat", values, name, axis=1)
        self._channels[y] = sum(self._channels[value] for value in values)
        return y

    def classifier(self, x: str, name: str, classes: int) -> str:
        """GlobalAveragePool, Flatten, Gemm: [N, C, H, W] -> [N, classes]."""
        c = self._channels[x]
        pooled = self.node("GlobalAveragePool", [x], "pool")
        flat = self.node("Flatten", [pooled], "flatten", axis=1)
        weight = self.parameter(f"{name}.weight", classes, c)
        return self.node("Gemm", [flat, weight, self.parameter(f"{name}.bias", classes)], "logits", transB=1)

    def model(self, description: str, metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
        """The finished model; onnx.checker.ValidationError where it is not a valid one."""
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, list(self._initializers.values())
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="optc",
            doc_string=description,
        )
        helper.set_model_props(model, dict(metadata or {}))
        onnx.checker.check_model(model)
        return model
