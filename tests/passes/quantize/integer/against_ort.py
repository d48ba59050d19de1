"""The integer units of a model in ONNX Runtime, each fed with the reference's codes."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from optc.models.model import Model
from optc.models.session import Session
from optc.passes.quantize.integer.execute import Reference
from optc.passes.quantize.integer.ops import Op

Arrays = dict[str, np.ndarray]


def unit_by_unit(
    model: Model, reference: Reference, feeds: Arrays
) -> dict[Op, tuple[np.ndarray, np.ndarray]]:
    """What each unit makes: (the reference, ONNX Runtime), both fed with the reference's values.

    One model holds all units: it is cut at every value that passes between them.
    """
    values = reference.trace(feeds)
    proto = model.to_proto()
    ops = [op for op in reference.program.ops if op.output not in reference.program.accumulators()]
    made = {op.output for op in ops}
    read = {name for op in reference.program.ops for name in op.inputs} - reference.program.accumulators()
    inside = {key for op in reference.program.ops for key in op.nodes}
    nodes = [n for n in proto.graph.node if n.output[0] in inside or n.op_type.endswith("quantizeLinear")]
    nodes += [n for n in proto.graph.node if n.op_type == "Constant"]
    nodes = [_renamed(node, made) for node in nodes]
    graph = helper.make_graph(
        nodes,
        "units",
        [
            _info(name, values[name])
            for name in sorted((read & values.keys()) | _outside(nodes, values, proto))
        ],
        [onnx.ValueInfoProto(name=f"{op.output}.out") for op in ops],
        initializer=proto.graph.initializer,
    )
    cut = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    found = Session(Model(cut)).run(values)
    return {op: (values[op.output], found[f"{op.output}.out"]) for op in ops}


def _outside(nodes: list[onnx.NodeProto], values: Arrays, proto: onnx.ModelProto) -> set[str]:
    """What the nodes read that is neither made by them nor a constant."""
    made = {name for node in nodes for name in node.output}
    constants = {t.name for t in proto.graph.initializer}
    return {n for node in nodes for n in node.input if n in values and n not in made | constants}


def _renamed(node: onnx.NodeProto, cut: set[str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.output[:] = [f"{n}.out" if n in cut else n for n in node.output]
    return copy


def _info(name: str, values: np.ndarray) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), None)


def codes_apart(ours: np.ndarray, theirs: np.ndarray) -> tuple[int, float]:
    """The largest difference, and the share of codes that differ."""
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype, (ours.shape, theirs.shape)
    apart = np.abs(ours.astype(np.int64) - theirs.astype(np.int64))
    return int(apart.max(initial=0)), float((apart > 0).mean()) if apart.size else 0.0
