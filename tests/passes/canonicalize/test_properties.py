"""Random small graphs: outputs stay equal, a second run changes nothing, names of inputs and outputs stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optc.passes.canonicalize.canonicalize import Canonicalize

Value = tuple[str, tuple[int, ...]]


class Builder:
    """Appends random nodes, each of which reads values made before."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.values: list[Value] = [("x", (2, 3, 4))]
        self.constants: list[Value] = []

    def new(self, op: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> None:
        name = f"v{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(op, inputs, [name], **attributes))
        self.values.append((name, shape))

    def constant(self, array: Any) -> str:
        """A new constant, or an old one of the same shape: weights may be shared."""
        same = [name for name, shape in self.constants if shape == array.shape]
        if array.dtype == np.float32 and same and self.draw(st.booleans()):
            return str(same[0])
        name = f"c{len(self.weights)}"
        self.weights.append(onnx.numpy_helper.from_array(array, name))
        if array.dtype == np.float32:
            self.constants.append((name, array.shape))
        return name

    def floats(self, *shape: int) -> str:
        kind = self.draw(st.sampled_from(["random", "random", "zeros", "ones"]))
        values = {"zeros": np.zeros, "ones": np.ones}.get(kind, self.rng.standard_normal)(shape)
        return self.constant(np.asarray(values).astype(np.float32))

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def pick(self) -> Value:
        return self.draw(st.sampled_from(self.values[-4:]))  # type: ignore[no-any-return]

    def step(self) -> None:
        kinds = [
            self.unary,
            self.arithmetic,
            self.view,
            self.transpose,
            self.linear,
            self.norm,
            self.join,
            self.shape,
        ]
        self.draw(st.sampled_from(kinds))()

    def unary(self) -> None:
        name, shape = self.pick()
        self.new(
            self.draw(st.sampled_from(["Relu", "Identity", "Neg", "Abs", "Dropout", "Sum"])), [name], shape
        )

    def arithmetic(self) -> None:
        name, shape = self.pick()
        op = self.draw(st.sampled_from(["Add", "Mul", "Sub"]))
        per_axis = tuple(d if i == 1 else 1 for i, d in enumerate(shape)) if len(shape) > 1 else shape
        other = self.floats(*self.draw(st.sampled_from([(), shape, per_axis, per_axis[1:]])))
        inputs = [name, other] if self.draw(st.booleans()) else [other, name]
        self.new(op, inputs, shape)

    def view(self) -> None:
        name, shape = self.pick()
        kind = self.draw(st.sampled_from(["Reshape", "Flatten", "Unsqueeze", "Squeeze"]))
        if kind == "Unsqueeze" and len(shape) < 4:
            self.new(kind, [name, self.integers(1)], (shape[0], 1, *shape[1:]))
        elif kind == "Squeeze" and len(shape) > 1 and shape[1] == 1:
            self.new(kind, [name, self.integers(1)], (shape[0], *shape[2:]))
        elif kind == "Flatten":
            self.new(kind, [name], (shape[0], int(np.prod(shape[1:]))))
        else:
            target = self.draw(st.sampled_from([(2, 3, 4), (6, 4), (2, 12), (3, 2, 2, 2)]))
            if np.prod(target) == np.prod(shape):
                self.new("Reshape", [name, self.integers(*target)], target)

    def transpose(self) -> None:
        name, shape = self.pick()
        perm = self.draw(st.permutations(range(len(shape))))
        self.new("Transpose", [name], tuple(shape[p] for p in perm), perm=list(perm))

    def linear(self) -> None:
        name, shape = self.pick()
        out = self.draw(st.integers(1, 3))
        if len(shape) == 3 and self.draw(st.booleans()):
            self.new("Conv", [name, self.floats(out, shape[1], 1)], (shape[0], out, shape[2]))
        elif len(shape) >= 2:
            self.new("MatMul", [name, self.floats(shape[-1], out)], (*shape[:-1], out))

    def norm(self) -> None:
        name, shape = self.pick()
        if len(shape) >= 2:
            variance = self.constant(np.abs(self.rng.standard_normal(shape[1])).astype(np.float32) + 1)
            others = [self.floats(shape[1]) for _ in range(3)]
            self.new("BatchNormalization", [name, *others, variance], shape)

    def join(self) -> None:
        (a, shape), (b, other) = self.pick(), self.pick()
        if shape == other:
            self.new(self.draw(st.sampled_from(["Add", "Mul", "Sum"])), [a, b], shape)

    def shape(self) -> None:
        """Reshape to a value's own shape, by way of Shape."""
        name, shape = self.pick()
        self.nodes.append(onnx.helper.make_node("Shape", [name], [f"s{len(self.nodes)}"]))
        self.new("Reshape", [name, self.nodes[-1].output[0]], shape)


@st.composite
def models(draw: Any) -> onnx.ModelProto:
    builder = Builder(draw)
    for _ in range(draw(st.integers(1, 10))):
        builder.step()
    made = [v for v in builder.values if v[0] != "x"] or [("x", (2, 3, 4))]
    outputs = draw(st.lists(st.sampled_from(made), min_size=1, max_size=2, unique=True))
    if made[0][0] == "x":
        builder.new("Neg", ["x"], (2, 3, 4))
        outputs = [builder.values[-1]]
    free = draw(st.booleans())
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        builder.nodes,
        "g",
        [info("x", onnx.TensorProto.FLOAT, (2, 3, "N" if free else 4))],
        [info(name, onnx.TensorProto.FLOAT, [None] * len(shape)) for name, shape in outputs],
        builder.weights,
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(proto=models())
def test_random_graphs(check: Any, proto: onnx.ModelProto) -> None:
    before = onnx.ModelProto()
    before.CopyFrom(proto)
    result = check.run(Canonicalize(), proto)
    assert [i.name for i in result.graph.input] == [i.name for i in before.graph.input]
    assert [o.name for o in result.graph.output] == [o.name for o in before.graph.output]
    assert len(result.graph.node) <= len(before.graph.node)
    onnx.checker.check_model(result, full_check=True)
