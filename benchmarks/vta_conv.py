"""Plain VTA programs of one convolution: enough to measure simulators with, not the compiler.

One tile of output rows and output channels at a time, one buffer of each kind. Layouts: docs/vta.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import Alu, AluOp, Finish, Gemm, Instruction, Load, Store, encode, encode_uops
from optc.targets.vta.program import Program

UOPS = 2048
"""Micro-ops that the original's RTL holds."""

UOP_AT, BIAS_AT, INPUT_AT, WEIGHT_AT, OUTPUT_AT = 0x1000, 0x100000, 0x400000, 0x1000000, 0x2000000
STREAM_AT = 0x3000000
"""Byte addresses in DRAM."""


@dataclass(frozen=True)
class Convolution:
    """A square convolution: channels in and out, input size, kernel, stride, padding on every side."""

    channels: int
    outputs: int
    size: int
    kernel: int
    stride: int
    pad: int

    @property
    def output_size(self) -> int:
        """Rows and columns of the output."""
        return (self.size + 2 * self.pad - self.kernel) // self.stride + 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates that the layer asks for."""
        return self.outputs * self.channels * self.kernel**2 * self.output_size**2


@dataclass(frozen=True)
class Tile:
    """What is on the chip at once: output rows, output blocks, input blocks."""

    rows: int
    out_blocks: int
    in_blocks: int


@dataclass(frozen=True)
class _Shape:
    """A convolution in blocks of channels, and its tile."""

    conv: Convolution
    config: Config
    tile: Tile

    @property
    def in_blocks(self) -> int:
        return -(-self.conv.channels // self.config.block)

    @property
    def out_blocks(self) -> int:
        return -(-self.conv.outputs // self.config.block)

    @property
    def taps(self) -> int:
        return self.conv.kernel**2

    @property
    def pixels(self) -> int:
        """Output pixels of a tile."""
        return self.tile.rows * self.conv.output_size

    @property
    def row_step(self) -> int:
        """Input rows from one on the chip to the next: a kernel of one row skips what it does not read."""
        return self.conv.stride if self.conv.kernel == 1 else 1

    @property
    def in_rows(self) -> int:
        return (self.tile.rows - 1) * self.conv.stride // self.row_step + self.conv.kernel

    @property
    def in_columns(self) -> int:
        return (self.conv.output_size - 1) * self.conv.stride + self.conv.kernel

    @property
    def uops(self) -> int:
        """The one of the ALU; for each input block and kernel row one for each output row and block."""
        return 1 + self.tile.in_blocks * self.conv.kernel * self.tile.rows * self.tile.out_blocks

    def fits(self) -> bool:
        """Whether a tile fits the chip, and no element of ACC comes again within 4 steps."""
        tile, depth = self.tile, self.config.depth
        weights = tile.out_blocks * tile.in_blocks * self.taps
        return (
            tile.out_blocks * self.pixels <= depth(Memory.ACC)
            and tile.in_blocks * self.in_rows * self.in_columns <= depth(Memory.INP)
            and weights <= depth(Memory.WGT)
            and self.uops <= min(UOPS, depth(Memory.UOP))
        )


def build(
    conv: Convolution, x: NDArray[np.int8], weight: NDArray[np.int8], bias: NDArray[np.int32], shift: int
) -> Program:
    """The program that computes `clip((conv(x) + bias + half) >> shift)`, and the layer's data in memory.

    `x`: [channels, size, size]; `weight`: [outputs, channels, kernel, kernel]; `bias`: [outputs];
    `shift`: 1 to 15. Nothing is expected in its `expected`: see `result`.
    """
    config = Config()
    shape = _tiled(conv, config)
    rounded = bias + np.int32(1 << (shift - 1))
    block, pixels = config.block, shape.pixels
    columns = np.zeros(shape.out_blocks * block, np.int32)
    columns[: conv.outputs] = rounded
    repeated = np.repeat(columns.reshape(-1, 1, block), pixels, axis=1)
    inputs = (
        (UOP_AT, _bytes(_uops(shape))),
        (BIAS_AT, _bytes(repeated)),
        (INPUT_AT, _bytes(_blocks(x, block))),
        (WEIGHT_AT, _bytes(_weight_blocks(weight, block))),
    )
    return Program(encode(list(_instructions(shape, shift)), config), inputs, ())


def result(conv: Convolution, memory: NDArray[np.uint8]) -> NDArray[np.int8]:
    """The output [outputs, rows, columns] from the `result_bytes` that stand at `OUTPUT_AT`."""
    block, size = Config().block, conv.output_size
    blocks = memory.view(np.int8).reshape(-1, size, size, block)
    return blocks.transpose(0, 3, 1, 2).reshape(-1, size, size)[: conv.outputs]


def result_bytes(conv: Convolution) -> int:
    """Bytes of the output in memory."""
    block = Config().block
    return -(-conv.outputs // block) * block * conv.output_size**2


def steps(program: Program) -> int:
    """GEMM steps of a program, resets left out; a step is BATCH * BLOCK * BLOCK multiply-accumulates."""
    from optc.targets.vta.isa import decode

    gemms = (i for i in decode(program.instructions, Config()) if isinstance(i, Gemm) and not i.reset)
    return sum(g.iter_out * g.iter_in * (g.uop_end - g.uop_begin) for g in gemms)


def _bytes(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _blocks(x: NDArray[np.int8], block: int) -> NDArray[np.int8]:
    """[c, h, w] as [c / block, h, w, block], the last block filled with zeros."""
    padded = np.pad(x, [(0, -len(x) % block), (0, 0), (0, 0)])
    return padded.reshape(-1, block, *x.shape[1:]).transpose(0, 2, 3, 1)


def _weight_blocks(weight: NDArray[np.int8], block: int) -> NDArray[np.int8]:
    """[o, i, kh, kw] as [o / block, i / block, kh, kw, block, block]."""
    outputs, channels, height, width = weight.shape
    padded = np.pad(weight, [(0, -outputs % block), (0, -channels % block), (0, 0), (0, 0)])
    split = padded.reshape(-1, block, padded.shape[1] // block, block, height, width)
    return split.transpose(0, 2, 4, 5, 1, 3)


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def _tiled(conv: Convolution, config: Config) -> _Shape:
    """The tile that fits with the longest GEMM instructions, then the most of them on one load."""
    whole = _Shape(conv, config, Tile(1, 1, 1))
    choices = product(_divisors(conv.output_size), _divisors(whole.out_blocks), _divisors(whole.in_blocks))
    shapes = [s for s in (replace(whole, tile=Tile(*c)) for c in choices) if s.fits()]
    return max(shapes, key=lambda s: (s.pixels * s.tile.out_blocks, s.tile.in_blocks))


def _uops(shape: _Shape) -> NDArray[np.uint32]:
    """First the one of the ALU; the columns of output and kernel are the loops of a GEMM."""
    tile, conv = shape.tile, shape.conv
    rows = [(0, 0, 0)]
    for i, ky in product(range(tile.in_blocks), range(conv.kernel)):
        rows += [
            (
                o * shape.pixels + y * conv.output_size,
                (i * shape.in_rows + y * conv.stride // shape.row_step + ky) * shape.in_columns,
                (o * tile.in_blocks + i) * shape.taps + ky * conv.kernel,
            )
            for o, y in product(range(tile.out_blocks), range(tile.rows))
        ]
    dst, src, wgt = np.array(rows).T
    return encode_uops(dst, src, wgt, shape.config)


def _instructions(shape: _Shape, shift: int) -> Iterator[Instruction]:
    tile, config = shape.tile, shape.config
    uops = UOP_AT // config.element_bytes(Memory.UOP)
    yield Load(Memory.UOP, 0, uops, 1, shape.uops, shape.uops)
    outs = range(0, shape.out_blocks, tile.out_blocks)
    places = list(product(outs, range(0, shape.conv.output_size, tile.rows)))
    for index, (out, row) in enumerate(places):
        yield from _one_tile(shape, shift, (out, row), index == 0, index == len(places) - 1)
    yield Finish(pop_next=True)


def _one_tile(
    shape: _Shape, shift: int, place: tuple[int, int], first: bool, last: bool
) -> Iterator[Instruction]:
    """Bias, then GEMMs chunk by chunk of the input blocks, then the clip and the store.

    The bias waits for the store before: one of the real implementations stores out of ACC.
    """
    out, row = place
    tile, config, size = shape.tile, shape.config, shape.conv.output_size
    bias = BIAS_AT // config.element_bytes(Memory.ACC) + out * shape.pixels
    yield Load(Memory.ACC, 0, bias, tile.out_blocks, shape.pixels, shape.pixels, pop_next=not first)
    chunks = range(0, shape.in_blocks, tile.in_blocks)
    for chunk in chunks:
        yield from _loads(shape, place, chunk, wait=not (first and chunk == 0))
        yield from _gemms(shape, free=not (last and chunk == chunks[-1]))
    yield from _clipped(shape, shift)
    yield Store(
        0,
        OUTPUT_AT // config.element_bytes(Memory.OUT) + (out * size + row) * size,
        tile.out_blocks,
        shape.pixels,
        size * size,
        pop_prev=True,
        push_prev=True,
    )


def _loads(shape: _Shape, place: tuple[int, int], chunk: int, wait: bool) -> Iterator[Instruction]:
    out, row = place
    tile, conv, config = shape.tile, shape.conv, shape.config
    top = row * conv.stride - conv.pad
    above, below = max(0, -top), max(0, top + shape.in_rows - conv.size)
    columns = min(conv.size, shape.in_columns - conv.pad)
    for i in range(tile.in_blocks):
        start = ((chunk + i) * conv.size + top + above) * conv.size
        yield Load(
            Memory.INP,
            i * shape.in_rows * shape.in_columns,
            INPUT_AT // config.element_bytes(Memory.INP) + start,
            shape.in_rows - above - below,
            columns,
            conv.size * shape.row_step,
            above,
            below,
            conv.pad,
            shape.in_columns - conv.pad - columns,
            pop_next=wait and i == 0,
        )
    length = tile.in_blocks * shape.taps
    weights = WEIGHT_AT // config.element_bytes(Memory.WGT) + (out * shape.in_blocks + chunk) * shape.taps
    stride = shape.in_blocks * shape.taps
    yield Load(Memory.WGT, 0, weights, tile.out_blocks, length, stride, push_next=True)


def _gemms(shape: _Shape, free: bool) -> Iterator[Instruction]:
    """One instruction an input block and kernel row; `free`: tell the load module when the buffers are."""
    tile, conv = shape.tile, shape.conv
    count, length = tile.in_blocks * conv.kernel, tile.rows * tile.out_blocks
    for index in range(count):
        begin = 1 + index * length
        yield Gemm(
            reset=False,
            uop_begin=begin,
            uop_end=begin + length,
            iter_out=conv.kernel,
            iter_in=conv.output_size,
            dst_out=0,
            dst_in=1,
            src_out=1,
            src_in=conv.stride,
            wgt_out=1,
            wgt_in=0,
            pop_prev=index == 0,
            push_prev=free and index == count - 1,
        )


def _clipped(shape: _Shape, shift: int) -> Iterator[Instruction]:
    loops = (0, 1, shape.tile.out_blocks, shape.pixels, shape.pixels, 1, shape.pixels, 1)
    yield Alu(AluOp.SHR, True, shift, *loops)
    yield Alu(AluOp.MAX, True, -128, *loops)
    yield Alu(AluOp.MIN, True, 127, *loops, push_next=True)
