"""Rules of GEMM and ALU that need the micro-ops: index ranges, hazards; and which elements they use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import Alu, Gemm, Instruction, Load, decode_uops, is_nop
from optc.targets.vta.rules.failure import CheckFailure

Indices = NDArray[np.int64]


class Reader(Protocol):
    """Memory that holds micro-ops."""

    def read(self, address: int, size: int) -> NDArray[np.uint8]:
        """`size` bytes from `address`."""
        ...


@dataclass(frozen=True)
class Used:
    """Elements that an instruction uses, each once; ACC elements are what it writes."""

    acc: Indices
    acc_read: Indices
    inp: Indices
    wgt: Indices


_NONE = np.zeros(0, np.int64)


@dataclass
class UopMemory:
    """What the micro-op memory holds as the compute module goes on."""

    config: Config
    memory: Reader
    words: Indices = field(init=False)
    written: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        depth = self.config.depth(Memory.UOP)
        self.words, self.written = np.zeros((depth, 3), np.int64), np.zeros(depth, np.bool_)

    def load(self, load: Load) -> None:
        """A LOAD UOP."""
        data = self.memory.read(load.dram * 4, load.x_size * 4)
        target = slice(load.sram, load.sram + load.x_size)
        self.words[target] = decode_uops(data.view(np.uint32), self.config)
        self.written[target] = True

    def get(self, index: int, work: Gemm | Alu) -> Indices:
        """The micro-ops of an instruction, (n, 3); `CheckFailure` where one was never loaded."""
        span = slice(work.uop_begin, work.uop_end)
        if not self.written[span].all():
            missing = work.uop_begin + int(np.argmin(self.written[span]))
            raise CheckFailure(index, "uop-unloaded", f"micro-op {missing} is used, but was never loaded")
        return self.words[span]


def check_loops(instructions: Sequence[Instruction], config: Config, memory: Reader) -> dict[int, Used]:
    """The elements that each GEMM and ALU instruction uses, by its index, once they keep the rules."""
    uops = UopMemory(config, memory)
    used: dict[int, Used] = {}
    for index, instruction in enumerate(instructions):
        if isinstance(instruction, Load) and instruction.memory == Memory.UOP and not is_nop(instruction):
            uops.load(instruction)
        elif isinstance(instruction, Gemm):
            used[index] = _gemm(index, instruction, uops.get(index, instruction), config)
        elif isinstance(instruction, Alu):
            used[index] = _alu(index, instruction, uops.get(index, instruction), config)
    return used


def _gemm(index: int, gemm: Gemm, uops: Indices, config: Config) -> Used:
    dst = _elements(index, gemm, uops[:, 0], ("dst", Memory.ACC), config)
    src = _elements(index, gemm, uops[:, 1], ("src", Memory.INP), config)
    wgt = _elements(index, gemm, uops[:, 2], ("wgt", Memory.WGT), config)
    if not gemm.reset:
        _check_distance(index, uops[:, 0])
        return Used(dst, dst, src, wgt)
    return Used(dst, _NONE, _NONE, _NONE)


def _alu(index: int, alu: Alu, uops: Indices, config: Config) -> Used:
    # The RTL takes the wgt bits for higher bits of src; with an ACC as deep as INP it has no use for them.
    if uops[:, 2].any() and config.log_depth(Memory.ACC) > config.log_depth(Memory.INP):
        raise CheckFailure(index, "alu-wgt", "a micro-op of an ALU instruction has a wgt index; make it 0")
    dst = _elements(index, alu, uops[:, 0], ("dst", Memory.ACC), config)
    src = _elements(index, alu, uops[:, 1], ("src", Memory.ACC), config)
    steps = _steps(alu, uops[:, 0], "dst")
    if alu.use_imm:
        if not np.array_equal(steps, _steps(alu, uops[:, 1], "src")):
            raise CheckFailure(
                index, "alu-immediate", "src is not dst, in micro-ops or factors, on an immediate"
            )
        if (steps[1:] == steps[:-1]).any():
            raise CheckFailure(index, "alu-hazard", "an immediate operation on the dst of the step before")
    elif (_steps(alu, uops[:, 1], "src")[1:] == steps[:-1]).any():
        raise CheckFailure(index, "alu-hazard", "a tensor operation reads the dst of the step before")
    return Used(dst, dst if alu.use_imm else np.union1d(dst, src), _NONE, _NONE)


def _factors(work: Gemm | Alu, name: str) -> tuple[int, int]:
    return getattr(work, f"{name}_out"), getattr(work, f"{name}_in")


def _loop_offsets(work: Gemm | Alu, name: str) -> Indices:
    """What the two loops add to an index, (iter_out, iter_in)."""
    out, inner = _factors(work, name)
    return np.arange(work.iter_out)[:, None] * out + np.arange(work.iter_in) * inner


def _steps(work: Gemm | Alu, base: Indices, name: str) -> Indices:
    """The index of every step, in the order of the loops."""
    return (_loop_offsets(work, name)[:, :, None] + base).reshape(-1)


def _elements(
    index: int, work: Gemm | Alu, base: Indices, kind: tuple[str, Memory], config: Config
) -> Indices:
    """The elements that an operand touches, each once; `CheckFailure` beyond the memory's depth."""
    name, memory = kind
    offsets = np.unique(_loop_offsets(work, name))
    last, depth = int(base.max() + offsets[-1]), config.depth(memory)
    if last >= depth:
        raise CheckFailure(
            index, "index", f"{name} reaches element {last} of {memory.name}, which has {depth}"
        )
    touched = np.zeros(depth, np.bool_)
    touched[(offsets[:, None] + np.unique(base)).reshape(-1)] = True
    return np.flatnonzero(touched)


def _check_distance(index: int, dst: Indices) -> None:
    """No micro-op accumulates into the element of the one before it.

    The old runtime wants two micro-ops between; conformance vectors with one between, or with neighbouring
    steps of different iterations on one element, ran alike on all implementations.
    """
    same = np.flatnonzero(dst[1:] == dst[:-1])
    if same.size:
        raise CheckFailure(
            index,
            "accumulation-distance",
            f"two micro-ops in a row accumulate into dst {dst[same[0]]}; put another between them",
        )
