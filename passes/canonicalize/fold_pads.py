"""Pad nodes into the padding of the convolution or pooling after them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from optc.models.model import Model
from optc.passes.base import Context, Contract, Exact
from optc.passes.canonicalize.edit import Edit, edit_graphs

NON_NEGATIVE = {"Relu", "Sigmoid", "Softmax", "Abs", "Exp", "Softplus", "HardSigmoid"}
"""Operators whose output is never below 0, so that padding a maximum with 0 or with -infinity is the same."""


@dataclass(frozen=True)
class FoldPads:
    """Fold a constant Pad of the spatial dimensions into Conv (zeros), AveragePool (zeros, counted), MaxPool.

    Only where the result is the same: no negative pads, no `auto_pad`, no `ceil_mode`, a MaxPool padded with
    -infinity, or with 0 after an operator that gives nothing below 0.
    """

    name: ClassVar[str] = "fold-pads"
    contract: ClassVar[Contract] = Exact()

    def run(self, model: Model, context: Context) -> bool:
        """Fold; remove-dead takes a Pad that nobody reads any more."""
        return edit_graphs(model, context, _fold)


def _fold(edit: Edit) -> bool:
    changed = False
    for node in edit.nodes("Conv", "AveragePool", "MaxPool"):
        pad = edit.producer(node.inputs[0])
        if pad is None or pad.op != "Pad":
            continue
        pads = _spatial_pads(edit, pad)
        if pads is None or not _allows(edit, pad, node, pads):
            continue
        own = node.attrs.get("pads") or [0] * len(pads)
        node.attrs["pads"] = [int(a + b) for a, b in zip(own, pads, strict=True)]
        node.attrs.pop("auto_pad", None)
        if node.op == "AveragePool":
            node.attrs["count_include_pad"] = 1
        edit.set_input(node, 0, pad.inputs[0])
        changed = True
    return changed


def _spatial_pads(edit: Edit, pad: gs.Node) -> list[int] | None:
    """Begin and end pads of the spatial dimensions, None where the Pad is another kind."""
    if pad.attrs.get("mode", "constant") != "constant":
        return None
    pads = np.array(pad.attrs["pads"]) if "pads" in pad.attrs else edit.constant_input(pad, 1)
    if pads is None or (pads < 0).any():
        return None
    if edit.input(pad, 3) is not None:
        return _pads_of_axes(edit, pad, pads)
    half = pads.size // 2
    if pads[:2].any() or pads[half : half + 2].any():
        return None
    return [*pads[2:half].tolist(), *pads[half + 2 :].tolist()]


def _pads_of_axes(edit: Edit, pad: gs.Node, pads: Any) -> list[int] | None:
    axes, shape = edit.constant_input(pad, 3), pad.inputs[0].shape
    if axes is None or shape is None:
        return None
    rank = len(shape)
    full = np.zeros((2, rank), np.int64)
    full[:, axes] = pads.reshape(2, -1)
    return None if full[:, :2].any() else [int(v) for v in full[:, 2:].ravel()]


def _allows(edit: Edit, pad: gs.Node, node: gs.Node, pads: list[int]) -> bool:
    if node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return False
    value = _pad_value(edit, pad)
    if node.op == "Conv":
        return value == 0
    kernel = [int(k) for k in node.attrs.get("kernel_shape", [])]
    if node.attrs.get("ceil_mode", 0) or any(t.name for t in node.outputs[1:]):
        return False
    own = node.attrs.get("pads") or [0] * len(pads)
    if any(p + q >= k for p, q, k in zip(pads, own, kernel * 2, strict=True)):
        return False
    if node.op == "AveragePool":
        return value == 0 and (not any(own) or bool(node.attrs.get("count_include_pad", 0)))
    return value is not None and (value == -np.inf or (value == 0 and _non_negative(edit, pad)))


def _pad_value(edit: Edit, pad: gs.Node) -> float | None:
    if edit.input(pad, 2) is None:
        return float(pad.attrs.get("value", 0.0))
    value = edit.constant_input(pad, 2)
    return None if value is None else float(value.reshape(-1)[0])


def _non_negative(edit: Edit, pad: gs.Node) -> bool:
    maker = edit.producer(pad.inputs[0])
    return maker is not None and maker.op in NON_NEGATIVE
