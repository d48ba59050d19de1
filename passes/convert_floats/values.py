"""What is known of the values of a graph: their types, constants, and the largest numbers seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import TensorProto
from onnx_graphsurgeon.ir.tensor import SparseValues

from optc.models.model import Model
from optc.passes.analysis.skeleton import skeleton
from optc.passes.base import Context
from optc.passes.calibrate import observe
from optc.passes.canonicalize.edit import all_graphs

WHO = "convert-floats"


class Values:
    """The values of a model's main graph."""

    def __init__(self, model: Model) -> None:
        """Infers types; raises onnx's own error where the graph contradicts itself."""
        graph = onnx.shape_inference.infer_shapes(skeleton(model), check_type=True, data_prop=True).graph
        infos = (*graph.value_info, *graph.input, *graph.output)
        self._elements = {i.name: i.type.tensor_type.elem_type for i in infos}
        self._elements.update({t.name: t.data_type for t in graph.initializer})
        self._elements.update({t.values.name: t.values.data_type for t in graph.sparse_initializer})
        dense = [(i.name, i.type.tensor_type) for i in infos]
        self._shapes = {name: kind.shape for name, kind in dense if kind.HasField("shape")}
        self._overridable = set(model.overridable)
        self.inputs = {t.name for t in model.view.inputs} | self._overridable
        self.outputs = {t.name for t in model.view.outputs}
        self.returned = _returned(model.view)
        """Names of values that subgraphs return as they are: these keep their type."""

    def element(self, tensor: gs.Tensor) -> int:
        """The element type of a dense tensor, 0 where it is unknown or the value is no such tensor."""
        return int(self._elements.get(tensor.name, 0))

    def is_wide(self, tensor: gs.Tensor) -> bool:
        """Whether a value is a float32 tensor."""
        return not tensor.is_empty() and self.element(tensor) == TensorProto.FLOAT

    def dims(self, tensor: gs.Tensor) -> list[int | None] | None:
        """The shape, None for what is not known."""
        shape = self._shapes.get(tensor.name)
        if shape is None:
            return None
        return [d.dim_value if d.HasField("dim_value") else None for d in shape.dim]

    def constant(self, tensor: gs.Tensor) -> NDArray[Any] | None:
        """The float32 values of an initializer or Constant node that no caller can override."""
        if tensor.name in self._overridable or not self.is_wide(tensor):
            return None
        if isinstance(tensor, gs.Constant):
            return None if isinstance(tensor._values, SparseValues) else np.asarray(tensor.values)
        maker = tensor.inputs[0] if tensor.inputs else None
        return attribute_values(maker) if maker is not None and maker.op == "Constant" else None

    def numbers(self, tensor: gs.Tensor) -> NDArray[Any] | None:
        """As `constant`, and the number that a ConstantOfShape fills a value with."""
        maker = tensor.inputs[0] if tensor.inputs else None
        if maker is not None and maker.op == "ConstantOfShape" and self.is_wide(tensor):
            return attribute_values(maker)
        return self.constant(tensor)

    def copied(self, tensor: gs.Tensor) -> bool:
        """Whether the maker of a float32 value can as well make it in another type, or once in each."""
        maker = tensor.inputs[0] if tensor.inputs else None
        if maker is None or maker.op not in ("Cast", "Constant", "ConstantOfShape"):
            return False
        if maker.op == "Cast":
            return not self.is_wide(maker.inputs[0])
        return attribute_values(maker) is not None


def attribute_values(node: gs.Node) -> NDArray[Any] | None:
    """The float32 values that a Constant makes; the one, as an array, that a ConstantOfShape fills with.

    None for a Constant that is stored sparse.
    """
    value = node.attrs.get("value")
    if isinstance(value, gs.Constant):
        return np.asarray(value.values)
    given = node.attrs.get("value_float", node.attrs.get("value_floats"))
    if given is None:
        return np.zeros(1, np.float32) if node.op == "ConstantOfShape" else None
    return np.asarray(given, np.float32)


class Largest:
    """The largest finite magnitude seen; infinities are the same in every float type."""

    def __init__(self) -> None:
        self.magnitude = 0.0

    def add(self, values: NDArray[Any]) -> None:
        """Take in `values`."""
        self.magnitude = max(self.magnitude, largest(values))


def largest(values: NDArray[Any]) -> float:
    """The largest finite magnitude of float `values`, 0 where there is none."""
    size = np.abs(values)
    return float(size.max(initial=0.0, where=np.isfinite(size)))


def observed(model: Model, values: Values, context: Context, samples: int | None) -> dict[str, float]:
    """The largest magnitude of each float32 value, by name; empty where there are no calibration samples."""
    if context.calibration is None:
        return {}
    made = [t for n in model.view.nodes for t in n.outputs]
    watched = {
        t.name: Largest()
        for t in (*model.view.inputs, *made)
        if values.is_wide(t) and values.constant(t) is None
    }
    seen = observe(model, watched, context, samples, WHO, finite=False)
    return {name: gatherer.magnitude for name, gatherer in seen.items()}


def _returned(graph: gs.Graph) -> set[str]:
    """Names that a subgraph's outputs have although no node of it makes them."""
    names: set[str] = set()
    for body in list(all_graphs(graph))[1:]:
        own = {t.name for n in body.nodes for t in n.outputs} | {t.name for t in body.inputs}
        names |= {t.name for t in body.outputs} - own
    return names
