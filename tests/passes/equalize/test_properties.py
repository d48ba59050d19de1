"""Random networks of convolutions, sums, joins and pools: outputs stay, ranges meet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from optc.models.data import Samples
from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.equalize.balance import Balance
from optc.passes.equalize.equalize import Equalize
from optc.passes.equalize.groups import find_groups

SIZES = (1, 2, 4)


class Network:
    """Grows node by node; `values`: name and channels of what is [1, channels, 6]."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self.values = [("x", 4)]

    def step(self, kind: str, at: int, size: int) -> None:
        name, channels = self.values[at % len(self.values)]
        same = [n for n, c in self.values if c == channels]
        other = same[size % len(same)]
        if kind == "Conv":
            self._add(kind, [name, self._scaled(size, channels, 1), self._scaled(size)], size)
        elif kind == "ConvTranspose":
            self._add(kind, [name, self._scaled(channels, size, 1)], size)
        elif kind == "grouped":
            self._add("Conv", [name, self._scaled(channels, 1, 3)], channels, group=channels, pads=[1, 1])
        elif kind in ("Add", "Max", "Sub"):
            self._add(kind, [name, other], channels)
        elif kind == "shift":
            self._add("Add", [name, self._scaled(channels, 1)], channels)
        elif kind == "factor":
            self._add("Mul", [name, self._scaled(channels, 1)], channels)
        elif kind == "Concat":
            self._add(kind, [name, other], 2 * channels, axis=1)
        elif kind == "slice":
            ends = [
                numpy_helper.from_array(np.array([v]), self._name()) for v in (channels // 2, channels, 1)
            ]
            self._constants += ends
            self._add("Slice", [name, *(t.name for t in ends)], channels - channels // 2)
        elif kind == "pool":
            self._add("MaxPool", [name], channels, kernel_shape=[3], pads=[1, 1])
        else:
            self._add(kind, [name], channels)

    def finish(self) -> onnx.ModelProto:
        """A dense layer behind the last value, which is the output; others that nobody reads are dropped."""
        name, channels = self.values[-1]
        self._nodes.append(helper.make_node("Flatten", [name], ["flat"]))
        self._nodes.append(helper.make_node("MatMul", ["flat", self._scaled(channels * 6, 3)], ["y"]))
        io = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, shape)
            for n, shape in (("x", [1, 4, 6]), ("y", [1, 3]))
        ]
        graph = helper.make_graph(self._nodes, "g", io[:1], io[1:], self._constants)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        return onnx.shape_inference.infer_shapes(proto)

    def _add(self, op: str, inputs: list[str], channels: int, **attributes: Any) -> None:
        name = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.values.append((name, channels))

    def _scaled(self, *shape: int) -> str:
        """A constant whose first axis has ranges from 0.1 to 10, here and there 0; or one in use already."""
        old = [t.name for t in self._constants if tuple(t.dims) == shape and t.data_type == TensorProto.FLOAT]
        if old and self._rng.random() < 0.3:
            return old[0]
        ranges = 10 ** self._rng.uniform(-1, 1, (shape[0], *[1] * (len(shape) - 1)))
        ranges[self._rng.random(ranges.shape) < 0.1] = 0
        values = (self._rng.standard_normal(shape) * ranges).astype(np.float32)
        self._constants.append(numpy_helper.from_array(values, self._name()))
        return self._constants[-1].name

    def _name(self) -> str:
        return f"c{len(self._constants)}_{self._rng.integers(1 << 30)}"


KINDS = [
    "Conv", "Conv", "ConvTranspose", "grouped", "Add", "Max", "Sub", "shift", "factor", "Concat", "slice",
    "pool", "Relu", "LeakyRelu", "Sigmoid",
]  # fmt: skip
STEPS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 20), st.sampled_from(SIZES)), min_size=3, max_size=14
)


def network(steps: list[tuple[str, int, int]], seed: int) -> onnx.ModelProto:
    made = Network(seed)
    for kind, at, size in steps:
        made.step(kind, len(made.values) - 1 - at // 8, size)
    return made.finish()


EVERY = list(HealthCheck)


@settings(max_examples=100, deadline=None, suppress_health_check=EVERY, derandomize=True)
@given(STEPS, st.integers(0, 1000))
def test_outputs_stay(check: Any, steps: list[tuple[str, int, int]], seed: int) -> None:
    check.run(Equalize(), network(steps, seed))


@settings(max_examples=50, deadline=None, suppress_health_check=EVERY, derandomize=True)
@given(STEPS, st.integers(0, 1000))
def test_smooth_outputs_stay(
    check: Any, tmp_path: Path, steps: list[tuple[str, int, int]], seed: int
) -> None:
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(seed).standard_normal((5, 4, 6)).astype(np.float32))
    data, p = Samples(tmp_path / "x.npz"), Equalize(method="smooth")
    proto = network(steps, seed)
    model = Model(proto)
    p.run(model, Context(calibration=data))
    after = model.to_proto()
    check.equal_outputs(proto, after)
    assert not p.run(Model(after), Context(calibration=data))


@settings(max_examples=50, deadline=None, suppress_health_check=EVERY, derandomize=True)
@given(STEPS, st.integers(0, 1000))
def test_ranges_meet(steps: list[tuple[str, int, int]], seed: int) -> None:
    """Afterwards the ratio of the two ranges is the same for all channels of a group, but for lost ones."""
    model = Model(network(steps, seed))
    if not Equalize().run(model, Context()):
        return
    balance = Balance(find_groups(model, lambda s: s.weight, False, lambda *_: None))
    for group in balance.groups:
        made, read = balance.ranges(group)
        alive = (made > 0) & (read > 0)
        ratios = np.log(made[alive] / read[alive])
        assert not alive.any() or np.abs(ratios - np.median(ratios)).max() < 0.05
