"""The layouts that a node can run in: those of its indices, cut evenly or as somebody else says."""

from __future__ import annotations

from collections.abc import Callable

from optc.passes.partition.sharding.factor import Factor, even
from optc.passes.partition.sharding.layout import Layout, Split
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


def allows(op: Op, layout: Layout) -> bool:
    """Whether a node can run in `layout`, whatever its ranges are."""
    return completed(op, layout) == layout


def completed(op: Op, layout: Layout) -> Layout | None:
    """The layout with the axes of `layout` in which a node can run, None where there is none.

    The ranges of what it writes are those of `layout`, and where terms are summed also those of what it
    reads. Other ranges of `layout` do not count: what is read follows from what is written.
    """
    if layout == whole(op):
        return layout
    if layout.reduce and not _lies(op, layout):
        return None
    axes = _axes(layout)
    every = (_cut_as(op, factor, layout) for factor in factors(op) if factor.reduce == layout.reduce)
    return next((found for found in every if found is not None and _axes(found) == axes), None)


def _axes(layout: Layout) -> list[int | None]:
    """The axes along which inputs and outputs are split."""
    specs = (*layout.inputs, None, *layout.outputs)
    return [None if spec is None else spec.axis for spec in specs]


def _lies(op: Op, layout: Layout) -> bool:
    """Whether the sum of terms can lie as `layout` says."""
    if len(layout.outputs) != len(op.outs):
        return False
    (spec, *others), shape = layout.outputs, op.outs[0]
    if spec is None or shape is None or others or not 0 <= spec.axis < len(shape):
        return spec is None
    count = next((len(read.ranges) for read in layout.inputs if read is not None), 0)
    return len(spec.ranges) == count and _cuts(spec, shape[spec.axis]) is not None


def _cut_as(op: Op, factor: Factor, layout: Layout) -> Layout | None:
    """`factor` cut as `layout` says for the first axis that it runs along, None where it cannot be."""
    if factor.outputs:
        place, axis = next(iter(factor.outputs.items()))
        specs, shapes = layout.outputs, op.outs
    else:
        place, axis = next(iter(factor.inputs.items()))
        specs, shapes = layout.inputs, op.ins
    spec, shape = specs[place] if place < len(specs) else None, shapes[place]
    assert shape is not None, "a factor has the size of its axes"
    cuts = None if spec is None else _cuts(spec, shape[axis])
    size = shape[axis]
    if cuts is None or not isinstance(size, int) or any(cut * factor.units % size for cut in cuts):
        return None
    found = factor.layout(op, [cut * factor.units // size for cut in cuts])
    if found is None or not _sound(op, factor, found):
        return None
    return Layout(found.inputs, layout.outputs, True) if factor.reduce else found


def _cuts(spec: Split, size: object) -> list[int] | None:
    """The ends of the ranges from 0 to `size`, None where they do not cover an axis of that size."""
    cuts = [0, *(stop for _, stop in spec.ranges)]
    followed = all(range_ == (a, b) for range_, a, b in zip(spec.ranges, cuts[:-1], cuts[1:], strict=True))
    return cuts if followed and cuts == sorted(set(cuts)) and cuts[-1] == size else None


def _sound(op: Op, factor: Factor, layout: Layout) -> bool:
    """Whether ONNX Runtime takes what the devices see: it wants a pool's padding below the pool's size."""
    split = layout.outputs[0]
    if factor.window is None or split is None or op.kind not in POOLS:
        return True
    size = (op.ints("kernel_shape") or [0])[split.axis - 2 :][0]
    return all(pad < size for out in split.ranges for pad in factor.window.pads(out))
