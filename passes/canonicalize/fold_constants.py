"""Replace what is computed from constants alone by its value."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from optc.models.errors import InputError
from optc.models.export import source_of
from optc.models.model import Model
from optc.passes.analysis.shapes import static_shape
from optc.passes.base import Context, Contract, Exact
from optc.passes.canonicalize.edit import Edit, edit_graphs, has_subgraph
from optc.passes.canonicalize.evaluate import evaluate

NEVER = {
    *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"),
    # A quantized weight is kept as it is: integer lowering reads the pattern.
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    *("Dropout", "Constant", "Optional", "OptionalGetElement", "OptionalHasElement", "SplitToSequence"),
    *("ConcatFromSequence", "StringNormalizer", "ImageDecoder", "Gradient"),
}
"""Operators not folded: random ones, quantization, training, and what does not compute with plain tensors."""

GROWING = {
    *("ConstantOfShape", "Expand", "Tile", "Range", "EyeLike", "OneHot", "Pad", "Resize", "Upsample"),
    *("CenterCropPad", "Col2Im", "ConvTranspose", "MaxUnpool", "Scatter", "AffineGrid", "BlackmanWindow"),
    *("HannWindow", "HammingWindow", "MelWeightMatrix", "DFT", "STFT", "GatherND", "Gather", "Reshape"),
}
"""Operators whose output may be any size, so that a size not known is a reason to wait."""

FOLDED_BYTES = "optc.folded_bytes"
"""Model metadata: bytes that folding has added to the file so far, so that runs do not pass the limit."""

NODE_BYTES = 48
TENSOR_BYTES = 16


@dataclass(frozen=True)
class FoldConstants:
    """Turn Constant nodes into initializers, and evaluate nodes whose inputs are all constants.

    `fold_limit`: how large folding may make the model, as a multiple of its size before; what would pass it
    (a large ConstantOfShape, Expand, Tile, Range) stays a node, and the report says so.
    """

    name: ClassVar[str] = "fold-constants"
    contract: ClassVar[Contract] = Exact()

    fold_limit: float = 1.1

    def __post_init__(self) -> None:
        if not self.fold_limit >= 1:
            raise InputError(f"fold_limit {self.fold_limit} is below 1; give 1 or more, such as 1.1")

    def run(self, model: Model, context: Context) -> bool:
        """Fold one round; True if something changed."""

        def fold(edit: Edit) -> bool:
            changed = _constant_nodes(edit)
            return _Folding(edit, self.fold_limit).run() or changed

        return edit_graphs(model, context, fold)


def _constant_nodes(edit: Edit) -> bool:
    changed = False
    for node in edit.nodes("Constant"):
        values = _constant_values(node)
        output = node.outputs[0]
        if values is None or edit.is_output(output):
            continue
        edit.remove(node)
        output.to_constant(values)
        changed = True
    return changed


def _constant_values(node: gs.Node) -> object:
    """The values of a Constant node, lazily where they are a tensor; None for sparse ones and strings."""
    if len(node.attrs) != 1:
        return None
    ((name, value),) = node.attrs.items()
    if name == "value":
        return value._values if isinstance(value, gs.Constant) else None
    dtypes = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    return np.asarray(value, dtypes[name]) if name in dtypes else None


class _Folding:
    """One round of folding in one graph."""

    def __init__(self, edit: Edit, limit: float) -> None:
        self.edit = edit
        self.limit = limit

    def run(self) -> bool:
        candidates = [n for n in self.edit.nodes() if self._could_fold(n)]
        nodes = self._reachable(candidates, set())
        if not nodes:
            return False
        budget = self._budget()
        declined: set[int] = set()
        while nodes and (growth := self._growth(nodes)) > budget:
            for node, size in sorted(self._frontier(nodes), key=lambda item: -item[1]):
                declined.add(id(node))
                self.edit.context.decline(
                    node, f"its value of {size} bytes would take the file past fold_limit={self.limit}"
                )
                growth -= size
                if growth <= budget:
                    break
            nodes = self._reachable(candidates, declined)
        return bool(nodes) and self._replace(nodes)

    def _could_fold(self, node: gs.Node) -> bool:
        if node.op in NEVER or node.op.startswith("Sequence") or has_subgraph(node) or not node.inputs:
            return False
        named = [t for t in node.outputs if t.name]
        return bool(named) and not any(self.edit.is_output(t) or self._size(t, node) is None for t in named)

    def _reachable(self, candidates: Iterable[gs.Node], declined: set[int]) -> list[gs.Node]:
        """The candidates, in order, that need nothing but constants and each other's outputs."""
        known: set[int] = set()
        nodes = []
        for node in candidates:
            if id(node) in declined:
                continue
            named = [t for t in node.inputs if t.name]
            if named and all(id(t) in known or self.edit.is_constant(t) for t in named):
                nodes.append(node)
                known.update(id(t) for t in node.outputs)
        return nodes

    def _size(self, tensor: gs.Tensor, node: gs.Node) -> int | None:
        """Bytes of a node's output, None where that is not known and could be anything."""
        shape = static_shape(tensor)
        if shape is None or tensor.dtype is None or isinstance(tensor.dtype, int):
            return None if node.op in GROWING else 8
        return math.prod(shape) * int(np.dtype(tensor.dtype).itemsize)

    def _frontier(self, nodes: list[gs.Node]) -> list[tuple[gs.Node, int]]:
        """The nodes whose values others read, with the bytes that would be stored for each."""
        inside = {id(n) for n in nodes}
        found = []
        for node in nodes:
            stored = [t for t in node.outputs if any(id(user) not in inside for user in t.outputs)]
            if stored:
                size = sum((self._size(t, node) or 0) + TENSOR_BYTES + len(t.name) for t in stored)
                found.append((node, size))
        return found

    def _growth(self, nodes: list[gs.Node]) -> int:
        """Bytes that the file grows by (negative: shrinks) where `nodes` are folded."""
        inside = {id(n) for n in nodes}
        freed = len(nodes) * NODE_BYTES
        seen: set[int] = set()
        for node in nodes:
            for tensor in node.inputs:
                if isinstance(tensor, gs.Constant) and id(tensor) not in seen:
                    seen.add(id(tensor))
                    if all(id(user) in inside for user in tensor.outputs):
                        freed += int(tensor._values.nbytes) + TENSOR_BYTES + len(tensor.name)
        return sum(size for _, size in self._frontier(nodes)) - freed

    def _budget(self) -> float:
        """Bytes that this round may add."""
        model = self.edit.model
        size = model.stored_bytes() + sum(_node_bytes(n) for n in model.view.nodes)
        added = int(model.metadata().get(FOLDED_BYTES, "0"))
        return self.limit * max(size - added, 0) - size

    def _replace(self, nodes: list[gs.Node]) -> bool:
        wanted = [t.name for n, _ in self._frontier(nodes) for t in n.outputs if t.name and t.outputs]
        values = evaluate(self.edit.model, self.edit.graph, nodes, wanted)
        growth = self._growth(nodes)
        changed = False
        for node in nodes:
            outputs = [t for t in node.outputs if t.name in wanted]
            if outputs and all(t.name in values for t in outputs):
                self.edit.remove(node)
                for tensor in outputs:
                    tensor.to_constant(values[tensor.name])
                changed = True
            elif outputs:
                self.edit.context.decline(node, "ONNX Runtime cannot evaluate it")
        for node in reversed(nodes):
            if node.outputs and not any(t.outputs for t in node.outputs):
                self.edit.remove(node)
        if changed and growth > 0:
            added = int(self.edit.model.metadata().get(FOLDED_BYTES, "0")) + growth
            self.edit.model.set_metadata(FOLDED_BYTES, str(added))
        return changed


def _node_bytes(node: gs.Node) -> int:
    source = source_of(node)
    return NODE_BYTES if source is None else int(source.ByteSize())
