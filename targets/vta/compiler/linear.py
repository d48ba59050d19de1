"""Weights of everything linear as 16 × 16 blocks (BLOCK × BLOCK, to be exact)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.targets.vta.compiler.stages import Accumulate, Axis, Extent, Index, Operand, Stage, Term
from optc.targets.vta.compiler.values import Matrices
from optc.targets.vta.config import Config, Memory

Array = NDArray[Any]

ONES = "ones"
"""The tensor of one element that biases are multiplied with."""

_LARGEST = 127


def convolution(weight: Array, group: int, block: int) -> tuple[Index, NDArray[np.int8]]:
    """Index and blocks of a weight int8 [co, ci / group, kh, kw]; blocks of zeros are left out."""
    co, per_group, height, width = weight.shape
    size = co // group
    index: list[Array] = []
    blocks: list[NDArray[np.int8]] = []
    for out in range(-(-co // block)):
        rows = range(out * block, min(co, (out + 1) * block))
        first, last = rows[0] // size, rows[-1] // size
        low = first * per_group // block
        high = -(-(last + 1) * per_group // block)
        slab = np.zeros((block, (high - low) * block, height, width), np.int8)
        for row in rows:
            at = row // size * per_group - low * block
            slab[row - rows[0], at : at + per_group] = weight[row]
        parts = slab.reshape(block, high - low, block, height, width).transpose(1, 3, 4, 0, 2)
        at = np.argwhere(parts.any(axis=(3, 4)))
        index.append(np.column_stack([np.full(len(at), out), at[:, 0] + low, at[:, 1:]]))
        blocks.append(parts[tuple(at.T)])
    rows_found = np.concatenate(index)
    numbered = np.column_stack([rows_found, np.arange(len(rows_found))])
    return numbered.astype(np.int64), np.ascontiguousarray(np.concatenate(blocks))


def fitting(stage: Stage, config: Config) -> Stage:
    """The stage with its kernels in parts, by taps, where one does not fit the chip twice."""
    steps = tuple(
        replace(s, terms=tuple(p for n, t in enumerate(s.terms) for p in _parts(t, config, f"{s.plane} {n}")))
        if isinstance(s, Accumulate)
        else s
        for s in stage.steps
    )
    whole = len(Stage(stage.label, stage.extent, steps, stage.planes).terms) == len(stage.terms)
    return stage if whole else Stage(stage.label, stage.extent, steps, stage.planes, stage.macs)


def _parts(term: Term, config: Config, name: str) -> Iterator[Term]:
    """The term, or terms of some of its taps each, kin by `name`."""
    height, width = _window(term, config)
    if (height, width) == (term.y.kernel, term.x.kernel):
        yield term
        return
    for top in range(0, term.y.kernel, height):
        for left in range(0, term.x.kernel, width):
            taps = term.index[:, 2:4] - (top, left)
            rows = term.index[((taps >= 0) & (taps < (height, width))).all(axis=1)]
            if len(rows):
                numbers, index = np.unique(rows[:, 4], return_inverse=True)
                moved = np.column_stack([rows[:, :2], rows[:, 2:4] - (top, left), index])
                axes = _some(term.y, top, height), _some(term.x, left, width)
                yield replace(
                    term, y=axes[0], x=axes[1], index=moved, weights=term.constants[numbers], kin=name
                )


def _window(term: Term, config: Config) -> tuple[int, int]:
    """Rows and columns of taps whose weight blocks, and what they read for an output, fill half the chip."""
    weights, inputs = config.depth(Memory.WGT) // 2, config.depth(Memory.INP) // 2
    if len(term.weights) == 1 or isinstance(term.weights, Operand):
        weights = term.y.kernel * term.x.kernel
    elif np.unique(term.index[:, :2], axis=0, return_counts=True)[1].max(initial=0) <= weights:
        weights = term.y.kernel * term.x.kernel  # most taps are zero
    width = min(term.x.kernel, weights, _taps(term.x, inputs))
    reach = term.x.span(0, 1, skip=1)[1] if term.x.transposed else (width - 1) * term.x.dilation + 1
    height = min(term.y.kernel, max(1, weights // width), _taps(term.y, inputs // max(reach, 1)))
    return height, width


def _taps(axis: Axis, room: int) -> int:
    """How many taps read at most `room` positions for one output."""
    if axis.transposed or axis.stride == 0:
        return axis.kernel
    return max(1, (min(room, axis.size) - 1) // axis.dilation + 1) if room < axis.size else axis.kernel


def _some(axis: Axis, first: int, count: int) -> Axis:
    """An axis with the taps from `first` on."""
    return replace(axis, kernel=min(count, axis.kernel - first), before=axis.before - first * axis.dilation)


def every_block(source: str, form: Matrices, config: Config) -> tuple[Index, Operand]:
    """Index of a product with matrices that the host gives as `source`, and the operand."""
    across, down = form.blocks(config)
    number = np.arange(across * down)
    zeros = np.zeros_like(number)
    index = np.column_stack([number // down, number % down, zeros, zeros, number])
    return index, Operand(source, form.extent(config), across * down)


def diagonal(factors: Array, blocks: int, block: int, taps: tuple[int, int] = (1, 1)) -> tuple[Index, Array]:
    """Index and blocks that multiply each channel by its own factor; `factors`: int of [] or [channels]."""
    if np.ndim(factors) == 0:
        weights = np.eye(block, dtype=np.int8)[None] * np.int8(factors)
        number = np.zeros(blocks, np.int64)
    else:
        lanes = np.zeros(blocks * block, np.int8)
        lanes[: len(factors)] = factors
        weights = lanes.reshape(blocks, block, 1) * np.eye(block, dtype=np.int8)
        number = np.arange(blocks)
    own = np.arange(blocks)
    index = [
        np.column_stack([own, own, np.full(blocks, ky), np.full(blocks, kx), number])
        for ky in range(taps[0])
        for kx in range(taps[1])
    ]
    return np.concatenate(index), weights


def placement(channels: int, first: int, block: int) -> tuple[Index, Array]:
    """Index and blocks that move channel c of a source to channel `first + c`."""
    weight = np.zeros((first + channels, channels, 1, 1), np.int8)
    weight[first + np.arange(channels), np.arange(channels)] = 1
    return convolution(weight, 1, block)


def bias_terms(bias: Array, block: int, most: int) -> list[Term] | None:
    """Terms that add an int `bias` [blocks * BLOCK] to every place; None where it needs more than `most`.

    The constant element is 127 in all lanes but the last, which is 1.
    """
    one = Axis(1, stride=0)
    terms: list[Term] = []
    rest = np.asarray(bias, np.int64)
    reach = _LARGEST * _LARGEST * (block - 1)
    while rest.any():
        if len(terms) == most:
            return None
        now = np.clip(rest, -reach, reach)
        rest = rest - now
        lanes = _spread(now, block).reshape(-1, block, block)
        used = np.flatnonzero(lanes.any(axis=(1, 2)))
        index = np.zeros((len(used), 5), np.int64)
        index[:, 0], index[:, 4] = used, np.arange(len(used))
        terms.append(Term(ONES, Extent(1, 1, 1, 1), one, one, index, lanes[used]))
    return terms


def _spread(values: Index, block: int) -> NDArray[np.int8]:
    """Weights (n, BLOCK) whose product with the constant element is each of `values`."""
    high = np.floor_divide(values + _LARGEST // 2, _LARGEST)
    low = values - high * _LARGEST
    each = np.floor_divide(high, block - 1)
    more = high - each * (block - 1)
    lanes = each[:, None] + (np.arange(block - 1) < more[:, None])
    return np.concatenate([lanes, low[:, None]], axis=1).astype(np.int8)


def constant_element(batch: int, block: int) -> NDArray[np.int8]:
    """The element that `bias_terms` reads, (BATCH, BLOCK)."""
    lanes: Sequence[int] = [_LARGEST] * (block - 1) + [1]
    return np.tile(np.array(lanes, np.int8), (batch, 1))
