"""Memory rules along one legal order: no two modules at one element unordered, nothing read unwritten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import Gemm, Instruction, Load, Module, Store, is_nop
from optc.targets.vta.rules.failure import CheckFailure
from optc.targets.vta.rules.loops import Indices, Used
from optc.targets.vta.rules.tokens import Timeline


def check_races(
    instructions: Sequence[Instruction], config: Config, used: Mapping[int, Used], timeline: Timeline
) -> None:
    """On-chip memory: `CheckFailure` where tokens leave it open what an instruction reads or overwrites."""
    memories = _Memories(config, timeline)
    for index in timeline.order:
        instruction = instructions[index]
        if isinstance(instruction, Load | Store):
            if not is_nop(instruction):
                memories.move(index, instruction)
        elif index in used:
            memories.work(index, used[index], isinstance(instruction, Gemm) and instruction.reset)


class _Shared:
    """A memory that one module writes and another reads: who used each element last, and how."""

    def __init__(self, memory: Memory, writer: Module, reader: Module, config: Config) -> None:
        self.memory, self.writer, self.reader = memory, writer, reader
        self.written = np.zeros(config.depth(memory), np.int64)
        """By element: the place of its last writer in its module's queue, from 1; 0: nothing wrote it."""
        self.read = np.zeros_like(self.written)

    def check_write(self, index: int, elements: Indices | slice, timeline: Timeline) -> None:
        self._ordered(index, self.read[elements], self.reader, (elements, "overwrites", "reads"), timeline)
        self.written[elements] = timeline.place[index]

    def check_read(self, index: int, elements: Indices | slice, timeline: Timeline) -> None:
        self.check_written(index, elements)
        self._ordered(index, self.written[elements], self.writer, (elements, "reads", "writes"), timeline)
        self.read[elements] = timeline.place[index]

    def check_written(self, index: int, elements: Indices | slice) -> None:
        if not self.written[elements].all():
            element = _which(elements, int(np.argmin(self.written[elements])))
            raise CheckFailure(
                index, "unwritten", f"{self.memory.name} element {element} is read, but nothing wrote it"
            )

    def _ordered(
        self,
        index: int,
        places: Indices,
        other: Module,
        what: tuple[Indices | slice, str, str],
        timeline: Timeline,
    ) -> None:
        elements, does, did = what
        late = places > timeline.before[index][other]
        if late.any():
            at = int(np.argmax(late))
            raise CheckFailure(
                index,
                "race",
                f"{does} {self.memory.name} element {_which(elements, at)}, which {other.name}'s instruction "
                f"number {places[at]} {did}; no token orders the two",
            )


def _which(elements: Indices | slice, at: int) -> int:
    return elements.start + at if isinstance(elements, slice) else int(elements[at])


class _Memories:
    def __init__(self, config: Config, timeline: Timeline) -> None:
        self.timeline = timeline
        self.inputs = {m: _Shared(m, Module.LOAD, Module.COMPUTE, config) for m in (Memory.INP, Memory.WGT)}
        # ACC and OUT are one here: some implementations store from ACC itself.
        self.acc = _Shared(Memory.ACC, Module.COMPUTE, Module.STORE, config)
        self.storable: NDArray[np.bool_] = np.zeros(config.depth(Memory.ACC), np.bool_)

    def move(self, index: int, move: Load | Store) -> None:
        """LOAD or STORE."""
        height, width = move.y_size + move.y_pad_0 + move.y_pad_1, move.x_size + move.x_pad_0 + move.x_pad_1
        elements = slice(move.sram, move.sram + height * width)
        if isinstance(move, Store):
            self._check_storable(index, elements)
            self.acc.check_read(index, elements, self.timeline)
        elif move.memory in self.inputs:
            self.inputs[move.memory].check_write(index, elements, self.timeline)
        elif move.memory == Memory.ACC:
            self.acc.check_write(index, elements, self.timeline)
            self.storable[elements] = False

    def work(self, index: int, used: Used, reset: bool) -> None:
        """GEMM or ALU."""
        self.inputs[Memory.INP].check_read(index, used.inp, self.timeline)
        self.inputs[Memory.WGT].check_read(index, used.wgt, self.timeline)
        self.acc.check_written(index, used.acc_read)
        self.acc.check_write(index, used.acc, self.timeline)
        self.storable[used.acc] = not reset

    def _check_storable(self, index: int, elements: slice) -> None:
        if not self.storable[elements].all():
            element = elements.start + int(np.argmin(self.storable[elements]))
            raise CheckFailure(
                index, "stored", f"element {element} is stored, but no non-reset GEMM or ALU wrote it last"
            )
