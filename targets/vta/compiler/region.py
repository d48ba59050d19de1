"""A region: stages as one program, with everything that stands in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.targets.vta.compiler.constant import split, written
from optc.targets.vta.compiler.driver import drive
from optc.targets.vta.compiler.emit import StageEmitter, Unit
from optc.targets.vta.compiler.fold import Folded
from optc.targets.vta.compiler.linear import ONES, constant_element
from optc.targets.vta.compiler.memory import Memories
from optc.targets.vta.compiler.search import Machine, best_tiling
from optc.targets.vta.compiler.stages import Extent, Stage, Write
from optc.targets.vta.compiler.stream import Stream
from optc.targets.vta.compiler.uops import UopMemory
from optc.targets.vta.compiler.values import Layout, Matrices, Wide
from optc.targets.vta.config import Memory
from optc.targets.vta.device import PAGE
from optc.targets.vta.isa import Instruction, Load, encode
from optc.targets.vta.program import ADDRESS_SPACE, Area

Array = NDArray[Any]


Given = Layout | Folded | Matrices
"""How the host gives a value."""

Made = Layout | Wide
"""How it finds one."""

Form = Given | Made

Alias = tuple[str, int]
"""A tensor, and from which of its elements on another one lies in it."""


FormT = TypeVar("FormT", bound=Form)


@dataclass(frozen=True, eq=False)
class Place(Generic[FormT]):
    """Where a tensor lies: byte address and layout; what is in it: a value, by name."""

    address: int
    layout: FormT
    value: str


@dataclass(frozen=True, eq=False)
class RegionProgram:
    """`instructions`: (n, 16) uint8, at `stream_address`; `constants`: written once; `end`: first free byte.

    `arguments`: the values that a call is given, in order; `stages`: what was compiled; `owners`: the stage
    of each instruction.
    """

    instructions: NDArray[np.uint8]
    stream_address: int
    constants: tuple[Area, ...]
    inputs: tuple[Place[Given], ...]
    outputs: tuple[Place[Made], ...]
    end: int
    stages: tuple[Stage, ...]
    arguments: tuple[str, ...]
    owners: NDArray[np.int64]


def compile_region(
    stages: Sequence[Stage],
    inputs: Mapping[str, tuple[str, Given]],
    outputs: Mapping[str, Made],
    machine: Machine,
    base: int = PAGE,
    aliases: Mapping[str, Alias] = MappingProxyType({}),
) -> RegionProgram:
    """One program of all `stages`, in their order, in memory from byte `base` on.

    `inputs`: the value that each source is, and its layout; `aliases`: tensors that lie inside of others.
    Raises `InputError` where it does not fit the address space.
    """
    config = machine.config
    element = config.element_bytes(Memory.INP)
    stages, fixed = split(stages, config.block)
    lasting = {c.target: c.extent for c in fixed}  # written once for all runs: nothing else may lie there
    crossing = (
        {n: layout.extent(config) for n, (_, layout) in inputs.items()} | lasting,
        {n: layout.extent(config) for n, layout in outputs.items()} | lasting,
    )
    first, page = base // element + 1, PAGE // element
    addresses, end = _plan(stages, crossing, aliases, first, page)
    addresses[ONES] = base // element
    stream = Stream(config, machine.timing, end)
    at = _page(end * element)
    weights_at = at // config.element_bytes(Memory.WGT)
    to = Memories(config, stream, UopMemory(machine.uops), addresses, weights_at)
    drive(_units(stages, to, machine), to)
    tables: dict[Memory, Array] = {
        Memory.WGT: to.weight_table(),
        Memory.UOP: np.concatenate(to.uops.table) if to.uops.table else np.zeros(0, np.uint32),
        Memory.ACC: to.vector_table(),
    }
    constants: list[Area] = [
        (addresses[ONES] * element, _bytes(constant_element(config.batch, config.block)))
    ]
    constants += [(i * element, _bytes(a)) for i, a in written(fixed, addresses, config.batch)]
    bases: dict[Memory, int] = {}
    for memory, table in tables.items():
        bases[memory] = at
        if table.size:
            constants.append((at, _bytes(table)))
        at = _page(at + table.nbytes)
    instructions = [_moved(i, bases, config.element_bytes) for i in stream.finish()]
    encoded = encode(instructions, config)
    if at + encoded.nbytes > ADDRESS_SPACE:
        raise InputError(f"the program needs {at + encoded.nbytes:,} bytes of memory, VTA addresses 4 GiB")
    return RegionProgram(
        encoded,
        at,
        tuple(constants),
        tuple(Place(addresses[n] * element, layout, v) for n, (v, layout) in inputs.items()),
        tuple(Place(addresses[n] * element, layout, n) for n, layout in outputs.items()),
        _page(at + encoded.nbytes),
        tuple(stages),
        tuple(dict.fromkeys(v for v, _ in inputs.values())),
        np.array(stream.owners),
    )


def _units(stages: Sequence[Stage], to: Memories, machine: Machine) -> Iterator[Unit]:
    for number, stage in enumerate(stages):
        tiling, _ = best_tiling(stage, machine)
        yield from StageEmitter(stage, tiling, to, number).units()


def _plan(
    stages: Sequence[Stage],
    ends: tuple[Mapping[str, Extent], Mapping[str, Extent]],
    aliases: Mapping[str, Alias],
    first: int,
    page: int,
) -> tuple[dict[str, int], int]:
    """The first element of each tensor, and the end: tensors share memory where their lives do not meet."""
    lives: dict[str, list[int]] = {}
    sizes: dict[str, int] = {}
    for number, stage in enumerate(stages):
        for name, extent in [
            *(read for t in stage.terms if t.source != ONES for read in t.reads),
            *((s.target, s.extent) for s in stage.steps if isinstance(s, Write)),
        ]:
            owner, offset = _owner(name, aliases)
            lives.setdefault(owner, [number, number])[1] = number
            sizes[owner] = max(sizes.get(owner, 0), offset + extent.elements)
    for place, crossing in ((0, ends[0]), (1, ends[1])):
        for name, extent in crossing.items():
            owner, offset = _owner(name, aliases)
            lives.setdefault(owner, [-1, len(stages)])[place] = (-1, len(stages))[place]
            sizes[owner] = max(sizes.get(owner, 0), offset + extent.elements)
    placed: dict[str, tuple[int, int]] = {}
    start = -(-first // page) * page
    for name in sorted(lives, key=lambda n: (-sizes[n], n)):
        taken = sorted(
            placed[o] for o in placed if lives[o][0] <= lives[name][1] and lives[name][0] <= lives[o][1]
        )
        at = start
        for low, high in taken:
            if at + sizes[name] <= low:
                break
            at = max(at, -(-high // page) * page)
        placed[name] = (at, at + sizes[name])
    end = max((high for _, high in placed.values()), default=start)
    addresses = {n: low for n, (low, _) in placed.items()}
    for name in aliases:
        owner, offset = _owner(name, aliases)
        if owner in addresses:
            addresses[name] = addresses[owner] + offset
    return addresses, end


def _owner(name: str, aliases: Mapping[str, Alias]) -> Alias:
    """The tensor that `name` lies in, and from which element on."""
    at = 0
    while name in aliases:
        name, more = aliases[name]
        at += more
    return name, at


def _page(address: int) -> int:
    return -(-address // PAGE) * PAGE


def _bytes(array: Array) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _moved(insn: Instruction, bases: Mapping[Memory, int], size: Any) -> Instruction:
    """A LOAD from the micro-ops or the constants of a channel, which lie where there was room in the end."""
    if isinstance(insn, Load) and insn.x_size and insn.memory in (Memory.UOP, Memory.ACC):
        return replace(insn, dram=insn.dram + bases[insn.memory] // size(insn.memory))
    return insn
