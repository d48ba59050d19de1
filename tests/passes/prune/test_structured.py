"""Channels that go: the smaller model computes what the whole one does with the readers' weights at zero."""

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from optc.models.model import Model
from optc.models.session import Session
from optc.models.source import open_source
from optc.passes.base import Context
from optc.passes.pipeline import Pipeline
from optc.passes.prune.structured.families import find_channels
from optc.passes.prune.structured.shrink import shrink
from optc.passes.registry import parse_passes
from optc.passes.verify.inputs import generate_runnable

Array = NDArray[Any]


def inferred(proto: onnx.ModelProto) -> Model:
    return Model(onnx.shape_inference.infer_shapes(proto, data_prop=True))


def removed_atoms(model: Model, rng: np.random.Generator) -> tuple[Any, NDArray[np.bool_]]:
    """Random channels of random families, never all of one."""
    channels = find_channels(model, 1, lambda node, reason: None)
    gone: list[int] = []
    for family in channels.families:
        count = int(rng.integers(0, family.components.size))
        gone += rng.choice(family.components, count, replace=False).tolist()
    return channels, np.isin(channels.components, np.asarray(gone, np.int64))


def zeroed(model: Model, channels: Any, removed: NDArray[np.bool_]) -> Model:
    """A copy of `model` whose weights are 0 where they read a channel that goes."""
    copy = model.copy()
    nodes = list(copy.graph.nodes)
    order = {id(node): i for i, node in enumerate(model.view.nodes)}
    for slot in channels.slots:
        if slot.out or not removed[slot.atoms].any():
            continue
        node = nodes[order[id(slot.place.node)]]
        values = node.inputs[slot.place.index].values.copy()
        np.moveaxis(values, slot.axis, 0)[removed[slot.atoms]] = 0
        node.inputs[slot.place.index] = gs.Constant(f"{node.outputs[0].name}_zeroed", values)
    return copy


def check_shrinks(model: Model, seed: int) -> bool:
    """Whether anything went; asserts that what is left computes the same as the whole with zeroed readers."""
    feeds = generate_runnable(model, Session(model), seed)
    channels, removed = removed_atoms(model, np.random.default_rng(seed))
    expected = Session(zeroed(model, channels, removed)).run(feeds)
    shrink(model, channels.axes, removed)
    proto = model.to_proto()
    onnx.checker.check_model(proto, full_check=True)
    found = Session(Model(proto)).run(feeds)
    for name, values in expected.items():
        scale = float(np.abs(values).max()) or 1.0
        np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=2e-5 * scale, err_msg=name)
    return bool(removed.any())


class Drawn:
    """A random convolutional graph over the operators that channels are followed through."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.values: list[tuple[str, int]] = []  # of shape [2, channels, 6, 6]

    def constant(self, values: Array) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(onnx.numpy_helper.from_array(values, name))
        return name

    def normal(self, *shape: int) -> str:
        return self.constant(self.rng.standard_normal(shape).astype(np.float32) / 2)

    def add(self, op: str, inputs: list[str], channels: int, **attributes: Any) -> None:
        name = f"v{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(op, inputs, [name], name, **attributes))
        self.values.append((name, channels))

    def pick(self) -> tuple[str, int]:
        return self.values[int(self.rng.integers(max(0, len(self.values) - 4), len(self.values)))]

    def conv(self) -> None:
        (name, count), out = self.pick(), int(self.rng.integers(2, 9))
        pads = [1, 1, 1, 1]
        self.add("Conv", [name, self.normal(out, count, 3, 3), self.normal(out)], out, pads=pads)

    def depthwise(self) -> None:
        name, count = self.pick()
        more = int(self.rng.integers(1, 3))
        inputs = [name, self.normal(count * more, 1, 3, 3)]
        self.add("Conv", inputs, count * more, pads=[1, 1, 1, 1], group=count)

    def grouped(self) -> None:
        name, count = self.pick()
        if count % 2 == 0:
            self.add("Conv", [name, self.normal(6, count // 2, 1, 1)], 6, group=2)

    def transposed(self) -> None:
        (name, count), out = self.pick(), int(self.rng.integers(2, 6))
        self.add("ConvTranspose", [name, self.normal(count, out, 3, 3)], out, pads=[1, 1, 1, 1])

    def unary(self) -> None:
        name, count = self.pick()
        self.add(str(self.rng.choice(["Relu", "Sigmoid", "Tanh"])), [name], count)

    def prelu(self) -> None:
        name, count = self.pick()
        self.add("PRelu", [name, self.normal(count, 1, 1)], count)

    def norm(self) -> None:
        name, count = self.pick()
        variance = self.constant(self.rng.uniform(0.5, 2, count).astype(np.float32))
        inputs = [name, self.normal(count), self.normal(count), self.normal(count), variance]
        self.add("BatchNormalization", inputs, count)

    def sum(self) -> None:
        name, count = self.pick()
        same = [v for v in self.values if v[1] == count]
        self.add("Add", [name, same[int(self.rng.integers(len(same)))][0]], count)

    def scale(self) -> None:
        """Squeeze and excitation: means, a layer, and a product."""
        name, count = self.pick()
        self.add("GlobalAveragePool", [name], count)
        self.nodes.append(
            onnx.helper.make_node(
                "Conv", [self.values.pop()[0], self.normal(count, count, 1, 1)], [f"s{name}{len(self.nodes)}"]
            )
        )
        self.add("Mul", [name, self.nodes[-1].output[0]], count)

    def concat(self) -> None:
        (a, m), (b, n) = self.pick(), self.pick()
        self.add("Concat", [a, b], m + n, axis=1)

    def slice(self) -> None:
        name, count = self.pick()
        start = int(self.rng.integers(0, count))
        end = int(self.rng.integers(start + 1, count + 1))
        bounds = [self.constant(np.array([v], np.int64)) for v in (start - count, end, 1)]
        self.add("Slice", [name, *bounds], end - start)

    def split(self) -> None:
        name, count = self.pick()
        first = int(self.rng.integers(1, max(count, 2)))
        if first < count:
            sizes = self.constant(np.array([first, count - first], np.int64))
            names = [f"p{len(self.nodes)}a", f"p{len(self.nodes)}b"]
            self.nodes.append(onnx.helper.make_node("Split", [name, sizes], names, axis=1))
            self.values += [(names[0], first), (names[1], count - first)]

    def gather(self) -> None:
        name, count = self.pick()
        order = self.rng.permutation(count).astype(np.int64)
        self.add("Gather", [name, self.constant(order)], count, axis=1)

    def shuffle(self) -> None:
        """Transposed to the end and back."""
        name, count = self.pick()
        self.nodes.append(
            onnx.helper.make_node("Transpose", [name], [f"t{len(self.nodes)}"], perm=[0, 2, 3, 1])
        )
        self.add("Transpose", [self.nodes[-1].output[0]], count, perm=[0, 3, 1, 2])

    def finish(self) -> onnx.ModelProto:
        name, count = self.pick()
        if self.rng.random() < 0.5:
            shape = self.constant(np.array([2, -1], np.int64))
            self.nodes.append(onnx.helper.make_node("Reshape", [name, shape], ["flat"]))
        else:
            self.nodes.append(onnx.helper.make_node("Flatten", [name], ["flat"]))
        self.nodes.append(
            onnx.helper.make_node("Gemm", ["flat", self.normal(count * 36, 3), self.normal(3)], ["y"])
        )
        ends = [
            onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s)
            for n, s in (("x", [2, 3, 6, 6]), ("y", [2, 3]))
        ]
        graph = onnx.helper.make_graph(self.nodes, "g", ends[:1], ends[1:], self.weights)
        return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)


STEPS = [
    "conv",
    "depthwise",
    "grouped",
    "transposed",
    "unary",
    "prelu",
    "norm",
    "sum",
    "scale",
    "concat",
    "slice",
    "split",
    "gather",
    "shuffle",
]


def draw(seed: int, steps: list[str]) -> onnx.ModelProto:
    drawn = Drawn(seed)
    drawn.values.append(("x", 3))
    drawn.conv()
    for step in steps:
        getattr(drawn, step)()
    return drawn.finish()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.sampled_from(STEPS), max_size=14))
def test_drawn_graphs(seed: int, steps: list[str]) -> None:
    check_shrinks(inferred(draw(seed, steps)), seed)


NETWORKS = (
    "fashion-resnet",
    "mobilenet-v2",
    "inception",
    "unet",
    "resnet18-v2",
    "bert-encoder",
    "gpt-decoder",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_the_zoo(name: str) -> None:
    model = open_source(f"zoo:{name}").model
    Pipeline(parse_passes("canonicalize")).run(model, Context())
    assert check_shrinks(model, 0)
