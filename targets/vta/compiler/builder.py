"""What the operations of a graph become on VTA: layouts of values, and the ends that stages share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.passes.quantize.integer.ops import (
    Clamped,
    Layer,
    Op,
    Product,
)
from optc.passes.quantize.reference import Rounding
from optc.passes.quantize.scales import Code
from optc.targets.vta.compiler.align import Aligned
from optc.targets.vta.compiler.fold import Folded
from optc.targets.vta.compiler.linear import bias_terms
from optc.targets.vta.compiler.requantize import (
    same_plane,
    vector,
)
from optc.targets.vta.compiler.stages import (
    Accumulate,
    Extent,
    Immediate,
    Reset,
    Stage,
    Step,
    Term,
    Vector,
    Write,
)
from optc.targets.vta.compiler.values import (
    Layout,
    Matrices,
    Wide,
    image_layout,
    matrix_layout,
)
from optc.targets.vta.config import Config
from optc.targets.vta.isa import AluOp

Array = NDArray[Any]


_BIAS_STEPS = 2
"""GEMM steps that a bias may take; an ADD of a loaded vector costs two cycles, too, and the LOAD."""


REQUANTIZE = "(the pass 'requantize' approximates it)"
"""What reasons end with that it would remove."""


class Refused(Exception):
    """VTA does not take an operation; the text says why."""


@dataclass
class Builder:
    """Makes stages of operations.

    `shapes`: of every value; `layers`: those that a Sum adds, by their output; `hosted`: values that the host
    makes. Found on the way: `layouts` of values; `aliases`: values that lie in others; `given`: sources that
    are a value in another form (its name, and how); `wide`: values that leave as accumulators,
    and why.
    """

    config: Config
    rounding: Rounding
    shapes: Mapping[str, tuple[int, ...]]
    layers: Mapping[str, Layer]
    layouts: dict[str, Layout] = field(default_factory=dict)
    aliases: dict[str, tuple[str, int]] = field(default_factory=dict)
    hosted: set[str] = field(default_factory=set)
    given: dict[str, tuple[str, Folded | Matrices]] = field(default_factory=dict)
    wide: dict[str, tuple[Wide, str]] = field(default_factory=dict)

    def layout(self, name: str, matrix: bool) -> Layout:
        """The layout of a value; `Refused` where another operation needs another one."""
        return self.laid_out(name, matrix_layout if matrix else image_layout)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a value; `Refused` where VTA has no layout for it."""
        shape = self.shapes.get(name)
        if shape is None:
            raise Refused(f"'{name}' has free dimensions (bind those with --shape)")
        if len(shape) > 4 or 0 in shape:
            raise Refused(f"'{name}' has the shape {list(shape)}")
        return shape

    def laid_out(self, name: str, form: Callable[[tuple[int, ...]], Layout]) -> Layout:
        """The layout of a value, in the form that an operation wants; `Refused` where it has another one."""
        wanted = form(self.shape(name))
        known = self.layouts.setdefault(name, wanted)
        if known != wanted:
            raise Refused(f"'{name}' is needed with its channels on another axis, too")
        return known

    def like(self, names: Sequence[str]) -> bool:
        """Whether channels are last in values that are added: as in the first that is known."""
        for name in names:
            if name in self.layouts:
                shape, known = self.shapes[name], self.layouts[name]
                if known != matrix_layout(shape):
                    return False
                if len(shape) < 2 or known != image_layout(shape):
                    return True
        return len(self.shapes.get(names[0], ())) == 3

    def blocks(self, layout: Layout) -> tuple[int, int]:
        """Blocks of channels, and BLOCK."""
        return layout.extent(self.config).blocks, self.config.block

    def check_code(self, code: Code, name: str) -> None:
        """`Refused` where GEMM cannot multiply the codes."""
        if code.dtype != np.int8:
            raise Refused(f"'{name}' has codes of {code.dtype}; VTA multiplies int8 {REQUANTIZE}")
        if code.zero_point:
            raise Refused(
                f"'{name}' has the zero point {code.zero_point}; on VTA it has to be 0 {REQUANTIZE}"
            )

    def finish(self, op: Op, out: Layout, found: Aligned, bias: Array, target: Clamped, macs: int) -> Stage:
        """Bias and rounding term, the terms, down to codes, out."""
        if target.code.dtype != np.int8:
            raise Refused(f"it writes codes of {target.code.dtype}; VTA writes int8")
        extent, needed = out.extent(self.config), found.needed
        sums = self._sums(extent, found.before, found.terms, bias + needed.add)
        steps = (*sums, *needed.shifts, *needed.clamps, self.write(op.output, out))
        planes = (same_plane(extent.rows, extent.columns),) if needed.scratch or found.scratch else ()
        return Stage(op.output, extent, steps, planes, macs)

    def _sums(
        self, extent: Extent, before: Sequence[Step], terms: Sequence[Term], added: Array
    ) -> list[Step]:
        """From nothing to the terms and, int64 for each channel, `added`."""
        if np.abs(added).max(initial=0) >= 2**31:
            raise Refused("its bias and rounding term overflow int32")
        lanes = vector(added, extent.blocks, self.config.block)
        biases = bias_terms(lanes.reshape(-1), self.config.block, _BIAS_STEPS)
        every = (*(biases or ()), *terms)
        steps: list[Step] = [Reset(), *before]
        if every:
            steps.append(Accumulate(every))
        if biases is None:
            steps.append(Vector(AluOp.ADD, lanes))
        return steps

    def leaving(
        self, op: Layer | Product, out: Layout, term: Term, bound: int, bias: Array, macs: int, reason: str
    ) -> Stage:
        """int32 accumulators out, byte by byte; `reason`: why it is the host that ends them."""
        if bound >= 2**31:
            raise Refused("its sums could overflow int32")
        form = Wide(out, bound.bit_length() // 8 + 1)
        self.wide[op.output] = form, reason
        extent, to = out.extent(self.config), form.extent(self.config)
        steps = self._sums(extent, (), (term,), bias)
        if not any(_everywhere(step, extent.blocks) for step in steps):
            steps.append(Immediate(AluOp.ADD, 0))  # what a reset alone wrote cannot be stored
        for plane in range(form.planes):
            if plane:
                steps.append(Immediate(AluOp.SHR, 8))
            steps.append(Write(op.output, to, plane * extent.blocks))
        return Stage(op.output, extent, tuple(steps), (), macs)

    def write(self, name: str, out: Layout) -> Write:
        """The end of a stage of codes."""
        return Write(name, out.extent(self.config))


def _everywhere(step: Step, blocks: int) -> bool:
    """Whether a step surely writes every element of a tile."""
    if isinstance(step, Accumulate):
        return any(_plain(t) and len(np.unique(t.index[:, 0])) == blocks for t in step.terms)
    return isinstance(step, Vector)


def _plain(term: Term) -> bool:
    return all(a.kernel == 1 and not a.before and not a.transposed for a in (term.y, term.x))
