"""What the compiler schedules: stages, each a computation over the elements of an output.

A tensor in DRAM is [images, blocks, rows, columns] of elements (BATCH × BLOCK values each). A stage makes an
output tile by tile: it accumulates terms (sparse convolutions of tensors), works on the sums in ACC, and
writes the low 8 bits. Everything linear is a term: convolutions, residual additions, biases, average pooling,
concatenation, moves of lanes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from optc.targets.vta.isa import AluOp

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Extent:
    """The size of a tensor in elements."""

    images: int
    blocks: int
    rows: int
    columns: int

    @property
    def plane(self) -> int:
        """Elements of one block of one image."""
        return self.rows * self.columns

    @property
    def elements(self) -> int:
        """All of them."""
        return self.images * self.blocks * self.plane


class Run(NamedTuple):
    """Outputs `first + i * step` read source positions `source + i * source_step`, for i < number."""

    first: int
    step: int
    number: int
    source: int
    source_step: int


@dataclass(frozen=True)
class Axis:
    """How outputs along an axis read the `size` positions of the source: output o, tap k.

    A window: position `o * stride + k * dilation - before`; what lies outside reads nothing. `transposed`:
    the position i with `o = i * stride + k * dilation - before`. `stride` 0: every output reads position 0.
    """

    size: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0
    transposed: bool = False

    def run(self, tap: int, low: int, high: int) -> Run | None:
        """What `tap` reads for the outputs from `low` to before `high`; None where it reads nothing."""
        offset = tap * self.dilation - self.before
        if self.stride == 0:
            return Run(low, 1, high - low, 0, 0)
        if self.transposed:
            first = max(0, -(-(low - offset) // self.stride))
            last = min(self.size - 1, (high - 1 - offset) // self.stride)
            return (
                Run(first * self.stride + offset, self.stride, last - first + 1, first, 1)
                if last >= first
                else None
            )
        first = max(low, -(offset // self.stride))
        last = min(high - 1, (self.size - 1 - offset) // self.stride)
        if last < first:
            return None
        return Run(first, 1, last - first + 1, first * self.stride + offset, self.stride)

    @property
    def skip(self) -> int:
        """Every how many-th source position is read at all."""
        return self.stride if self.kernel == 1 and not self.transposed and self.stride else 1

    def span(self, low: int, high: int, skip: int = 0) -> tuple[int, int]:
        """The source positions, first and how many (`skip` apart), that these outputs read."""
        return _span(self, low, high, skip or self.skip)


@lru_cache(maxsize=1 << 16)
def _span(axis: Axis, low: int, high: int, skip: int) -> tuple[int, int]:
    runs = [r for k in range(axis.kernel) if (r := axis.run(k, low, high))]
    if not runs:
        return 0, 0
    first = min(r.source for r in runs)
    last = max(r.source + (r.number - 1) * r.source_step for r in runs)
    return first, (last - first) // skip + 1


@dataclass(frozen=True)
class Operand:
    """Weight blocks that are a value: a tensor in DRAM with `blocks` of them for each image."""

    source: str
    extent: Extent
    blocks: int

    def __len__(self) -> int:
        return self.blocks


@dataclass(frozen=True, eq=False)
class Term:
    """A sparse convolution.

    Output block o gains, for each row (o, i, ky, kx, w) of `index`, `weights[w]` times source block
    `first_block + i` where taps ky and kx read it.

    `index`: (n, 5); `weights`: int8 (m, BLOCK out, BLOCK in), or an operand's. Zero blocks have no row.
    `kin`: terms of one name, which are parts of one, come into the same slots on the chip.
    """

    source: str
    extent: Extent
    y: Axis
    x: Axis
    index: Index
    weights: NDArray[np.int8] | Operand
    first_block: int = 0
    kin: str = ""

    @property
    def reads(self) -> tuple[tuple[str, Extent], ...]:
        """The tensors in DRAM that it reads, but for constants."""
        operand = self.weights
        own = ((self.source, self.extent),)
        return (*own, (operand.source, operand.extent)) if isinstance(operand, Operand) else own

    @property
    def constants(self) -> NDArray[np.int8]:
        """The weights, which are no operand's."""
        assert not isinstance(self.weights, Operand)
        return self.weights

    @cached_property
    def in_blocks(self) -> Index:
        """The source blocks that are read, ascending."""
        return np.unique(self.index[:, 1])


@dataclass(frozen=True)
class Plane:
    """ACC elements beside an output tile: of each block, what `y` and `x` span for the tile's outputs."""

    y: Axis
    x: Axis


@dataclass(frozen=True, eq=False)
class Reset:
    """Zeros."""

    plane: int = 0


@dataclass(frozen=True, eq=False)
class Accumulate:
    """Add terms to a plane."""

    terms: tuple[Term, ...]
    plane: int = 0


@dataclass(frozen=True, eq=False)
class Immediate:
    """op(x, value) on each value of a plane."""

    op: AluOp
    value: int
    plane: int = 0


@dataclass(frozen=True, eq=False)
class Vector:
    """op(x, values[channel]) on each value of a plane; int32 (blocks, BLOCK)."""

    op: AluOp
    values: NDArray[np.int32]
    plane: int = 0


@dataclass(frozen=True, eq=False)
class Combine:
    """op(x, y) of plane `plane` and, window tap by tap, plane `source`."""

    op: AluOp
    source: int
    plane: int = 0


@dataclass(frozen=True, eq=False)
class Write:
    """The low 8 bits of plane 0 to blocks of a tensor in DRAM, from `first_block` on.

    `blocks`: the stage's blocks are these ones of those, ascending, where they are not all of them.
    """

    target: str
    extent: Extent
    first_block: int = 0
    blocks: tuple[int, ...] = ()


Step = Reset | Accumulate | Immediate | Vector | Combine | Write


@dataclass(frozen=True, eq=False)
class Stage:
    """Steps over each tile of an output of `extent`; `planes`: beside plane 0, the tile itself.

    `label`: the operation that a person knows it by; `macs`: multiply-accumulates that the model asks for.
    """

    label: str
    extent: Extent
    steps: tuple[Step, ...]
    planes: tuple[Plane, ...] = ()
    macs: int = 0
    terms: tuple[Term, ...] = field(init=False)

    def __post_init__(self) -> None:
        terms = tuple(t for s in self.steps if isinstance(s, Accumulate) for t in s.terms)
        object.__setattr__(self, "terms", terms)

    @cached_property
    def slots(self) -> tuple[int, ...]:
        """For each term the first one whose slots on the chip it shares; its own number for most."""
        kin = [t.kin for t in self.terms]
        return tuple(kin.index(k) if k else n for n, k in enumerate(kin))

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """The steps with a constant for each channel."""
        return tuple(s for s in self.steps if isinstance(s, Vector))
