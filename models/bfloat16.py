"""Running bfloat16 where ONNX Runtime's CPU has no kernel for it: in float32, each result rounded."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import TensorProto

_NATIVE = {"Cast", "Constant", "ConstantOfShape"}


def holds_bfloat16(proto: onnx.ModelProto) -> bool:
    """Whether some node of the main graph makes, or an initializer is, bfloat16."""
    return TensorProto.BFLOAT16 in _elements(proto).values()


def with_float32_nodes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `proto` whose nodes compute in float32: Casts stand around each that is of bfloat16.

    That is what ONNX Runtime does by itself for float16. Every value stays what bfloat16 can hold, and inputs
    and outputs keep their types. Nodes inside subgraphs are left as they are.
    """
    elements = _elements(proto)
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    del result.graph.node[:], result.graph.value_info[:]
    for node in proto.graph.node:
        result.graph.node.extend([node] if node.op_type in _NATIVE else _wrapped(node, elements))
    return result


def _wrapped(node: onnx.NodeProto, elements: dict[str, int]) -> Iterator[onnx.NodeProto]:
    wide = onnx.NodeProto()
    wide.CopyFrom(node)
    after = []
    for index, name in enumerate(node.input):
        if elements.get(name) == TensorProto.BFLOAT16:
            wide.input[index] = f"{name}/float32/{node.output[0]}/{index}"
            yield onnx.helper.make_node("Cast", [name], [wide.input[index]], to=TensorProto.FLOAT)
    for index, name in enumerate(node.output):
        if elements.get(name) == TensorProto.BFLOAT16:
            wide.output[index] = f"{name}/float32"
            after.append(onnx.helper.make_node("Cast", [wide.output[index]], [name], to=TensorProto.BFLOAT16))
    yield wide
    yield from after


def _elements(proto: onnx.ModelProto) -> dict[str, int]:
    """The element types of the main graph's values, by name."""
    graph = onnx.shape_inference.infer_shapes(proto).graph
    infos = (*graph.value_info, *graph.input, *graph.output)
    stored = {t.name: t.data_type for t in graph.initializer}
    return stored | {i.name: i.type.tensor_type.elem_type for i in infos}
