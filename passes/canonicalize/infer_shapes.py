"""Infer the dtypes and shapes of inner values and write them onto the graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.importers.onnx_importer import get_numpy_type, get_onnx_tensor_shape

from optc.models.model import Model
from optc.passes.analysis.skeleton import skeleton
from optc.passes.base import Context, Contract, Declined, Exact
from optc.passes.canonicalize.edit import all_graphs


@dataclass(frozen=True)
class InferShapes:
    """Give inner values their dtype and shape, as onnx.shape_inference finds them; symbols stay symbols.

    What the file says already is kept; only what it leaves open is filled in.
    """

    name: ClassVar[str] = "infer-shapes"
    contract: ClassVar[Contract] = Exact()

    def run(self, model: Model, context: Context) -> bool:
        """Infer; declines, with onnx's own reason, where the graph contradicts itself."""
        if not any(_open(t) for graph in all_graphs(model.view) for t in _made(graph)):
            return False
        try:
            inferred = onnx.shape_inference.infer_shapes(skeleton(model), data_prop=True)
        except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            context.declined.append(Declined(f"graph {model.name}", f"shapes cannot be inferred: {reason}"))
            return False
        changed = _write_back(model.view, inferred.graph)
        if changed:
            model.changed = True
        return changed


def _made(graph: gs.Graph) -> Iterator[gs.Tensor]:
    for node in graph.nodes:
        yield from (t for t in node.outputs if t.name)


def _open(tensor: gs.Tensor) -> bool:
    """Whether something about a tensor's type is not known."""
    if not isinstance(tensor, gs.Variable) or tensor.type not in (None, "tensor_type"):
        return False
    return tensor.dtype is None or tensor.shape is None or None in tensor.shape


def _write_back(graph: gs.Graph, inferred: onnx.GraphProto) -> bool:
    """Fill in what `inferred`, which has the same nodes in the same order, knows more."""
    infos = {info.name: info for info in (*inferred.value_info, *inferred.output)}
    changed = False
    for tensor in _made(graph):
        if _open(tensor) and tensor.name in infos:
            changed |= _fill(tensor, infos[tensor.name])
    for node, proto in zip(graph.nodes, inferred.node, strict=True):
        if any(isinstance(value, gs.Graph) for value in node.attrs.values()):
            for attribute in proto.attribute:
                if isinstance(node.attrs.get(attribute.name), gs.Graph):
                    changed |= _write_back(node.attrs[attribute.name], attribute.g)
    return changed


def _fill(tensor: gs.Variable, info: onnx.ValueInfoProto) -> bool:
    if not info.type.HasField("tensor_type"):
        return False
    changed = False
    element = info.type.tensor_type.elem_type
    if tensor.dtype is None and element:
        tensor.dtype, changed = get_numpy_type(element) or element, True
        tensor.type = "tensor_type"
    found: list[Any] | None = get_onnx_tensor_shape(info)
    if found is not None and tensor.dtype is not None:
        old = tensor.shape
        if old is None:
            tensor.shape, changed = found, True
        elif len(old) == len(found):
            merged = [f if o is None else o for o, f in zip(old, found, strict=True)]
            if merged != list(old):
                tensor.shape, changed = merged, True
    return changed
