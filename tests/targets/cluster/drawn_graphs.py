"""Drawn networks for partitioning: many branches, several outputs; and ways to run what was split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from optc.models.model import Model
from optc.models.session import Session
from optc.passes.partition.assignment import Assignment
from optc.passes.partition.cluster import Cluster, Device, Link
from optc.passes.partition.sharding.layout import Sharding
from optc.targets.cluster.local import LocalEngine
from optc.targets.cluster.split import split

Arrays = dict[str, NDArray[Any]]
CHANNELS, SIZE = 6, 8


@st.composite
def networks(draw: st.DrawFn) -> onnx.ModelProto:
    """Convolutions, sums, concatenations and pools of [1, 6, 8, 8]; one to three outputs."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    nodes, weights, values = [], [], ["image"]
    for i in range(draw(st.integers(2, 9))):
        kind = draw(st.sampled_from(["conv1", "conv3", "relu", "add", "concat", "pool", "mean"]))
        a, b = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        name = f"v{i}"
        if kind in ("conv1", "conv3"):
            k = int(kind[-1])
            w = rng.normal(size=(CHANNELS, CHANNELS, k, k)).astype(np.float32) / (k * k)
            weights += [numpy_helper.from_array(w, f"w{i}")]
            weights += [numpy_helper.from_array(rng.normal(size=CHANNELS).astype(np.float32), f"b{i}")]
            nodes.append(helper.make_node("Conv", [a, f"w{i}", f"b{i}"], [name], pads=[k // 2] * 4))
        elif kind == "relu":
            nodes.append(helper.make_node("Relu", [a], [name]))
        elif kind == "add":
            nodes.append(helper.make_node("Add", [a, b], [name]))
        elif kind == "pool":
            nodes.append(helper.make_node("MaxPool", [a], [name], kernel_shape=[3, 3], pads=[1] * 4))
        elif kind == "mean":
            nodes.append(helper.make_node("GlobalAveragePool", [a], [f"{name}.mean"]))
            nodes.append(helper.make_node("Mul", [b, f"{name}.mean"], [name]))
        else:
            w = rng.normal(size=(CHANNELS, 2 * CHANNELS, 1, 1)).astype(np.float32) / 4
            weights += [numpy_helper.from_array(w, f"w{i}")]
            nodes.append(helper.make_node("Concat", [a, b], [f"{name}.both"], axis=1))
            nodes.append(helper.make_node("Conv", [f"{name}.both", f"w{i}"], [name]))
        values.append(name)
    ends = draw(st.lists(st.sampled_from(values[1:]), min_size=0, max_size=2, unique=True))
    ends = list(dict.fromkeys([*ends, values[-1]]))
    shape = [1, CHANNELS, SIZE, SIZE]
    graph = helper.make_graph(
        nodes,
        "drawn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ends],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def cluster(count: int, latency: float = 1e-7, memory: int = 2**40) -> Cluster:
    """Slow equal devices with fast links, so that sharing work pays."""
    devices = tuple(Device(f"d{i}", 1e9, 1e9, memory) for i in range(count))
    pairs = [(a.name, b.name) for i, a in enumerate(devices) for b in devices[i + 1 :]]
    return Cluster("test", devices, dict.fromkeys(pairs, Link(latency, 1e12)))


@dataclass(frozen=True)
class OnnxRuntime:
    """A part in ONNX Runtime, graph optimizations off."""

    session: Session

    def run(self, feeds: Mapping[str, Any]) -> Arrays:
        return self.session.run(feeds)


def run_split(model: Model, assignment: Assignment, feeds: Arrays) -> Arrays:
    """The outputs of all parts together, each of which is checked as a model of its own."""
    program, models = split(model, assignment, {})
    for part in models.values():
        onnx.checker.check_model(part.to_proto(), full_check=True)
    return LocalEngine(program, {n: OnnxRuntime(Session(m, threads=1)) for n, m in models.items()}).run_one(
        feeds
    )


def in_stages(stage: Mapping[str, int]) -> Assignment:
    """One device a stage."""
    return Assignment(1, stage, Sharding(1, {}))


def feeds_of(model: Model, seed: int = 0) -> Arrays:
    """Normal numbers for every float input of fixed shape."""
    rng = np.random.default_rng(seed)
    return {t.name: rng.normal(size=t.shape).astype(np.float32) for t in model.view.inputs}
