"""Bring a model to a newer version of the ONNX operators."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.ir.tensor import SparseValues

from optc.models.errors import InputError
from optc.models.export import source_of
from optc.models.model import Model
from optc.passes.analysis.skeleton import skeleton
from optc.passes.base import Context, Contract, Declined, Exact
from optc.passes.canonicalize.edit import all_graphs, standard


@dataclass(frozen=True)
class UpgradeOpset:
    """Convert to at least `opset` with onnx.version_converter; a newer model stays as it is.

    The converter sees no large initializer, and what it drops (metadata, doc strings, sparse tensors) is put
    back. Models with nodes of other domains or with functions are carried through untouched, and said so.
    """

    name: ClassVar[str] = "upgrade-opset"
    contract: ClassVar[Contract] = Exact()

    opset: int = 21

    def __post_init__(self) -> None:
        newest = onnx.defs.onnx_opset_version()
        if not 1 <= self.opset <= newest:
            raise InputError(f"opset {self.opset} is unknown to onnx {onnx.__version__}; give 1 to {newest}")

    def run(self, model: Model, context: Context) -> bool:
        """Convert; declines where the converter fails, with its reason."""
        if model.opset >= self.opset:
            return False
        reason = _obstacle(model)
        if reason is None:
            try:
                converted = _convert(model, self.opset)
            except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
                reason = str(error).strip().splitlines()[0]
            else:
                model.replace(converted)
                return True
        text = f"stays at opset {model.opset}, not {self.opset}: {reason}"
        context.declined.append(Declined(f"graph {model.name}", text))
        return False


def _obstacle(model: Model) -> str | None:
    """Why the converter cannot be trusted with this model, None where it can."""
    if model.header.functions:
        return "it holds functions"
    for tensor in model.view.tensors().values():
        if isinstance(tensor, gs.Constant) and isinstance(tensor._values, SparseValues):
            return f"constant '{tensor.name}' is stored sparse, which the converter does not know"
    for node in (n for graph in all_graphs(model.view) for n in graph.nodes):
        if not standard(node):
            return f"node {node.name or node.op} is of the domain {node.domain}"
        if node.op == "Scan" and model.opset < 9:
            return "a Scan of opset 8 means another thing later, which the converter passes over"
    return None


def _convert(model: Model, opset: int) -> onnx.ModelProto:
    light = onnx.shape_inference.infer_shapes(skeleton(model, attributes=True), data_prop=True)
    converted = onnx.version_converter.convert_version(light, opset)
    proto = onnx.ModelProto()
    proto.CopyFrom(model.header)
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = opset
    least = onnx.helper.find_min_ir_version_for(list(proto.opset_import))
    proto.ir_version = max(proto.ir_version, least)
    source = source_of(model.view) if not model.changed else None
    original = source if source is not None else model.to_proto(embed=False).graph
    _merge(original, converted.graph, proto.graph)
    onnx.checker.check_model(_checked(proto))
    return proto


def _merge(original: onnx.GraphProto, converted: onnx.GraphProto, graph: onnx.GraphProto) -> None:
    """The converted nodes with everything else of the original graph."""
    for field, value in original.ListFields():
        if field.name in ("node", "value_info"):
            continue
        if field.is_repeated:
            getattr(graph, field.name).extend(value)
        else:
            setattr(graph, field.name, value)
    known = {t.name for t in original.initializer}
    graph.initializer.extend(t for t in converted.initializer if t.name not in known)
    sources = {n.output[0]: n for n in original.node if n.output}
    for node in converted.node:
        _restore(node, sources.get(node.output[0]) if node.output else None)
    graph.node.extend(converted.node)
    made = {name for node in converted.node for name in node.output}
    infos = {i.name: i for i in (*converted.value_info, *original.value_info) if i.name in made}
    graph.value_info.extend(infos[name] for name in sorted(infos))


def _restore(node: onnx.NodeProto, source: Any) -> None:
    """Give a converted node back what the converter dropped of it."""
    if source is None or source.op_type != node.op_type:
        return
    node.name = source.name
    node.doc_string = source.doc_string
    for field in ("metadata_props", "device_configurations"):
        del getattr(node, field)[:]
        getattr(node, field).extend(getattr(source, field))


def _checked(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without its large tensors, to check the conversion on."""
    light = onnx.ModelProto(ir_version=proto.ir_version)
    light.opset_import.extend(proto.opset_import)
    light.graph.name = proto.graph.name or "graph"
    light.graph.node.extend(proto.graph.node)
    light.graph.input.extend(proto.graph.input)
    light.graph.output.extend(proto.graph.output)
    listed = {i.name for i in proto.graph.input}
    for tensor in _tensors(proto.graph):
        if tensor.name not in listed:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            light.graph.input.append(info)
    return light


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield onnx.TensorProto(name=sparse.values.name, data_type=sparse.values.data_type, dims=sparse.dims)
