"""MatMul and the Add after it as one Gemm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from optc.models.model import Model
from optc.passes.analysis.shapes import broadcasts_into, rank_of, shape_of, static_shape
from optc.passes.base import Context, Contract, Exact
from optc.passes.canonicalize.edit import Edit, edit_graphs

OLDEST = 13
"""Opset since which Gemm is as written here."""


@dataclass(frozen=True)
class FuseGemm:
    """Make one Gemm of a MatMul of two matrices and an Add that only widens towards the product's shape."""

    name: ClassVar[str] = "fuse-gemm"
    contract: ClassVar[Contract] = Exact()

    def run(self, model: Model, context: Context) -> bool:
        """Fuse; needs the ranks that infer-shapes wrote."""
        return edit_graphs(model, context, _fuse)


def _fuse(edit: Edit) -> bool:
    changed = False
    if edit.opset < OLDEST:
        return False
    for node in edit.nodes("Add"):
        for side in (0, 1):
            product, addend = node.inputs[side], node.inputs[1 - side]
            maker = edit.producer(product)
            if maker is not None and maker.op == "MatMul" and _fits(edit, maker, product, addend):
                _into_gemm(edit, maker, node, addend)
                changed = True
                break
    return changed


def _fits(edit: Edit, maker: gs.Node, product: gs.Tensor, addend: gs.Tensor) -> bool:
    if not edit.only_use(product) or any(rank_of(t) != 2 for t in maker.inputs):
        return False
    if product.dtype is None or isinstance(product.dtype, int) or np.dtype(product.dtype).kind != "f":
        return False
    shape = static_shape(addend)
    left, right = shape_of(maker.inputs[0]), shape_of(maker.inputs[1])
    if shape is None or left is None or right is None:
        return False
    return broadcasts_into(shape, (left[0], right[1]))


def _into_gemm(edit: Edit, maker: gs.Node, add: gs.Node, addend: gs.Tensor) -> None:
    """The Add becomes the Gemm, so that it stands after whatever makes the addend."""
    matrices = list(maker.inputs)
    edit.set_inputs(add, [*matrices, addend])
    edit.remove(maker)
    add.op, add.attrs = "Gemm", {}
