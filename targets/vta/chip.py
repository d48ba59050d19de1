"""What is on the chip: the memories, and the four kinds of instruction that change them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.targets.vta import kernels
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.device import PAGE, SimulationError
from optc.targets.vta.isa import Alu, AluOp, Gemm, Load, Store, decode_uops

_SHIFTS = range(-16, 16)
"""Immediate shifts on which the implementations agree; negative is left."""


class Chip:
    """The memories of a VTA, empty; `memory` is the DRAM it loads from and stores to.

    INP is float32 (depth, batch, block), WGT float32 (depth, in, out), ACC int32 (depth, batch, block).
    OUT holds the low bytes of ACC wherever GEMM or ALU wrote last: only that fact is kept (`stored`).
    """

    def __init__(self, config: Config, memory: NDArray[np.uint8]) -> None:
        self.config, self.memory = config, memory
        self._depth = {m: config.depth(m) for m in Memory}
        self._bytes = {m: config.element_bytes(m) for m in Memory}
        depth = self._depth
        batch, block = config.batch, config.block
        self.uops = np.zeros((depth[Memory.UOP], 3), np.int64)
        self.wgt = np.zeros((depth[Memory.WGT], block, block), np.float32)
        self.inp = np.zeros((depth[Memory.INP], batch, block), np.float32)
        self.acc = np.zeros((depth[Memory.ACC], batch, block), np.int32)
        self.valid = tuple(
            np.zeros(depth[m], np.bool_) for m in (Memory.UOP, Memory.WGT, Memory.INP, Memory.ACC)
        )
        self.out_valid = np.zeros(depth[Memory.ACC], np.bool_)
        self._flat = (self.acc.reshape(-1), self.inp.reshape(-1), self.wgt.reshape(-1))
        self._reset = kernels.reset_kernel(batch, block)
        self._gemm = kernels.gemm_kernel(batch, block)
        self._alu = kernels.alu_kernel(batch, block)

    def clear(self) -> None:
        """Forget everything: what an earlier run left is no program's business."""
        for valid in (*self.valid, self.out_valid):
            valid[:] = False

    def load(self, index: int, insn: Load) -> None:
        """LOAD of any memory; a NOP does nothing."""
        if _is_nop(index, insn):
            return
        _check_load(index, insn)
        height = insn.y_pad_0 + insn.y_size + insn.y_pad_1
        width = insn.x_pad_0 + insn.x_size + insn.x_pad_1
        self._check_sram(index, insn.memory, insn.sram, height * width)
        target = slice(insn.sram, insn.sram + height * width)
        rows = self._window(index, insn, _TYPES[insn.memory])
        self.valid[insn.memory][target] = True
        if insn.memory == Memory.UOP:
            self.uops[target] = decode_uops(rows.reshape(-1), self.config)
        elif insn.memory == Memory.WGT:
            block = self.config.block
            self.wgt[target] = rows.reshape(-1, block, block).transpose(0, 2, 1)
        elif insn.memory == Memory.INP:
            self._place(insn, self.inp[target].reshape(height, width, -1), rows)
        else:
            self.out_valid[target] = False
            self._place(insn, self.acc[target].reshape(height, width, -1), rows)

    def _place(self, insn: Load, target: NDArray[Any], rows: NDArray[Any]) -> None:
        """Rows into the middle of `target` (height, width, lanes), zeros around them."""
        if target.shape[:2] != (insn.y_size, insn.x_size):
            target[:] = 0
        y, x = insn.y_pad_0, insn.x_pad_0
        shape = (insn.y_size, insn.x_size, target.shape[2])
        target[y : y + insn.y_size, x : x + insn.x_size] = rows.reshape(shape)

    def store(self, index: int, insn: Store) -> None:
        """STORE of OUT; a NOP does nothing."""
        if _is_nop(index, insn):
            return
        if insn.memory != Memory.OUT:
            raise SimulationError(index, f"STORE of {insn.memory.name}: only OUT can be stored")
        if insn.y_pad_0 or insn.y_pad_1 or insn.x_pad_0 or insn.x_pad_1:
            raise SimulationError(index, "STORE with padding")
        count = insn.y_size * insn.x_size
        self._check_sram(index, Memory.OUT, insn.sram, count)
        target = slice(insn.sram, insn.sram + count)
        if not self.out_valid[target].all():
            element = insn.sram + int(np.argmin(self.out_valid[target]))
            raise SimulationError(index, f"OUT element {element} is stored, but no GEMM or ALU wrote it last")
        values = self.acc[target].astype(np.int8).reshape(insn.y_size, -1)
        rows = self._window(index, insn, "i1")
        for y in range(insn.y_size) if insn.x_stride < insn.x_size else (slice(None),):
            rows[y] = values[y]

    def gemm(self, index: int, insn: Gemm) -> None:
        """GEMM: products into ACC, or zeros with `reset`."""
        self._check_loops(index, insn)
        factors = (insn.dst_out, insn.dst_in, insn.src_out, insn.src_in, insn.wgt_out, insn.wgt_in)
        acc, *operands = self._flat
        if insn.reset:
            status = self._reset(acc, *self._loops(insn), factors)
        else:
            status = self._gemm(acc, *operands, *self._loops(insn), factors)
        _raise(index, status)

    def alu(self, index: int, insn: Alu) -> None:
        """An ALU operation on ACC."""
        self._check_loops(index, insn)
        if insn.op == AluOp.MUL:
            raise SimulationError(index, "MUL: only one of the real implementations has it")
        if insn.use_imm:
            self._check_immediate(index, insn)
        factors = (insn.dst_out, insn.dst_in, insn.src_out, insn.src_in)
        operation = (int(insn.op), int(insn.use_imm), insn.imm)
        _raise(index, self._alu(self._flat[0], *self._loops(insn), factors, *operation))

    def _loops(self, insn: Gemm | Alu) -> tuple[Any, ...]:
        """What every kernel takes between the memories and the factors."""
        extent = (insn.uop_begin, insn.uop_end, insn.iter_out, insn.iter_in)
        return (self.uops, self.valid, self.out_valid, *extent)

    def _check_immediate(self, index: int, insn: Alu) -> None:
        if insn.op == AluOp.SHR and insn.imm not in _SHIFTS:
            raise SimulationError(index, f"SHR by {insn.imm}: the implementations agree on -16 to 15")
        uops = self.uops[insn.uop_begin : insn.uop_end]
        out = insn.iter_out > 1 and insn.dst_out != insn.src_out
        if out or (insn.iter_in > 1 and insn.dst_in != insn.src_in) or (uops[:, 0] != uops[:, 1]).any():
            raise SimulationError(index, "an immediate operation whose src is not its dst")

    def _check_loops(self, index: int, insn: Gemm | Alu) -> None:
        if insn.iter_out < 1 or insn.iter_in < 1:
            raise SimulationError(index, f"loops of {insn.iter_out} by {insn.iter_in}: at least 1")
        if not insn.uop_begin < insn.uop_end <= self.uops.shape[0]:
            raise SimulationError(
                index, f"micro-ops {insn.uop_begin} to {insn.uop_end} of {self.uops.shape[0]}"
            )

    def _check_sram(self, index: int, memory: Memory, first: int, count: int) -> None:
        depth = self._depth[memory]
        if first + count > depth:
            raise SimulationError(
                index, f"elements {first} to {first + count} pass the {depth} of {memory.name}"
            )

    def _window(self, index: int, insn: Load | Store, dtype: str) -> NDArray[Any]:
        """The rows of DRAM of a LOAD or STORE as a view, a row of `dtype` each."""
        size = self._bytes[insn.memory]
        start = insn.dram * size
        end = start + ((insn.y_size - 1) * insn.x_stride + insn.x_size) * size
        if start < PAGE or end > self.memory.size:
            raise SimulationError(
                index,
                f"bytes {start:#x} to {end:#x} are outside the memory ({PAGE:#x} to {self.memory.size:#x})",
            )
        width = int(dtype[-1])
        shape, strides = (insn.y_size, insn.x_size * size // width), (insn.x_stride * size, width)
        return np.ndarray(shape, dtype, self.memory.data, start, strides)


_TYPES = {Memory.UOP: "<u4", Memory.WGT: "i1", Memory.INP: "i1", Memory.ACC: "<i4"}


def _is_nop(index: int, insn: Load | Store) -> bool:
    if insn.x_size and insn.y_size:
        return False
    if insn.x_size or insn.y_pad_0 or insn.y_pad_1 or insn.x_pad_0 or insn.x_pad_1:
        raise SimulationError(index, f"size {insn.y_size} by {insn.x_size} with padding or without rows")
    return True


def _check_load(index: int, insn: Load) -> None:
    if insn.memory in (Memory.OUT, Memory.ACC_8BIT):
        raise SimulationError(index, f"LOAD of {insn.memory.name}: not every implementation has it")
    padded = insn.y_pad_0 or insn.y_pad_1 or insn.x_pad_0 or insn.x_pad_1
    if padded and insn.memory in (Memory.UOP, Memory.WGT):
        raise SimulationError(index, f"LOAD {insn.memory.name} with padding: the implementations differ")
    if insn.memory == Memory.UOP and insn.y_size != 1:
        raise SimulationError(index, f"LOAD UOP of {insn.y_size} rows: the implementations agree on 1")


_WRONG: dict[int, str] = {
    kernels.RANGE: "{0} index {1} is out of range",
    kernels.UNWRITTEN: "{0} element {1} is read, but nothing was written there in this run",
    kernels.HAZARD: "{0} element {1} is read by the step right after the one that writes it",
    kernels.SHIFT: "{0} element {1} holds a shift outside 0 to 15",
}


def _raise(index: int, status: tuple[Any, Any, Any]) -> None:
    code, memory, element = status
    if code != kernels.OK:
        raise SimulationError(index, _WRONG[code].format(Memory(memory).name, element))
