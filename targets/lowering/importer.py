"""ONNX to Relax by TVM's importer, with calls in place of islands and regions. Imports TVM: load it late."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from tvm import relax, tirx
from tvm.relax.frontend.onnx import onnx_frontend

from optc.models import storage
from optc.models.session import first_line
from optc.passes.quantize.integer.ops import Move, Op
from optc.targets.lowering.graph import Graph, Type
from optc.targets.lowering.integer.emit import emit, emit_ending
from optc.targets.lowering.integer.plan import IntegerPlan
from optc.targets.lowering.islands import Island, schedule
from optc.targets.lowering.offload import Region
from optc.targets.lowering.stable import order_free_dimensions

_TAKE_SHAPES = frozenset(
    ("Reshape", "Resize", "ConstantOfShape", "Gather", "Slice", "Shape", "Expand")
    + ("Concat", "Equal", "Where", "Cast", "CastLike", "Squeeze")
)
"""Operators whose converters take a Relax shape; for all others it is made a tensor first."""


def import_graph(
    graph: Graph,
    islands: Sequence[Island],
    names: Sequence[str],
    integers: IntegerPlan | None = None,
    regions: Sequence[Region] = (),
) -> tuple[Any, dict[int, str]]:
    """The graph as a Relax module with the function `main`, and what the importer refused.

    `names`: of the packed function that runs each island; `integers`: what is lowered to integers;
    `regions`: which of that an accelerator does. Returns the module, which is of use only if nothing was
    refused, and node index to the reason of the refusal.
    """
    order_free_dimensions()
    importer = _Importer(graph, dict(zip(names, islands, strict=True)), integers, regions)
    module = importer.from_onnx(graph.proto.graph, _opset(graph.proto))
    return module, importer.refused


def _opset(proto: onnx.ModelProto) -> int:
    return next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)


class _Importer(onnx_frontend.ONNXGraphImporter):  # type: ignore[misc]
    """TVM's importer, node by node: a node that fails is noted and stood in for, so that all are tried."""

    def __init__(
        self,
        graph: Graph,
        islands: Mapping[str, Island],
        integers: IntegerPlan | None,
        regions: Sequence[Region],
    ) -> None:
        self.source = graph
        self.integers = integers or IntegerPlan({}, frozenset(), frozenset(), {}, "even")
        self.refused: dict[int, str] = {}
        self.names = {island.nodes: name for name, island in islands.items()}
        units: list[Island | Region] = [*islands.values(), *regions]
        self.order = schedule(graph, units)
        self.symbols = {name: tirx.Var(_identifier(name), "int64") for name in sorted(graph.symbols)}
        shapes = {n: self._shape_of(graph.types[n]) for n in graph.inputs if n in graph.types}
        super().__init__(shapes, None)

    def _shape_of(self, found: Type) -> list[Any]:
        return [self.symbols[d] if isinstance(d, str) else d for d in found.dims]

    def _sanitize_name(self, name: str) -> str:
        """TVM names a kernel's arguments after inputs, and leaves characters in them that CUDA refuses."""
        return str(super()._sanitize_name(_identifier(name)))

    def _check_for_unsupported_ops(self, graph: onnx.GraphProto) -> None:
        """Each node is judged by itself."""

    def _parse_array(self, tensor: onnx.TensorProto) -> Any:
        if storage.is_external(tensor):
            tensor = storage.embed(tensor, self.source.folder)
        return super()._parse_array(tensor)

    def _construct_nodes(self, graph: onnx.GraphProto) -> None:
        for item in self.order:
            if isinstance(item, Island):
                self._emit_call(item, self.names[item.nodes])
                continue
            if isinstance(item, Region):
                self._emit_call(item, item.name)
                continue
            node, op = self.source.nodes[item], self.integers.ops.get(item)
            if item not in self.integers.replaced:
                self._attempt(item, node.output, partial(self._import_node, node))
            if op is not None:
                self._attempt(item, [op.output], partial(self._emit_integer, op))
        for name in self.source.outputs:
            self._nodes[name] = self._tensor(self._nodes[name])

    def _attempt(self, index: int, outputs: Sequence[str], action: Callable[[], None]) -> None:
        """Import something in the place of the node `index`; note it where TVM refuses."""
        try:
            action()
        except Exception as error:
            self.refused[index] = f"TVM cannot import it: {_reason(error)}"
            self._stand_in(outputs)

    def _emit_integer(self, op: Op) -> None:
        """An integer operation in place of its nodes; a move is the same for codes as for floats."""
        if isinstance(op, Move):
            inputs = [*op.inputs, *op.parameters]
            self._import_node(onnx.helper.make_node(op.op, inputs, [op.output], **op.attributes))
        else:
            values = {name: self._tensor(self._nodes[name]) for name in op.inputs}
            self._nodes[op.output] = emit(self.bb, op, values, self.integers.rounding)

    def _import_node(self, node: onnx.NodeProto) -> None:
        before = dict(self._nodes)
        if node.op_type not in _TAKE_SHAPES:
            for name in node.input:
                if name and isinstance(self._nodes[name].ty, relax.ShapeType):
                    self._nodes[name] = self._tensor(self._nodes[name])
        super()._construct_nodes(SimpleNamespace(node=[node]))
        for name in node.input:
            if name:
                self._nodes[name] = before[name]
        for name in node.output:
            if name:
                self._check(name)

    def _check(self, name: str) -> None:
        """Raise where TVM's idea of a value's type differs from ONNX's."""
        want, have = self.source.types.get(name), self._nodes[name].ty
        if isinstance(have, relax.ShapeType):
            return
        if not isinstance(have, relax.TensorType):
            raise TypeError(f"it makes {type(have).__name__} of '{name}', not a tensor")
        if not self._known(have):
            raise TypeError(f"it makes the shape of '{name}' depend on data")
        if want is None:
            return
        if str(have.dtype) != want.dtype:
            raise TypeError(f"it makes {have.dtype} of '{name}', ONNX {want.dtype}")
        if have.ndim != len(want.dims):
            raise TypeError(f"it gives '{name}' {have.ndim} dimensions, ONNX {len(want.dims)}")
        for got, dim in zip(have.shape, want.dims, strict=True):
            if isinstance(got, tirx.IntImm) and isinstance(dim, int) and int(got) != dim:
                raise TypeError(f"it gives '{name}' the shape {have.shape}, ONNX {list(want.dims)}")

    def _known(self, found: relax.TensorType) -> bool:
        """Whether every dimension follows from the inputs' dimensions; TVM can loop forever on others."""
        if found.shape is None:
            return False
        known = set(self.symbols.values())
        return all(v in known for d in found.shape for v in tirx.analysis.undefined_vars(d))

    def _tensor(self, value: Any) -> Any:
        """A shape as a tensor of int64; tensors are left as they are."""
        if not isinstance(value.ty, relax.ShapeType):
            return value
        if isinstance(value, relax.ShapeExpr) and all(isinstance(v, tirx.IntImm) for v in value.values):
            return relax.const(np.array([int(v) for v in value.values], np.int64), "int64")
        return self.bb.emit(relax.op.shape_to_tensor(value))

    def _emit_call(self, island: Island | Region, name: str) -> None:
        inputs = [self.bb.emit(self._tensor(self._nodes[n])) for n in island.inputs]
        ended = island.accumulators if isinstance(island, Region) else {}
        types = [self._relax_type(n, "int32" if n in ended else None) for n in island.outputs]
        call = self.bb.emit(
            relax.call_dps_packed(name, inputs, out_ty=types if len(types) != 1 else types[0])
        )
        for index, output in enumerate(island.outputs):
            item = call if len(types) == 1 else self.bb.emit(relax.TupleGetItem(call, index))
            if output in ended:
                item = emit_ending(self.bb, ended[output], item, self.integers.rounding)
            self._nodes[output] = item

    def _relax_type(self, name: str, dtype: str | None = None) -> Any:
        found = self.source.types[name]
        return relax.TensorType(self._shape_of(found), dtype or found.dtype)

    def _stand_in(self, names: Sequence[str]) -> None:
        """Values of the right types in place of what was refused, so that the rest can be tried."""
        for name in names:
            if name and self.source.passable(name) is not None:
                self._nodes[name] = relax.Var(_identifier(name), self._relax_type(name))
            elif name:
                self._nodes[name] = _UNKNOWN


_UNKNOWN: Any = SimpleNamespace(ty=None)
"""Stands for a value that TVM cannot hold; whatever touches it is refused, which it would be anyway."""


def _identifier(name: str) -> str:
    return "v_" + "".join(c if c.isascii() and c.isalnum() else "_" for c in name)


def _reason(error: Exception) -> str:
    """The line of a TVM error that says what is wrong, without traceback or object dumps."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    if isinstance(error, KeyError) or not lines:
        text = f"{type(error).__name__} {first_line(error)}"
    return text if len(text) <= 160 else text[:157] + "..."
