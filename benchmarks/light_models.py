"""The nine `light_*` models of the onnx wheel with random weights in place of their constant ones."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod, sqrt
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper


def light_models() -> Iterator[tuple[str, Path]]:
    """Name and path of each."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    for path in sorted(folder.glob("light_*.onnx")):
        yield path.stem, path


def with_random_weights(path: Path, seed: int) -> onnx.ModelProto:
    """The model with every ConstantOfShape of a constant replaced by seeded random values, as an initializer.

    Weights are normal with deviation sqrt(2 / fan in); variances of BatchNormalization lie in [0.5, 1.5].
    Initializers are no inputs.
    """
    model = onnx.load(path)
    rng = np.random.default_rng(seed)
    graph = model.graph
    shapes = {t.name: tuple(numpy_helper.to_array(t).tolist()) for t in graph.initializer}
    variances = {n.input[4] for n in graph.node if n.op_type == "BatchNormalization"}
    kept = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in shapes:
            kept.append(node)
            continue
        shape = tuple(int(d) for d in shapes[node.input[0]])
        if node.output[0] in variances:
            values = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        else:
            values = rng.standard_normal(shape, np.float32) * np.float32(sqrt(2 / max(1, prod(shape[1:]))))
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
    used = {name for node in kept for name in node.input}
    weights = [t for t in graph.initializer if t.name in used]
    inputs = [i for i in graph.input if i.name not in {t.name for t in weights} and i.name in used]
    model.graph.CopyFrom(onnx.helper.make_graph(kept, graph.name, inputs, list(graph.output), weights))
    model.ir_version = max(model.ir_version, 8)
    return model
