"""The layouts that a node can run in: those of its indices, cut as evenly as their pieces allow."""

from __future__ import annotations

from collections.abc import Callable

from optc.passes.partition.sharding.factor import Factor, even
from optc.passes.partition.sharding.layout import Layout
from optc.passes.partition.sharding.op import Op
from optc.passes.partition.sharding.rules import factors
from optc.passes.partition.sharding.rules_spatial import POOLS


def whole(op: Op) -> Layout:
    """Everything on every device: what each node can do."""
    return Layout((None,) * len(op.ins), (None,) * len(op.outs))


def layouts(op: Op, count: int, units: Callable[[Factor], int] | None = None) -> list[Layout]:
    """All layouts of a node over `count` devices, the whole one first.

    `units`: how many pieces a factor has that must not be cut, a divisor of its own number, which is the
    default. What is summed lies whole on every device afterwards, or along any axis of the output that can
    be cut.
    """
    cut: list[tuple[Factor, Layout]] = []
    for factor in factors(op):
        pieces = factor.units if units is None else units(factor)
        if pieces >= count:
            cuts = [c * (factor.units // pieces) for c in even(pieces, count)]
            layout = factor.layout(op, cuts)
            if layout is not None and _sound(op, factor, layout):
                cut.append((factor, layout))
    scattered = [layout.outputs for factor, layout in cut if not factor.reduce and len(op.outs) == 1]
    found = [whole(op)]
    for factor, layout in cut:
        found.append(layout)
        if factor.reduce:
            found += [Layout(layout.inputs, outputs, True) for outputs in scattered]
    return found


def _sound(op: Op, factor: Factor, layout: Layout) -> bool:
    """Whether ONNX Runtime takes what the devices see: it wants a pool's padding below the pool's size."""
    split = layout.outputs[0]
    if factor.window is None or split is None or op.kind not in POOLS:
        return True
    size = (op.ints("kernel_shape") or [0])[split.axis - 2 :][0]
    return all(pad < size for out in split.ranges for pad in factor.window.pads(out))
