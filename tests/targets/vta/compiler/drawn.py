"""Hypothesis strategy: quantized networks of a few operations, with branches and parts on the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from qdq import Qdq, codes

from optc.models.model import Model


@dataclass(frozen=True)
class Map:
    """A value: its name, its shape [n, c, y, x], the exponent of its scale."""

    name: str
    shape: tuple[int, int, int, int]
    exponent: int

    @property
    def channels(self) -> int:
        return self.shape[1]


class Writer:
    """Draws operations of one network."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.net = Qdq(draw(st.sampled_from(["half_up", "half_up", "even"])))
        self.rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        self.per_channel = self.net.rounding == "half_up" and draw(st.booleans())

    def one_of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def activated(self, value: str) -> str:
        kind = self.one_of("none", "Relu", "Clip")
        if kind == "Clip":
            bounds = [self.net.constant(v, np.float32) for v in (-20.0, 50.0)]
            return self.net.node("Clip", [value, *bounds])
        return value if kind == "none" else self.net.node(kind, [value])

    def coded(self, value: str, shape: tuple[int, ...], exponent: int) -> Map:
        return Map(self.net.code(value, exponent), shape, exponent)  # type: ignore[arg-type]

    def accumulator(self, x: Map, out: int, kernel: int, group: int, **attributes: Any) -> str:
        weight = codes(self.rng, (out, x.channels // group, kernel, kernel))
        weight *= (self.rng.random((out, 1, 1, 1)) < 0.9).astype(np.int8)
        bits = int(np.log2(max(1, weight[0].size)) / 2) + 7
        exponent: Any = -bits
        if self.per_channel:
            exponent = -bits + self.rng.integers(-1, 2, out)
        bias = self.rng.integers(-5000, 5000, out).astype(np.int32) if self.one_of(True, False) else None
        return self.net.layer("Conv", x.name, weight, exponent, bias, group=group, **attributes)

    def convolution(self, x: Map) -> Map:
        group = self.one_of(1, 1, 1, x.channels)
        out = x.channels if group > 1 else self.one_of(5, 16, 24, 40)
        kernel = self.one_of(1, 3) if min(x.shape[2:]) >= 2 else 1
        stride = self.one_of(1, 1, 2)
        pad = kernel // 2
        found = self.accumulator(x, out, kernel, group, strides=[stride] * 2, pads=[pad] * 4)
        sizes = [(s + 2 * pad - kernel) // stride + 1 for s in x.shape[2:]]
        return self.coded(self.activated(found), (x.shape[0], out, *sizes), x.exponent)

    def residual(self, x: Map) -> Map:
        """A block with a code or a convolution besides; the Add reads the accumulator itself, or its code."""
        inner = self.convolution(x) if self.one_of(True, False) else x
        main = self.accumulator(inner, x.channels, 1, 1) if inner.shape[2:] == x.shape[2:] else x.name
        if main != x.name and self.one_of(True, False):
            main = self.net.code(main, x.exponent + self.one_of(-1, 0, 1))
        side = x.name if self.one_of(True, False) else self.accumulator(x, x.channels, 1, 1)
        operands = [main, side] if self.one_of(True, False) else [side, main]
        return self.coded(
            self.activated(self.net.node("Add", operands)), x.shape, x.exponent + self.one_of(0, 1)
        )

    def concatenation(self, x: Map) -> Map:
        others = [self.convolution(x) for _ in range(self.one_of(1, 2))]
        fitting = [x, *(o for o in others if o.shape[2:] == x.shape[2:])]
        if self.one_of(True, False):
            fitting = fitting[1:] or fitting
        name = self.net.node("Concat", [m.name for m in fitting], axis=1)
        channels = sum(m.channels for m in fitting)
        return self.coded(name, (x.shape[0], channels, *x.shape[2:]), x.exponent)

    def max_pool(self, x: Map) -> Map:
        if min(x.shape[2:]) < 3:
            return x
        kernel, stride, pad = self.one_of((2, 2, 0), (3, 2, 1), (3, 1, 1))
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        sizes = [(s + 2 * pad - kernel) // stride + 1 for s in x.shape[2:]]
        return self.coded(
            self.net.node("MaxPool", [x.name], **attributes), (*x.shape[:2], *sizes), x.exponent
        )

    def average_pool(self, x: Map) -> Map:
        if min(x.shape[2:]) < 3:
            return x
        found = self.net.node("AveragePool", [x.name], kernel_shape=[2, 2], strides=[2, 2])
        return self.coded(found, (*x.shape[:2], *(s // 2 for s in x.shape[2:])), x.exponent)

    def hosted(self, x: Map) -> Map:
        """Something float between two codes."""
        return self.coded(self.net.node("Erf", [x.name]), x.shape, -6)

    def constants(self, x: Map) -> Map:
        """Channel by channel; a Relu behind."""
        op = self.one_of("Add", "Max", "Min")
        values = self.rng.integers(-90, 90, (x.channels, 1, 1))
        found = self.net.node(op, [x.name, self.net.weight(values, x.exponent)])
        return self.coded(self.net.node("Relu", [found]), x.shape, x.exponent)

    def classifier(self, x: Map) -> str:
        found = self.coded(self.net.node("GlobalAveragePool", [x.name]), (*x.shape[:2], 1, 1), x.exponent)
        flat = self.net.code(self.net.node("Flatten", [found.name]), found.exponent)
        weight = codes(self.rng, (x.channels, 10))
        return self.net.code(self.net.layer("Gemm", flat, weight, -9, channels=1), x.exponent)


@st.composite
def quantized_networks(draw: Any, batch: Any = 1, hosted: bool = True) -> Model:
    """A model of one or two inputs and one to three outputs."""
    to = Writer(draw)
    shape = (1, to.one_of(3, 16, 20), to.one_of(6, 9), to.one_of(6, 10))
    maps = [Map(to.net.input((batch, *shape[1:])), shape, 0)]
    steps = [to.convolution, to.convolution, to.residual, to.residual, to.concatenation, to.max_pool]
    steps += [to.average_pool, to.constants, *([to.hosted] if hosted else [])]
    for _ in range(draw(st.integers(2, 6))):
        maps.append(to.one_of(*steps)(to.one_of(*maps[-3:])))
    outputs = [maps[-1].name]
    if to.one_of(True, False):
        outputs.append(to.one_of(*maps[1:]).name)
    if to.one_of(True, False):
        outputs[0] = to.classifier(maps[-1])
    return to.net.model(*dict.fromkeys(outputs))
