"""Running float16 and bfloat16 as the graph says: every result rounded to its type.

ONNX Runtime's CPU computes most operators of float16 in float32, and drops the Casts between two of them:
what lies between is never rounded, and never overflows. Of bfloat16 it lacks most operators. Casts that stand
in the graph stay.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx
from onnx import TensorProto

FLOAT16, BFLOAT16 = int(TensorProto.FLOAT16), int(TensorProto.BFLOAT16)

_NATIVE = {"Cast", "Constant", "ConstantOfShape"}


def mentions(proto: onnx.ModelProto, kinds: Collection[int]) -> bool:
    """Whether an input, an initializer or an attribute of the main graph is of one of the element types."""
    graph = proto.graph
    if any(t.data_type in kinds for t in graph.initializer):
        return True
    if any(i.type.tensor_type.elem_type in kinds for i in graph.input):
        return True
    attributes = (a for node in graph.node for a in node.attribute)
    return any(a.t.data_type in kinds or (a.name in ("to", "dtype") and a.i in kinds) for a in attributes)


def with_float32_nodes(proto: onnx.ModelProto, kinds: Collection[int]) -> onnx.ModelProto:
    """A copy of `proto` whose nodes of the float types `kinds` compute in float32, between Casts.

    Inputs and outputs keep their types. Nodes of other domains, with subgraphs, or that make sequences are
    left as they are.
    """
    elements = _elements(proto)
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    del result.graph.node[:], result.graph.value_info[:]
    for node in proto.graph.node:
        result.graph.node.extend(_wrapped(node, elements, kinds) if _fits(node, elements) else [node])
    return result


def _fits(node: onnx.NodeProto, elements: dict[str, int]) -> bool:
    standard = node.domain in ("", "ai.onnx") and node.op_type not in _NATIVE
    bodies = any(a.HasField("g") or a.graphs for a in node.attribute)
    return standard and not bodies and all(elements.get(name) for name in node.output if name)


def _wrapped(
    node: onnx.NodeProto, elements: dict[str, int], kinds: Collection[int]
) -> Iterator[onnx.NodeProto]:
    wide = onnx.NodeProto()
    wide.CopyFrom(node)
    after = []
    for index, name in enumerate(node.input):
        if elements.get(name) in kinds:
            wide.input[index] = f"{name}/float32/{node.output[0]}/{index}"
            yield onnx.helper.make_node("Cast", [name], [wide.input[index]], to=TensorProto.FLOAT)
    for index, name in enumerate(node.output):
        if elements.get(name) in kinds:
            wide.output[index] = f"{name}/float32"
            after.append(onnx.helper.make_node("Cast", [wide.output[index]], [name], to=elements[name]))
    yield wide
    yield from after


def _elements(proto: onnx.ModelProto) -> dict[str, int]:
    """The element types of the main graph's values, by name."""
    graph = onnx.shape_inference.infer_shapes(proto).graph
    infos = (*graph.value_info, *graph.input, *graph.output)
    stored = {t.name: t.data_type for t in graph.initializer}
    return stored | {i.name: i.type.tensor_type.elem_type for i in infos}
