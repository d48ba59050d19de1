"""Factors of convolution and pooling: channels, groups, input channels whose terms are summed, halos."""

from __future__ import annotations

from collections.abc import Iterator

from optc.passes.partition.sharding.factor import Factor, factor
from optc.passes.partition.sharding.op import Op
from optc.passes.partition.sharding.rules_linear import bias_once
from optc.passes.partition.sharding.window import windows

POOLS = ("AveragePool", "LpPool", "MaxPool")


def convolution(op: Op) -> Iterator[Factor]:
    """Conv and ConvTranspose; W is [M, C / group, ...], transposed [C, M / group, ...]."""
    transposed = op.kind == "ConvTranspose"
    groups = int(op.attrs.get("group", 1))
    bias = {2: 0} if 2 in op.given else {}
    yield from factor(op, {0: 0}, {0: 0})
    if groups == 1:
        yield from factor(op, {1: 1 if transposed else 0} | bias, {0: 1})
        if bias_once(op):
            yield from factor(op, {0: 1, 1: 0 if transposed else 1}, {}, reduce=True)
    else:
        yield from factor(op, {0: 1, 1: 0} | bias, {0: 1}, units=groups)
    if "output_shape" not in op.attrs:
        yield from _spatial(op)


def pool(op: Op) -> Iterator[Factor]:
    """MaxPool, AveragePool, LpPool: each channel by itself, spatial axes with a halo."""
    if len(op.outs) > 1:
        return  # MaxPool's indices count in the whole input
    for axis in (0, 1):
        yield from factor(op, {0: axis}, {0: axis})
    counted = op.kind == "AveragePool" and op.attrs.get("count_include_pad", 0)
    if not (counted and op.attrs.get("ceil_mode", 0)):
        yield from _spatial(op)


def global_pool(op: Op) -> Iterator[Factor]:
    """GlobalAveragePool and GlobalMaxPool: each channel by itself."""
    for axis in (0, 1):
        yield from factor(op, {0: axis}, {0: axis})


def _spatial(op: Op) -> Iterator[Factor]:
    found = windows(op)
    numbers = op.attrs.get("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    if not numbers and None in found:
        return  # a device has its pads as numbers
    for axis, window in enumerate(found, start=2):
        if window is not None:
            for found_factor in factor(op, {}, {0: axis}):
                yield Factor({0: axis}, {0: axis}, found_factor.units, window=window)
