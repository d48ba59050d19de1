"""Fold scales and shifts by constants into the weights and bias of the node before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.model import Model
from optc.passes.base import Context, Contract, Exact
from optc.passes.canonicalize.absorb import ABSORB, Parameters
from optc.passes.canonicalize.affine import OPS, read_affine
from optc.passes.canonicalize.edit import Edit, edit_graphs

OLDEST = 7
"""Opset since which Add and Mul broadcast as today, and BatchNormalization needs no `is_test`."""

COPIED_BYTES = 1024
"""A shared weight no larger than this is copied rather than left unfolded."""


@dataclass(frozen=True)
class FoldAffine:
    """Fold BatchNormalization, and Mul, Div, Add, Sub, Neg by constants, into the node before.

    That node is a Conv, ConvTranspose, Gemm, MatMul (scales only), BatchNormalization, or another Mul or Add
    by a constant, whose result nobody else reads. Computed in float64, rounded once to the weights' dtype.
    """

    name: ClassVar[str] = "fold-affine"
    contract: ClassVar[Contract] = Exact()

    def run(self, model: Model, context: Context) -> bool:
        """Fold until nothing folds; declines where a weight is shared or a result is not finite."""
        return edit_graphs(model, context, _fold)


def _fold(edit: Edit) -> bool:
    changed = False
    if edit.opset < OLDEST:
        return False
    for node in edit.nodes(*OPS):
        # In topological order: the producer has already absorbed what comes before this node.
        maker = _candidate(edit, node)
        if maker is None:
            continue
        affine = read_affine(edit, node)
        if affine is not None and affine.source.inputs and affine.source.inputs[0] is maker:
            parameters = ABSORB[maker.op](edit, maker, affine)
            if parameters is not None:
                changed |= _absorb(edit, maker, node, parameters)
    return changed


def _candidate(edit: Edit, node: gs.Node) -> gs.Node | None:
    """The node before, where it can take a scale or shift at all; reads no values."""
    for tensor in node.inputs[:2]:
        maker = edit.producer(tensor)
        if maker is not None and maker.op in ABSORB and maker.outputs[0] is tensor and edit.only_use(tensor):
            return maker
    return None


def _absorb(edit: Edit, maker: gs.Node, node: gs.Node, new: Parameters) -> bool:
    arrays: dict[int, NDArray[Any]] = {}
    for index, values in new.inputs.items():
        with np.errstate(over="ignore"):
            arrays[index] = values.astype(new.dtype)
        if not np.isfinite(arrays[index]).all():
            edit.context.decline(node, "folding it would overflow the weights")
            return False
        old = edit.input(maker, index)
        if old is not None and len(old.outputs) > 1 and arrays[index].nbytes > COPIED_BYTES:
            edit.context.decline(node, f"the weight '{old.name}' is shared, folding would copy it")
            return False
    for index, array in arrays.items():
        edit.put_constant(maker, index, array)
    maker.attrs.update(new.attrs)
    result = node.outputs[0]
    edit.remove(node)
    edit.set_output(maker, 0, result)
    return True
