"""Pooling of codes. Imports TVM: load it late."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import te

from optc.passes.quantize.integer.ops import AveragePool, MaxPool
from optc.passes.quantize.integer.windows import counts
from optc.passes.quantize.reference import Rounding
from optc.targets.lowering.integer.endings import codes, product64, rounded
from optc.targets.lowering.integer.tensors import at, constants, padded, spatial, under


def emit_max_pool(builder: Any, op: MaxPool, x: Any) -> Any:
    """The largest code in each window."""
    window = op.window

    def pool(x: Any) -> Any:
        source = padded(x, window, op.code.limits[0])
        offsets = [te.reduce_axis((0, k), f"k{i}") for i, k in enumerate(window.kernel)]

        def element(n: Any, c: Any, *position: Any) -> Any:
            return te.max(source[(n, c, *under(window, position, offsets))], axis=offsets)

        return te.compute([*x.shape[:2], *spatial(x, window)], element, name="codes")

    return builder.emit_te(pool, x, primfunc_name_hint="integer_max_pool")


def emit_average_pool(builder: Any, op: AveragePool, x: Any, rounding: Rounding) -> Any:
    """The mean of each window's values, or of each channel's; the spatial sizes are known."""
    sizes = [int(s) for s in x.ty.shape.values[2:]]
    count = np.prod(sizes) if op.window is None else counts(op.window, sizes, op.count_pads)
    divisor = np.asarray(count * np.float64(op.target.code.scale))
    given = constants(scale=np.asarray(op.code.scale), divisor=divisor)
    bound = op.code.reach * int(np.prod(sizes if op.window is None else op.window.kernel))

    def pool(x: Any, given: dict[str, Any]) -> Any:
        total = _sums(op, x)

        def element(*index: Any) -> Any:
            product = product64(total[index], at(given["scale"], index), bound)
            return codes(rounded(product / at(given["divisor"], index), rounding), op.target)

        return te.compute(total.shape, element, name="codes")

    return builder.emit_te(pool, x, given, primfunc_name_hint="integer_average_pool")


def _sums(op: AveragePool, x: Any) -> Any:
    """int32 sums of the codes less their zero point."""
    zero, sizes = op.code.zero_point, x.shape[2:]
    kernel = sizes if op.window is None else op.window.kernel
    offsets = [te.reduce_axis((0, k), f"k{i}") for i, k in enumerate(kernel)]
    source = x if op.window is None else padded(x, op.window, zero)

    def element(n: Any, c: Any, *position: Any) -> Any:
        inside = offsets if op.window is None else under(op.window, position, offsets)
        return te.sum(source[(n, c, *inside)].astype("int32") - zero, axis=offsets)

    spread = [1] * len(sizes) if op.window is None else spatial(x, op.window)
    return te.compute([*x.shape[:2], *spread], element, name="sums")
