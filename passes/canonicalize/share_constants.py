"""Keep one of several equal initializers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.ir.tensor import LazyValues, SparseValues

from optc.models.export import element_type
from optc.models.model import Model
from optc.models.storage import is_external
from optc.passes.base import Context, Contract, Exact
from optc.passes.canonicalize.edit import Edit, edit_graphs

_Key = tuple[int, tuple[int, ...]]


@dataclass(frozen=True)
class ShareConstants:
    """Make the readers of initializers that are equal bit for bit read one of them."""

    name: ClassVar[str] = "share-constants"
    contract: ClassVar[Contract] = Exact()

    def run(self, model: Model, context: Context) -> bool:
        """Share, graph by graph; overridable initializers and graph outputs are left alone."""
        return edit_graphs(model, context, _share)


def _share(edit: Edit) -> bool:
    groups: dict[_Key, list[gs.Constant]] = {}
    for tensor in _constants(edit):
        key = (element_type(tensor.export_dtype), tuple(tensor.shape))
        groups.setdefault(key, []).append(tensor)
    changed = False
    for group in groups.values():
        if len(group) > 1:
            changed |= _share_group(edit, group)
    return changed


def _share_group(edit: Edit, group: list[gs.Constant]) -> bool:
    """Share among constants of one dtype and shape: compare hashes first, then all bytes."""
    seen: dict[int, list[tuple[gs.Constant, bytes]]] = {}
    changed = False
    for tensor in group:
        data = _bytes(tensor)
        same = seen.setdefault(hash(data), [])
        kept = next((other for other, content in same if content == data), None)
        if kept is None:
            same.append((tensor, data))
        else:
            edit.replace_uses(tensor, kept)
            changed = True
    return changed


def _constants(edit: Edit) -> Iterator[gs.Constant]:
    """The constants that nodes of this graph read, each once."""
    seen: set[int] = set()
    overridable = set(edit.model.overridable)
    for node in edit.graph.nodes:
        for tensor in node.inputs:
            if not isinstance(tensor, gs.Constant) or id(tensor) in seen or tensor.name in overridable:
                continue
            seen.add(id(tensor))
            plain = not isinstance(tensor._values, SparseValues) and not edit.is_output(tensor)
            if plain and not _is_external(tensor):
                yield tensor


def _is_external(tensor: gs.Constant) -> bool:
    return isinstance(tensor._values, LazyValues) and is_external(tensor._values.tensor)


def _bytes(tensor: gs.Constant) -> bytes:
    values = tensor._values
    if isinstance(values, LazyValues):
        if values.tensor.HasField("raw_data"):
            return bytes(values.tensor.raw_data)
        values = onnx.numpy_helper.to_array(values.tensor)
    if values.dtype == object:
        return repr(values.tolist()).encode()
    return np.ascontiguousarray(values).tobytes()
