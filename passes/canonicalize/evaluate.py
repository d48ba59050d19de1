"""Running constant nodes in ONNX Runtime, so that a folded value is what the node would have given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.export import element_type, node_proto
from optc.models.model import Model

Values = dict[str, NDArray[Any]]


def evaluate(model: Model, graph: gs.Graph, nodes: Sequence[gs.Node], wanted: Sequence[str]) -> Values:
    """The values of `wanted` (names of tensors that `nodes`, in order, compute from constants alone).

    Runs all nodes at once; where ONNX Runtime refuses, one by one, and what it cannot run is left out.
    """
    try:
        return _run(model, graph, nodes, _feeds(nodes), wanted)
    except Exception:  # ONNX Runtime's errors share no base class
        return _one_by_one(model, graph, nodes, wanted)


def _one_by_one(model: Model, graph: gs.Graph, nodes: Sequence[gs.Node], wanted: Sequence[str]) -> Values:
    known: Values = {}
    for node in nodes:
        feeds = {}
        for tensor in node.inputs:
            if isinstance(tensor, gs.Constant):
                feeds[tensor.name] = tensor.values
            elif tensor.name in known:
                feeds[tensor.name] = known[tensor.name]
        try:
            known |= _run(model, graph, [node], feeds, [t.name for t in node.outputs if t.name])
        except Exception:  # this node has no kernel, or its inputs are wrong: it stays
            continue
    return {name: known[name] for name in wanted if name in known}


def _feeds(nodes: Sequence[gs.Node]) -> Values:
    return {t.name: t.values for node in nodes for t in node.inputs if isinstance(t, gs.Constant)}


def _run(
    model: Model, graph: gs.Graph, nodes: Sequence[gs.Node], feeds: Values, wanted: Sequence[str]
) -> Values:
    import onnxruntime as ort

    helper = onnx.helper
    protos = [node_proto(node, graph, lambda tensor: tensor) for node in nodes]
    inputs = [helper.make_tensor_value_info(n, element_type(v.dtype), v.shape) for n, v in feeds.items()]
    outputs = [onnx.ValueInfoProto(name=name) for name in wanted]
    proto = helper.make_model(
        helper.make_graph(protos, "constants", inputs, outputs),
        opset_imports=model.header.opset_import,
        ir_version=max(model.header.ir_version, 4),
    )
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    found = dict(zip(wanted, session.run(list(wanted), feeds), strict=True))
    return {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
