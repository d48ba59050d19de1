"""Random small graphs: the result is valid, no Cast reads a Cast, it runs, and it is near or was declined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from optc.models.data import Samples
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Context
from optc.passes.convert_floats.convert_floats import ConvertFloats

SHAPE = (2, 4)


class Builder:
    """Appends random nodes; each reads values made before and makes one of the same shape."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.values = ["x"]

    def new(self, op: str, *inputs: str, keep: bool = True, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        if keep:
            self.values.append(name)
        return name

    def constant(self, values: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(values), f"c{len(self.weights)}"))
        return self.weights[-1].name

    def pick(self) -> str:
        return str(self.draw(st.sampled_from(self.values[-4:])))

    def step(self) -> None:
        kinds = [self.layer, self.layer, self.unary, self.scaled, self.shifted, self.join, self.casts]
        self.draw(st.sampled_from([*kinds, self.reduced, self.chosen, self.views]))()

    def layer(self) -> None:
        self.new("MatMul", self.pick(), self.constant(self.rng.standard_normal((4, 4)).astype(np.float32)))

    def unary(self) -> None:
        ops = ["Relu", "Sigmoid", "Tanh", "Neg", "Softmax", "Softplus", "Identity", "Abs"]
        self.new(self.draw(st.sampled_from(ops)), self.pick())

    def scaled(self) -> None:
        size = self.draw(st.sampled_from([1e-9, 1e-3, 1.0, 40.0, 1e5]))
        self.new("Mul", self.pick(), self.constant(np.float32(size)))

    def shifted(self) -> None:
        self.new("Add", self.pick(), self.constant(self.rng.standard_normal(4).astype(np.float32)))

    def join(self) -> None:
        self.new(self.draw(st.sampled_from(["Add", "Max"])), self.pick(), self.pick())

    def casts(self) -> None:
        kind = self.draw(st.sampled_from([TensorProto.DOUBLE, TensorProto.FLOAT16]))
        self.new("Cast", self.new("Cast", self.pick(), keep=False, to=kind), to=TensorProto.FLOAT)

    def reduced(self) -> None:
        value = self.pick()
        op = self.draw(st.sampled_from(["ReduceMean", "ReduceMax", "ReduceL2"]))
        axes = self.constant(np.array([1]))
        self.new("Add", value, self.new(op, value, axes, keep=False, keepdims=1))

    def chosen(self) -> None:
        value, shape = self.pick(), self.constant(np.array(SHAPE))
        zero = helper.make_tensor("", TensorProto.FLOAT, [1], [self.draw(st.sampled_from([0.0, 1.0]))])
        fill = self.new("ConstantOfShape", shape, keep=False, value=zero)
        self.new("Where", self.new("Less", value, fill, keep=False), fill, value)

    def views(self) -> None:
        turned = self.new("Transpose", self.pick(), keep=False, perm=[1, 0])
        self.new("Reshape", turned, self.constant(np.array(SHAPE)))


@st.composite
def models(draw: Any) -> onnx.ModelProto:
    builder = Builder(draw)
    for _ in range(draw(st.integers(1, 9))):
        builder.step()
    ends = draw(st.lists(st.sampled_from(builder.values[1:]), min_size=1, max_size=2, unique=True))
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, SHAPE) for n in ["x", *ends]]
    graph = helper.make_graph(builder.nodes, "g", values[:1], values[1:], builder.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def check(proto: onnx.ModelProto, before: onnx.ModelProto, small: int) -> None:
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    assert chains(proto, small) <= chains(before, small), onnx.printer.to_text(before) + onnx.printer.to_text(
        proto
    )


def chains(proto: onnx.ModelProto, small: int) -> int:
    """How many Casts between float32 and the `small` type read another of them."""
    kinds = {TensorProto.FLOAT, small}
    casts = {n.output[0] for n in proto.graph.node if n.op_type == "Cast" and n.attribute[0].i in kinds}
    return sum(n.output[0] in casts and n.input[0] in casts for n in proto.graph.node)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("samples") / "x.npz"
    np.savez(path, x=np.random.default_rng(1).standard_normal((2, 4)).astype(np.float32))
    return path


NEAR = {"float16": 2e-2, "bfloat16": 2e-1}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    proto=models(),
    to=st.sampled_from(["float16", "bfloat16"]),
    ends=st.sampled_from(["float32", "converted"]),
)
def test_random_graphs(samples: Path, proto: onnx.ModelProto, to: Any, ends: Any) -> None:
    model, context = Model(proto), Context(calibration=Samples(samples))
    before = model.to_proto()
    x = np.load(samples)["x"]
    wanted = Session(Model(before)).run({"x": x})
    changed = ConvertFloats(to=to, ends=ends).run(model, context)
    after = model.to_proto()
    check(after, before, getattr(TensorProto, to.upper()))
    assert changed or (context.declined or not before.graph.node) or after == before
    if ends == "float32":
        assert not ConvertFloats(to=to).run(Model(after), context), "a second run changed more"
        assert [v.type for v in after.graph.output] == [v.type for v in before.graph.output]
        found = Session(Model(after)).run({"x": x})
        for name, values in wanted.items():
            allowed = NEAR[to] * np.abs(values).max()
            np.testing.assert_allclose(found[name], values, atol=allowed, rtol=0)
    else:
        kinds = {v.type.tensor_type.elem_type for v in (*after.graph.input, *after.graph.output)}
        assert kinds <= {TensorProto.FLOAT, getattr(TensorProto, to.upper())}
        Session(Model(after))
