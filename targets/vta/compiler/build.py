"""Integer operations as stages; what VTA does not take gets a reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.passes.quantize.integer.ops import (
    AveragePool,
    Channelwise,
    Clamped,
    Concat,
    Layer,
    MaxPool,
    Move,
    Op,
    Product,
    Shifted,
    Sum,
    ToAccumulator,
    Window,
)
from optc.passes.quantize.integer.sums import exponents
from optc.passes.quantize.integer.windows import counts, padding
from optc.passes.quantize.reference import Rounding, rounded
from optc.passes.quantize.scales import Code
from optc.targets.vta.compiler.align import Aligned, Part, aligned
from optc.targets.vta.compiler.fold import Folded, fold
from optc.targets.vta.compiler.linear import bias_terms, convolution, diagonal, every_block, placement
from optc.targets.vta.compiler.requantize import (
    Requantization,
    requantization,
    same_plane,
    shift_left,
    vector,
)
from optc.targets.vta.compiler.stages import (
    Accumulate,
    Axis,
    Combine,
    Extent,
    Immediate,
    Plane,
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
    stack_layout,
)
from optc.targets.vta.config import Config
from optc.targets.vta.isa import AluOp

Array = NDArray[Any]

_BIAS_STEPS = 2
"""GEMM steps that a bias may take; an ADD of a loaded vector costs two cycles, too, and the LOAD."""


_LARGEST_FACTOR = 127 * 128
"""Of a mean: two digits that are weights."""


_REQUANTIZE = "(the pass 'requantize' approximates it)"


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

    def stage(self, op: Op) -> Stage | None:
        """The stage of `op`; None for an accumulator, which the stage of its Sum makes. Raises `Refused`."""
        make: dict[type[Op], Callable[[Any], Stage | None]] = {
            Layer: self._layer,
            Product: self._product,
            Sum: self._sum,
            MaxPool: self._max_pool,
            AveragePool: self._average_pool,
            Concat: self._concat,
            Channelwise: self._channelwise,
            Move: self._move,
        }
        if type(op) not in make:
            raise Refused(f"VTA has no form of {type(op).__name__}")
        return make[type(op)](op)

    # What values look like

    def layout(self, name: str, matrix: bool) -> Layout:
        """The layout of a value; `Refused` where another operation needs another one."""
        return self._layout(name, matrix_layout if matrix else image_layout)

    def _shape(self, name: str) -> tuple[int, ...]:
        shape = self.shapes.get(name)
        if shape is None:
            raise Refused(f"'{name}' has free dimensions (bind those with --shape)")
        if len(shape) > 4 or 0 in shape:
            raise Refused(f"'{name}' has the shape {list(shape)}")
        return shape

    def _layout(self, name: str, form: Callable[[tuple[int, ...]], Layout]) -> Layout:
        wanted = form(self._shape(name))
        known = self.layouts.setdefault(name, wanted)
        if known != wanted:
            raise Refused(f"'{name}' is needed with its channels on another axis, too")
        return known

    def _like(self, names: Sequence[str]) -> bool:
        """Whether channels are last in values that are added: as in the first that is known."""
        for name in names:
            if name in self.layouts:
                shape, known = self.shapes[name], self.layouts[name]
                if known != matrix_layout(shape):
                    return False
                if len(shape) < 2 or known != image_layout(shape):
                    return True
        return len(self.shapes.get(names[0], ())) == 3

    def _blocks(self, layout: Layout) -> tuple[int, int]:
        return layout.extent(self.config).blocks, self.config.block

    # Layers

    def _layer(self, op: Layer) -> Stage | None:
        if isinstance(op.ending, ToAccumulator):
            self._linear(op)
            return None
        out = self.layout(op.output, op.window is None)
        return self._ended(op, out, self._linear(op), op.bound, self._bias(op, out), self._macs(op))

    def accumulator(self, op: Layer) -> Stage:
        """A layer's accumulators, for a Sum that is the host's. Raises `Refused`."""
        out = self.layout(op.output, op.window is None)
        bias, macs = self._bias(op, out), self._macs(op)
        return self._wide(op, out, self._linear(op), op.bound, bias, macs, "its sum is the host's")

    def _ended(
        self, op: Layer | Product, out: Layout, term: Term, bound: int, bias: Array, macs: int
    ) -> Stage:
        """Codes where a shift makes them, else accumulators that the host ends."""
        try:
            ending = op.ending
            if not isinstance(ending, Shifted):
                raise Refused(_ENDINGS[type(ending).__name__])
            found = requantization(ending.bits, ending.target, self.rounding, bound, self._blocks(out))
            needed = _or_refused(found)
            return self._finish(op, out, Aligned((), (term,), needed), bias, ending.target, macs)
        except Refused as error:
            return self._wide(op, out, term, bound, bias, macs, str(error))

    def _macs(self, op: Layer) -> int:
        """Multiply-accumulates of a layer."""
        if op.window is not None and op.window.transposed:
            return math.prod(self.shapes[op.inputs[0]]) * int(op.weight[:, 0].size // op.group)
        places = int(np.prod(self.shapes[op.output])) // int(op.weight.shape[0 if op.window else -1])
        return places * int(op.weight.size)

    def _linear(self, op: Layer) -> Term:
        """The layer without its bias."""
        if op.weight.dtype != np.int8 and not (op.weight.min() >= -128 and op.weight.max() <= 127):
            raise Refused("its weights are not int8")
        source = self.layout(op.inputs[0], op.window is None)
        self._check_code(op.code, op.inputs[0])
        block = self.config.block
        if op.window is None:
            if op.weight.ndim != 2:
                raise Refused("its weights are a stack of matrices")
            weight = op.weight.T[:, :, None, None]
            n, _, y, x = source.sizes
            axes = Axis(y), Axis(x)
        else:
            weight = op.weight if op.weight.ndim == 4 else op.weight[:, :, None]
            axes = self._axes(op.window, op.inputs[0])
            plain = op.group == 1 and len(op.window.kernel) == 2 and not op.window.transposed
            if op.inputs[0] in self.hosted and plain:
                found = fold(weight, op.window, source.shape, block)
                if found is not None:
                    return self._folded(op.inputs[0], *found)
        index, blocks = convolution(weight, op.group, block)
        return Term(op.inputs[0], source.extent(self.config), *axes, index, blocks)

    def _folded(self, name: str, layout: Folded, weight: Array, axes: tuple[Axis, Axis]) -> Term:
        """A convolution of a value that the host folds."""
        known = [s for s, f in self.given.items() if f == (name, layout)]
        source = known[0] if known else f"{name} folded {len(self.given)}"
        self.given[source] = name, layout
        index, blocks = convolution(weight, 1, self.config.block)
        return Term(source, layout.extent(self.config), *axes, index, blocks)

    def _axes(self, window: Window, name: str) -> tuple[Axis, Axis]:
        """Rows and columns of a window over a value of one or two spatial axes."""
        rank = len(window.kernel)
        if rank > 2:
            raise Refused(f"its window has {rank} axes")
        sizes = self.shapes[name][2:]
        pads = padding(window, sizes)
        axes = [
            Axis(size, kernel, stride, dilation, before, window.transposed)
            for size, kernel, stride, dilation, (before, _) in zip(
                sizes, window.kernel, window.strides, window.dilations, pads, strict=True
            )
        ]
        return (axes[0], axes[1]) if rank == 2 else (Axis(1), axes[0])

    def _check_code(self, code: Code, name: str) -> None:
        if code.dtype != np.int8:
            raise Refused(f"'{name}' has codes of {code.dtype}; VTA multiplies int8 {_REQUANTIZE}")
        if code.zero_point:
            raise Refused(
                f"'{name}' has the zero point {code.zero_point}; on VTA it has to be 0 {_REQUANTIZE}"
            )

    def _bias(self, op: Layer, out: Layout) -> Array:
        """int64, one a channel of the output."""
        channels = out.sizes[1]
        if op.bias is None:
            return np.zeros(channels, np.int64)
        return np.broadcast_to(np.asarray(op.bias, np.int64).reshape(-1), channels).astype(np.int64)

    def _product(self, op: Product) -> Stage:
        """MatMul of two activations: the host gives the second as weight blocks, for each image its own."""
        left, right = (self._shape(n) for n in op.inputs)
        for code, name in zip(op.codes, op.inputs, strict=True):
            self._check_code(code, name)
        if len(left) < 2 or len(right) < 2 or right[:-2] != left[:-2]:
            raise Refused("its operands are not two stacks of as many matrices")
        images, length = math.prod(right[:-2]), right[-2]
        if self.config.batch > 1 and images > 1:
            raise Refused("a BATCH of more than one multiplies all of its samples by the same matrix")
        source, out = self._layout(op.inputs[0], stack_layout), self._layout(op.output, stack_layout)
        form = Matrices(right)
        name = f"{op.inputs[1]} as weights"
        self.given[name] = op.inputs[1], form
        index, operand = every_block(name, form, self.config)
        term = Term(op.inputs[0], source.extent(self.config), Axis(1), Axis(left[-2]), index, operand)
        bias = np.zeros(out.sizes[1], np.int64)
        return self._ended(op, out, term, 128 * 128 * length, bias, math.prod(left) * right[-1])

    # Sums

    def _sum(self, op: Sum) -> Stage:
        matrix = self._like([*op.inputs, op.output])
        accumulators = [self.layers[n] for n in op.inputs if n in self.layers]
        if accumulators:
            matrix = accumulators[0].window is None
        out = self.layout(op.output, matrix)
        scales = [exponents(t.scale) for t in op.terms]
        target = exponents(np.asarray(op.target.code.scale))
        known = [s for s in scales if s is not None]
        if target is None or len(known) < len(scales):
            raise Refused(f"its scales are not powers of two {_REQUANTIZE}")
        finest = np.asarray(np.minimum.reduce(np.broadcast_arrays(*known)))
        channels = out.sizes[1]
        lefts = [_per_channel(e - finest, channels) for e in known]
        bits = _per_channel(target - finest, channels)
        bound = float(
            np.max(
                sum(
                    t.bound * np.ldexp(1.0, np.minimum(left, 64))
                    for t, left in zip(op.terms, lefts, strict=True)
                )
            )
        )
        if bound >= 2**30:
            raise Refused("its sum, brought to the finest scale, could overflow int32")
        needed = _or_refused(requantization(bits, op.target, self.rounding, bound, self._blocks(out)))
        bias = np.zeros(channels, np.int64)
        parts: list[Part] = []
        macs = 0
        for name, term, left in zip(op.inputs, op.terms, lefts, strict=True):
            if term.zero_point:
                raise Refused(f"'{name}' has the zero point {term.zero_point}; on VTA it has to be 0")
            if name in self.layers:
                layer = self.layers[name]
                parts.append(Part(self._linear(layer), left, term.bound))
                bias += self._bias(layer, out) << left
                macs += self._macs(layer)
            else:
                parts.append(Part(self._identity(name, op, out), left, term.bound))
        parts.sort(key=lambda p: len(p.term.index))  # small loads fit behind the passes of the tile before
        found = aligned(parts, bits, needed, self.rounding == "half_up", self._blocks(out))
        if isinstance(found, str):
            raise Refused(found)
        return self._finish(op, out, found, bias, op.target, macs)

    def _identity(self, name: str, op: Op, out: Layout) -> Term:
        """A value as it is, spread over places where it has size 1."""
        shape = self.shapes.get(name)
        rank = len(self.shapes[op.output])
        if shape is None or len(shape) != rank:
            raise Refused(f"'{name}' has another rank than the sum")
        source = self.layout(name, out == matrix_layout(out.shape))
        n, c, y, x = source.sizes
        if c != out.sizes[1] or n not in (1, out.sizes[0]) or (n != out.sizes[0] and self.config.batch > 1):
            raise Refused(f"'{name}' is spread over channels or samples")
        axes = [
            Axis(size) if size == to else Axis(1, stride=0)
            for size, to in zip((y, x), out.sizes[2:], strict=True)
        ]
        extent = source.extent(self.config)
        index, weights = diagonal(np.asarray(1), extent.blocks, self.config.block)
        return Term(name, extent, axes[0], axes[1], index, weights)

    # Pooling and moving

    def _max_pool(self, op: MaxPool) -> Stage:
        self._check_code(op.code, op.inputs[0])
        source, out = self.layout(op.inputs[0], False), self.layout(op.output, False)
        y, x = self._axes(op.window, op.inputs[0])
        extent = source.extent(self.config)
        index, weights = diagonal(np.asarray(1), extent.blocks, self.config.block)
        rows, columns = source.sizes[2:]
        term = Term(op.inputs[0], extent, Axis(rows), Axis(columns), index, weights)
        steps = (
            Reset(1),
            Reset(),
            Immediate(AluOp.ADD, -128),
            Accumulate((term,), 1),
            Combine(AluOp.MAX, 1),
            self._write(op.output, out),
        )
        return Stage(self._label(op), out.extent(self.config), steps, (Plane(y, x),))

    def _average_pool(self, op: AveragePool) -> Stage:
        self._check_code(op.code, op.inputs[0])
        source, out = self.layout(op.inputs[0], False), self.layout(op.output, False)
        rows, columns = source.sizes[2:]
        if op.window is None:
            y, x = Axis(rows, rows), Axis(columns, columns)
            count = rows * columns
        else:
            y, x = self._axes(op.window, op.inputs[0])
            n = counts(op.window, self.shapes[op.inputs[0]][2:], op.count_pads)
            if (n != n.reshape(-1)[0]).any():
                raise Refused("its divisor varies at the border")
            count = int(n.reshape(-1)[0])
        bits = exponents(np.asarray(np.float64(op.target.code.scale) / np.float64(op.code.scale)))
        if bits is None:
            raise Refused(f"its scales are not powers of two {_REQUANTIZE}")
        taps = y.kernel * x.kernel
        factor, shift, add = _mean(count, taps, int(bits), op.target, self.rounding)
        extent = source.extent(self.config)
        bound, blocks = float(taps * 128 * factor), self._blocks(out)
        needed = _or_refused(requantization(np.asarray(shift), op.target, "half_up", bound, blocks))
        needed = replace(needed, add=np.asarray(add))
        high, low = _digits(factor)
        terms: list[Term] = []
        taps_of = (y.kernel, x.kernel)
        for digit in (high, low):
            index, weights = diagonal(np.asarray(digit), extent.blocks, self.config.block, taps_of)
            terms.append(Term(op.inputs[0], extent, y, x, index, weights))
        before = (Accumulate((terms[0],)), *shift_left(7)) if high else ()
        found = Aligned(before, (terms[1],) if low else (), needed)
        return self._finish(op, out, found, np.zeros(out.sizes[1], np.int64), op.target, 0)

    def _channelwise(self, op: Channelwise) -> Stage:
        matrix = self._like([op.inputs[0], op.output])
        self._check_code(op.code, op.inputs[0])
        out = self.layout(op.output, matrix)
        if op.inputs[0] in self.hosted and 2 * out.sizes[1] <= self.config.block:
            raise Refused("the host has its input, of few channels, and packs its output for the next layer")
        term = self._identity(op.inputs[0], op, out)
        steps = (Reset(), Accumulate((term,)), *self.channel_steps(op))
        return Stage(self._label(op), out.extent(self.config), steps)

    def channel_steps(self, op: Channelwise) -> tuple[Step, ...]:
        """From the input's codes in ACC to the output's, and out."""
        out = self.layouts[op.output]
        low, high = op.code.limits
        steps: list[Step] = []
        if op.add is not None:
            steps.append(self._by_channel(AluOp.ADD, op.add, out))
        if op.low.max() > low or (op.add is not None and op.add.min() < 0):
            steps.append(self._by_channel(AluOp.MAX, op.low, out))
        if op.high.min() < high or (op.add is not None and op.add.max() > 0):
            steps.append(self._by_channel(AluOp.MIN, op.high, out))
        if not steps:
            steps.append(Immediate(AluOp.MAX, low))
        return (*steps, self._write(op.output, out))

    def _by_channel(self, op: AluOp, values: Array, out: Layout) -> Step:
        flat = np.asarray(values).reshape(-1)
        if flat.size not in (1, out.sizes[1]):
            raise Refused("its constants are not one for each channel")
        if (flat == flat[0]).all():
            return Immediate(op, int(flat[0]))
        extent = out.extent(self.config)
        return Vector(op, vector(flat, extent.blocks, self.config.block))

    def _move(self, op: Move) -> Stage | None:
        """Nothing to do where the output's elements are the input's, from some block on."""
        if op.op == "Slice":
            return self._slice(op)
        if not self._plain(op):
            raise Refused(f"{op.op} moves values between lanes")
        matrix = self._like([op.inputs[0], op.output])
        source, out = self.layout(op.inputs[0], matrix), self.layout(op.output, matrix)
        if source.extent(self.config) != out.extent(self.config) or source.sizes[1] != out.sizes[1]:
            raise Refused(f"{op.op} moves values between lanes")
        self.aliases[op.output] = (op.inputs[0], 0)
        return None

    def _slice(self, op: Move) -> Stage | None:
        """Whole blocks of channels where they are; else channels, rows and columns are picked."""
        matrix = self._like([op.inputs[0], op.output])
        source, out = self.layout(op.inputs[0], matrix), self.layout(op.output, matrix)
        cuts = sliced(op, source.shape)
        if isinstance(cuts, str):
            raise Refused(cuts)
        if 0 in cuts or out.sizes[0] != source.sizes[0]:
            raise Refused("it selects samples")
        c, y, x = (source.along(group, cuts) for group in (1, 2, 3))
        extent = source.extent(self.config)
        kept = out.sizes[2:] == source.sizes[2:]
        if kept and c[1] == 1 and c[0] % self.config.block == 0 and extent.images == 1:
            self.aliases[op.output] = (op.inputs[0], c[0] // self.config.block * extent.plane)
            return None
        chosen = np.eye(source.sizes[1], dtype=np.int8)[c[0] :: c[1]][: out.sizes[1]]
        index, weights = convolution(chosen[:, :, None, None], 1, self.config.block)
        axes = [
            Axis(size, stride=step, before=-first)
            for size, (first, step) in zip(source.sizes[2:], (y, x), strict=True)
        ]
        term = Term(op.inputs[0], extent, axes[0], axes[1], index, weights)
        steps = (Reset(), Accumulate((term,)), self._write(op.output, out))
        return Stage(self._label(op), out.extent(self.config), steps)

    def _plain(self, op: Move) -> bool:
        """Whether no value changes its place among samples and channels, and there are no others."""
        shapes = (self._shape(op.inputs[0]), self._shape(op.output))
        return all(len(s) > 1 and s[0] == 1 and s[1] == int(np.prod(s)) for s in shapes)

    def places(self, op: Concat) -> list[int] | None:
        """From which element of the output each operand would lie, if they are written there at once."""
        out = self.layouts[op.output]
        if out.extent(self.config).images > 1:
            return None
        at, found = 0, []
        for name in op.inputs:
            if at % self.config.block:
                return None
            found.append(at // self.config.block * out.extent(self.config).plane)
            at += self.layouts[name].sizes[1]
        return found

    def _concat(self, op: Concat) -> Stage:
        rank = len(self.shapes[op.output])
        matrix = self._like([*op.inputs, op.output])
        out = self.layout(op.output, matrix)
        if op.axis % rank not in out.axes[1]:
            raise Refused("it is not along channels")
        terms: list[Term] = []
        first = 0
        for name, code in zip(op.inputs, op.codes, strict=True):
            self._check_code(code, name)
            if code != op.code:
                raise Refused("its operands have different codes")
            source = self.layout(name, matrix)
            index, weights = placement(source.sizes[1], first, self.config.block)
            rows, columns = source.sizes[2:]
            terms.append(Term(name, source.extent(self.config), Axis(rows), Axis(columns), index, weights))
            first += source.sizes[1]
        steps = (Reset(), Accumulate(tuple(terms)), self._write(op.output, out))
        return Stage(self._label(op), out.extent(self.config), steps)

    # The end of a stage

    def _finish(self, op: Op, out: Layout, found: Aligned, bias: Array, target: Clamped, macs: int) -> Stage:
        """Bias and rounding term, the terms, down to codes, out."""
        if target.code.dtype != np.int8:
            raise Refused(f"it writes codes of {target.code.dtype}; VTA writes int8")
        extent, needed = out.extent(self.config), found.needed
        sums = self._sums(extent, found.before, found.terms, bias + needed.add)
        steps = (*sums, *needed.shifts, *needed.clamps, self._write(op.output, out))
        planes = (same_plane(extent.rows, extent.columns),) if needed.scratch or found.scratch else ()
        return Stage(self._label(op), extent, steps, planes, macs)

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

    def _wide(
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
        return Stage(self._label(op), extent, tuple(steps), (), macs)

    def _write(self, name: str, out: Layout) -> Write:
        return Write(name, out.extent(self.config))

    def _label(self, op: Op) -> str:
        return op.output


_ENDINGS = {
    "Scaled": f"its scales are not powers of two {_REQUANTIZE}",
    "Biased": "its bias is no integer of the accumulator's scale",
    "ToFloat": "its result is float",
}


def sliced(op: Move, shape: tuple[int, ...]) -> dict[int, tuple[int, int]] | str:
    """First index and step of each axis that a Slice cuts, or why that cannot be told."""
    starts, ends, axes, steps = [*op.parameters, "", ""][:4]
    values = [op.constants.get(n) for n in (starts, ends, axes, steps)]
    if any(v is None and name for v, name in zip(values, (starts, ends, axes, steps), strict=True)):
        return "its bounds are computed at run time"
    assert values[0] is not None and values[1] is not None
    count = len(values[0])
    which = range(count) if values[2] is None else [int(a) % len(shape) for a in values[2]]
    by = [1] * count if values[3] is None else [int(s) for s in values[3]]
    if min(by, default=1) < 1:
        return "it runs backwards"
    bounds = zip(values[0].tolist(), values[1].tolist(), by, which, strict=True)
    return {axis: (slice(a, b, s).indices(shape[axis])[0], s) for a, b, s, axis in bounds}


def _everywhere(step: Step, blocks: int) -> bool:
    """Whether a step surely writes every element of a tile."""
    if isinstance(step, Accumulate):
        return any(_plain(t) and len(np.unique(t.index[:, 0])) == blocks for t in step.terms)
    return isinstance(step, Vector)


def _plain(term: Term) -> bool:
    return all(a.kernel == 1 and not a.before and not a.transposed for a in (term.y, term.x))


def _per_channel(values: Array, channels: int) -> Array:
    flat = np.asarray(values, np.int64).reshape(-1)
    return np.broadcast_to(flat, channels).astype(np.int64)


def _or_refused(found: Requantization | str) -> Requantization:
    if isinstance(found, str):
        raise Refused(found)
    return found


def _digits(factor: int) -> tuple[int, int]:
    """`factor` as high * 2^7 + low, both int8."""
    if factor <= 127:
        return 0, factor
    high = (factor + 64) >> 7
    return high, factor - (high << 7)


def _mean(count: int, taps: int, bits: int, target: Clamped, rounding: Rounding) -> tuple[int, int, int]:
    """Factor, shift, and what to add before it: they give the codes of sum / (count * 2^bits) for all sums.

    The sums are those of `taps` codes. What is added is half, or what keeps an inexact factor from missing
    ties.
    """
    sums = np.arange(-128 * taps, 127 * taps + 1, dtype=np.int64)
    low, high = target.low - target.code.zero_point, target.high - target.code.zero_point
    wanted = np.clip(rounded(sums / (count * 2.0**bits), rounding), low, high).astype(np.int64)
    for shift in range(max(bits, 1), 31):
        factor = round(2.0 ** (shift - bits) / count)
        if factor == 0:
            continue
        if factor > _LARGEST_FACTOR or (128 * taps + 1) * factor + (1 << shift) >= 2**31:
            break
        least = ((wanted << shift) - sums * factor)[wanted > low].max(initial=-(2**30))
        most = ((wanted + 1 << shift) - 1 - sums * factor)[wanted < high].min(initial=2**30)
        if least <= most:
            return factor, shift, int(np.clip(1 << (shift - 1), least, most))
    raise Refused(f"no multiplier and shift gives the mean of {count} exactly")
