"""Rules that an instruction keeps or breaks by itself (docs/vta.md, "What a program may do")."""

from __future__ import annotations

from collections.abc import Sequence

from optc.targets.vta.config import Config, Memory
from optc.targets.vta.device import MAX_STREAM_BYTES, PAGE
from optc.targets.vta.isa import (
    INSTRUCTION_BYTES,
    Alu,
    AluOp,
    Finish,
    Gemm,
    Instruction,
    Load,
    Module,
    Store,
    is_nop,
    module_of,
)
from optc.targets.vta.rules.failure import CheckFailure

ADDRESS_SPACE = 1 << 32
SHIFTS = range(-16, 16)
"""Immediate shifts on which the implementations agree; negative ones shift left."""

_NO_NEIGHBOUR = {Module.LOAD: ("pop_prev", "push_prev"), Module.STORE: ("pop_next", "push_next")}


def check_form(instructions: Sequence[Instruction], config: Config, uop_depth: int) -> None:
    """Each instruction by itself, and FINISH at the end; `CheckFailure` for the first that is wrong."""
    _check_finish(instructions)
    for index, instruction in enumerate(instructions):
        _check_flags(index, instruction)
        if isinstance(instruction, Load | Store):
            _check_transfer(index, instruction, config, uop_depth)
        elif isinstance(instruction, Gemm | Alu):
            _check_loops(index, instruction, uop_depth)


def _check_finish(instructions: Sequence[Instruction]) -> None:
    last = len(instructions) - 1
    if len(instructions) * INSTRUCTION_BYTES > MAX_STREAM_BYTES:
        most = MAX_STREAM_BYTES // INSTRUCTION_BYTES
        raise CheckFailure(most, "stream", f"a launch takes at most {most} instructions")
    for index, instruction in enumerate(instructions):
        if isinstance(instruction, Finish) and index != last:
            raise CheckFailure(index, "finish", f"FINISH is not the last of {last + 1} instructions")
    if not instructions or not isinstance(instructions[last], Finish):
        raise CheckFailure(max(last, 0), "finish", "the program does not end with FINISH")


def _check_flags(index: int, instruction: Instruction) -> None:
    module = module_of(instruction)
    for flag in _NO_NEIGHBOUR.get(module, ()):
        if getattr(instruction, flag):
            raise CheckFailure(index, "flags", f"{flag} is set, but {module.name} has no neighbour there")
    if isinstance(instruction, Alu) and instruction.reset:
        raise CheckFailure(index, "flags", "reset is set on an ALU instruction")


def _check_transfer(index: int, move: Load | Store, config: Config, uop_depth: int) -> None:
    if is_nop(move):
        if move.y_size or _pads(move) or move.x_stride or move.sram or move.dram:
            raise CheckFailure(index, "nop", "x_size is 0, so all other sizes, addresses and pads must be 0")
        return
    if move.y_size == 0:
        raise CheckFailure(index, "size", "y_size is 0; move at least one row")
    _check_memory(index, move)
    width, height = move.x_size + move.x_pad_0 + move.x_pad_1, move.y_size + move.y_pad_0 + move.y_pad_1
    depth = uop_depth if move.memory == Memory.UOP else config.depth(move.memory)
    if move.sram + width * height > depth:
        raise CheckFailure(
            index,
            "range" if move.memory != Memory.UOP else "uop-depth",
            f"elements {move.sram} to {move.sram + width * height - 1}: {move.memory.name} has {depth}",
        )
    size = config.element_bytes(move.memory)
    end = (move.dram + (move.y_size - 1) * move.x_stride + move.x_size) * size
    if move.dram * size < PAGE or end > ADDRESS_SPACE:
        raise CheckFailure(
            index, "address", f"bytes {move.dram * size:#x} to {end:#x} are not all addressable"
        )


def _check_memory(index: int, move: Load | Store) -> None:
    kind = move.memory
    if isinstance(move, Store):
        if kind != Memory.OUT:
            raise CheckFailure(index, "memory", f"STORE of {kind.name}: only OUT can be stored")
        if _pads(move):
            raise CheckFailure(index, "padding", "STORE with padding")
    elif kind in (Memory.OUT, Memory.ACC_8BIT):
        raise CheckFailure(index, "memory", f"LOAD of {kind.name}: not every implementation has it")
    elif kind in (Memory.UOP, Memory.WGT) and _pads(move):
        raise CheckFailure(index, "padding", f"LOAD {kind.name} with padding: the implementations differ")
    elif kind == Memory.UOP and move.y_size != 1:
        raise CheckFailure(
            index, "uop-rows", f"LOAD UOP of {move.y_size} rows: the implementations agree on 1"
        )


def _pads(move: Load | Store) -> bool:
    return bool(move.y_pad_0 or move.y_pad_1 or move.x_pad_0 or move.x_pad_1)


def _check_loops(index: int, work: Gemm | Alu, uop_depth: int) -> None:
    if work.iter_out < 1 or work.iter_in < 1:
        raise CheckFailure(index, "loops", f"loops of {work.iter_out} by {work.iter_in}; at least 1 each")
    if work.uop_begin >= work.uop_end:
        raise CheckFailure(index, "loops", f"micro-ops {work.uop_begin} to {work.uop_end}: none")
    if work.uop_end > uop_depth:
        raise CheckFailure(index, "uop-depth", f"micro-op {work.uop_end - 1} of {uop_depth}")
    if isinstance(work, Alu):
        _check_operation(index, work)


def _check_operation(index: int, alu: Alu) -> None:
    if alu.op == AluOp.MUL:
        raise CheckFailure(index, "alu-op", "MUL: only one of the implementations has it")
    if alu.op == AluOp.SHR and alu.use_imm and alu.imm not in SHIFTS:
        raise CheckFailure(index, "shift", f"SHR by {alu.imm}: the implementations agree on -16 to 15")
    if alu.op == AluOp.SHR and not alu.use_imm and alu.imm < 0:
        raise CheckFailure(index, "shift", f"a tensor SHR whose unused imm is {alu.imm}; make it 0")
