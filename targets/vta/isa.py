"""VTA's instructions and micro-ops as values, and their bits (docs/vta.md, "Instructions")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.targets.vta.config import Config, Memory

INSTRUCTION_BYTES = 16
_HALF = 64


class AluOp(IntEnum):
    """Operations of the tensor ALU; MUL is not portable."""

    MIN = 0
    MAX = 1
    ADD = 2
    SHR = 3
    MUL = 4


class Module(IntEnum):
    """The three modules that execute instructions, each its own queue in order."""

    LOAD = 0
    COMPUTE = 1
    STORE = 2


class Opcode(IntEnum):
    """The first three bits of an instruction."""

    LOAD = 0
    STORE = 1
    GEMM = 2
    FINISH = 3
    ALU = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """Which tokens an instruction waits for before it runs, and gives when it is done."""

    pop_prev: bool = False
    pop_next: bool = False
    push_prev: bool = False
    push_next: bool = False


@dataclass(frozen=True, slots=True)
class Load(Tokens):
    """DRAM to SRAM: `y_size` rows of `x_size` elements, `x_stride` apart in DRAM, framed by zeros.

    `sram`, `dram`, sizes, stride and pads count elements of `memory`.
    """

    memory: Memory
    sram: int
    dram: int
    y_size: int
    x_size: int
    x_stride: int
    y_pad_0: int = 0
    y_pad_1: int = 0
    x_pad_0: int = 0
    x_pad_1: int = 0


@dataclass(frozen=True, slots=True)
class Store(Tokens):
    """The output buffer to DRAM; the fields are those of `Load`, and pads must be 0."""

    sram: int
    dram: int
    y_size: int
    x_size: int
    x_stride: int
    memory: Memory = Memory.OUT
    y_pad_0: int = 0
    y_pad_1: int = 0
    x_pad_0: int = 0
    x_pad_1: int = 0


@dataclass(frozen=True, slots=True)
class Gemm(Tokens):
    """ACC[dst] += INP[src] * WGT[wgt] (or = 0 with `reset`) over two loops and micro-ops."""

    reset: bool
    uop_begin: int
    uop_end: int
    iter_out: int
    iter_in: int
    dst_out: int
    dst_in: int
    src_out: int
    src_in: int
    wgt_out: int
    wgt_in: int


@dataclass(frozen=True, slots=True)
class Alu(Tokens):
    """ACC[dst] = op(ACC[dst], imm or ACC[src]) over two loops and micro-ops; `imm` is a signed 16-bit."""

    op: AluOp
    use_imm: bool
    imm: int
    uop_begin: int
    uop_end: int
    iter_out: int
    iter_in: int
    dst_out: int
    dst_in: int
    src_out: int
    src_in: int
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Finish(Tokens):
    """The end of a program."""


Instruction = Load | Store | Gemm | Alu | Finish

_KINDS: dict[Opcode, type[Instruction]] = {
    Opcode.LOAD: Load,
    Opcode.STORE: Store,
    Opcode.GEMM: Gemm,
    Opcode.FINISH: Finish,
    Opcode.ALU: Alu,
}
_OPCODES = {kind: opcode for opcode, kind in _KINDS.items()}
_FLAGS = (("opcode", 3), ("pop_prev", 1), ("pop_next", 1), ("push_prev", 1), ("push_next", 1))


@dataclass(frozen=True)
class Field:
    """`width` bits from bit `offset` of an instruction; `signed`: two's complement."""

    offset: int
    width: int
    signed: bool = False


@cache
def layout(opcode: Opcode, config: Config) -> dict[str, Field]:
    """The fields of an instruction by name; nothing else of its 128 bits is used."""
    low, high = _halves(opcode, config)
    fields: dict[str, Field] = {}
    for base, half in ((0, (*_FLAGS, *low)), (_HALF, high)):
        for name, width in half:
            fields[name] = Field(base, width, name == "imm")
            base += width
    return fields


def _halves(opcode: Opcode, config: Config) -> tuple[tuple[tuple[str, int], ...], ...]:
    """Names and widths of the fields behind the flags, and of those of the high half, lowest first."""
    if opcode == Opcode.FINISH:
        return (), ()
    if opcode in (Opcode.LOAD, Opcode.STORE):
        pads = (("y_pad_0", 4), ("y_pad_1", 4), ("x_pad_0", 4), ("x_pad_1", 4))
        sizes = (("y_size", 16), ("x_size", 16), ("x_stride", 16))
        return (("memory", 3), ("sram", 16), ("dram", 32)), (*sizes, *pads)
    uop, acc, inp, wgt = (config.log_depth(m) for m in (Memory.UOP, Memory.ACC, Memory.INP, Memory.WGT))
    loops = (("reset", 1), ("uop_begin", uop), ("uop_end", uop + 1), ("iter_out", 14), ("iter_in", 14))
    factors = (("dst_out", acc), ("dst_in", acc), ("src_out", inp), ("src_in", inp))
    if opcode == Opcode.GEMM:
        return loops, (*factors, ("wgt_out", wgt), ("wgt_in", wgt))
    return loops, (*factors, ("op", 3), ("use_imm", 1), ("imm", 16))


def encode(instructions: Sequence[Instruction], config: Config) -> NDArray[np.uint8]:
    """The bytes of `instructions`, shape (n, 16); `InputError` where a value does not fit its field."""
    words = b"".join(_word(i, instruction, config) for i, instruction in enumerate(instructions))
    return np.frombuffer(words, np.uint8).reshape(-1, INSTRUCTION_BYTES).copy()


def _word(index: int, instruction: Instruction, config: Config) -> bytes:
    opcode = _OPCODES[type(instruction)]
    word = int(opcode)
    for name, field in layout(opcode, config).items():
        if name == "opcode":
            continue
        value = int(getattr(instruction, name))
        low = -(1 << field.width - 1) if field.signed else 0
        if not low <= value < low + (1 << field.width):
            raise InputError(
                f"instruction {index} ({opcode.name}): {name} {value} does not fit {field.width} bits "
                f"({low} to {low + (1 << field.width) - 1})"
            )
        word |= (value & (1 << field.width) - 1) << field.offset
    return word.to_bytes(INSTRUCTION_BYTES, "little")


def decode(stream: NDArray[np.uint8], config: Config) -> list[Instruction]:
    """The instructions of `stream`, shape (n, 16); `InputError` says which is none and why."""
    if stream.ndim != 2 or stream.shape[1] != INSTRUCTION_BYTES or stream.dtype != np.uint8:
        raise InputError(f"an instruction stream is (n, 16) uint8, not {stream.shape} {stream.dtype}")
    halves = np.ascontiguousarray(stream).view("<u8")
    found: list[Instruction | None] = [None] * len(halves)
    for code in np.unique(halves[:, 0] & 7).tolist():
        rows = np.flatnonzero(halves[:, 0] & 7 == code)
        decoded = _decode_alike(Opcode(code), halves[rows], config) if code in _KINDS else []
        for row, instruction in zip(rows.tolist(), decoded, strict=False):
            found[row] = instruction
    return [i or _instruction(k, bytes(stream[k]), config) for k, i in enumerate(found)]


def _decode_alike(opcode: Opcode, halves: NDArray[np.uint64], config: Config) -> list[Instruction]:
    """Instructions of one opcode, shape (n, 2); none where a row is faulty, to be decoded one by one."""
    table = _table(opcode, config)
    if (halves & ~table.used).any():
        return []
    values = (halves.T[table.half] >> table.offset & table.mask).astype(np.int64)
    columns: list[list[Any]] = (values - (values >> table.sign << table.sign + 1)).tolist()
    for place, name in enumerate(table.names):
        if name in _BOOLEANS:
            columns[place] = [value == 1 for value in columns[place]]
        elif name in _ENUMS:
            members = {int(m): m for m in _ENUMS[name]}
            columns[place] = [members.get(value) for value in columns[place]]
            if None in columns[place]:
                return []
    kind = _KINDS[opcode]
    return [kind(**dict(zip(table.names, row, strict=True))) for row in zip(*columns, strict=True)]


@dataclass(frozen=True)
class _Table:
    """The fields of an opcode but the opcode itself, as arrays.

    `half`: which of the 64-bit halves; `offset`, `mask`: in it; `sign`: the bit that counts negative, 62
    where none does; `used`: the bits of each half that belong to a field.
    """

    names: tuple[str, ...]
    half: NDArray[np.int64]
    offset: NDArray[np.uint64]
    mask: NDArray[np.uint64]
    sign: NDArray[np.int64]
    used: NDArray[np.uint64]


@cache
def _table(opcode: Opcode, config: Config) -> _Table:
    fields = {n: f for n, f in layout(opcode, config).items() if n != "opcode"}
    places = [divmod(f.offset, _HALF) for f in fields.values()]
    masks = [(1 << f.width) - 1 for f in fields.values()]
    used = [7, 0]
    for (half, offset), mask in zip(places, masks, strict=True):
        used[half] |= mask << offset
    return _Table(
        tuple(fields),
        np.array([half for half, _ in places]),
        np.array([[offset] for _, offset in places], np.uint64),
        np.array([[mask] for mask in masks], np.uint64),
        np.array([[f.width - 1 if f.signed else 62] for f in fields.values()]),
        np.array(used, np.uint64),
    )


_BOOLEANS = frozenset(("pop_prev", "pop_next", "push_prev", "push_next", "reset", "use_imm"))
_ENUMS: dict[str, type[IntEnum]] = {"memory": Memory, "op": AluOp}


def _instruction(index: int, data: bytes, config: Config) -> Instruction:
    """The instruction of 16 bytes; `InputError` says what is wrong with it."""
    word = int.from_bytes(data, "little")
    if word & 7 not in _KINDS:
        raise InputError(
            f"instruction {index}: opcode {word & 7} is none of {', '.join(o.name for o in Opcode)}"
        )
    opcode = Opcode(word & 7)
    values: dict[str, Any] = {}
    rest = word
    for name, field in layout(opcode, config).items():
        mask = (1 << field.width) - 1
        value = word >> field.offset & mask
        rest &= ~(mask << field.offset)
        values[name] = value - (1 << field.width) if field.signed and value >> field.width - 1 else value
    if rest:
        raise InputError(
            f"instruction {index} ({opcode.name}): bit {rest.bit_length() - 1} is set but belongs to no "
            "field; is it of another configuration?"
        )
    del values["opcode"]
    return _KINDS[opcode](**{name: _typed(index, name, value) for name, value in values.items()})


def _typed(index: int, name: str, value: int) -> Any:
    if name in _BOOLEANS:
        return bool(value)
    kind = _ENUMS.get(name)
    try:
        return value if kind is None else kind(value)
    except ValueError as error:
        raise InputError(f"instruction {index}: {name} {value} does not exist") from error


def is_nop(instruction: Instruction) -> bool:
    """Whether it only moves tokens: a LOAD or STORE whose `x_size` is 0."""
    return isinstance(instruction, Load | Store) and instruction.x_size == 0


def module_of(instruction: Instruction) -> Module:
    """The module that executes it."""
    if isinstance(instruction, Store):
        return Module.STORE
    if isinstance(instruction, Load) and instruction.memory in (Memory.INP, Memory.WGT):
        return Module.LOAD
    return Module.COMPUTE


def encode_uops(
    dst: NDArray[Any], src: NDArray[Any], wgt: NDArray[Any], config: Config
) -> NDArray[np.uint32]:
    """Micro-ops, one word each; `InputError` where an index does not fit its field."""
    word = np.zeros(np.broadcast(dst, src, wgt).shape, np.uint64)
    for (name, offset, width), values in zip(_uop_fields(config), (dst, src, wgt), strict=True):
        array = np.asarray(values, np.int64)
        if array.size and not 0 <= array.min() <= array.max() < 1 << width:
            raise InputError(f"a micro-op's {name} {array.max()} does not fit {width} bits")
        word |= array.astype(np.uint64) << np.uint64(offset)
    return word.astype(np.uint32)


def decode_uops(words: NDArray[np.uint32], config: Config) -> NDArray[np.int64]:
    """The indices (n, 3) of micro-ops: dst, src, wgt."""
    values = np.asarray(words, np.int64)
    fields = _uop_fields(config)
    return np.stack([values >> offset & (1 << width) - 1 for _, offset, width in fields], axis=-1)


def _uop_fields(config: Config) -> list[tuple[str, int, int]]:
    """Name, offset and width: dst addresses ACC; src INP (GEMM) or ACC (ALU); wgt, the highest bits, WGT."""
    acc, inp = config.log_depth(Memory.ACC), config.log_depth(Memory.INP)
    return [("dst", 0, acc), ("src", acc, inp), ("wgt", acc + inp, 32 - acc - inp)]
