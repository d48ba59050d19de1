"""Instructions and micro-ops as Amaranth layouts, and what passes between the modules."""

from amaranth import Shape, signed, unsigned
from amaranth.lib import data, stream

from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import INSTRUCTION_BYTES, Opcode, layout

WORD_BYTES = 8
"""Bytes of a word of the memory port."""

INSTRUCTION_BITS = 8 * INSTRUCTION_BYTES


def instruction_layout(opcode: Opcode, config: Config) -> data.FlexibleLayout:
    """The fields of an instruction, as `optc.targets.vta.isa.layout` places them."""
    fields = {
        name: data.Field(signed(f.width) if f.signed else unsigned(f.width), f.offset)
        for name, f in layout(opcode, config).items()
    }
    return data.FlexibleLayout(INSTRUCTION_BITS, fields)


def uop_layout(config: Config) -> data.StructLayout:
    """A micro-op: where a step writes, and reads its input and its weights."""
    dst, src = config.log_depth(Memory.ACC), config.log_depth(Memory.INP)
    return data.StructLayout({"dst": dst, "src": src, "wgt": 32 - dst - src})


def log_words(memory: Memory, config: Config) -> int:
    """Base-2 logarithm of the words of an element; -1 where two elements share a word."""
    return config.element_bytes(memory).bit_length() - WORD_BYTES.bit_length()


class Request(data.Struct):
    """A burst of words: the first word's address, and how many follow it."""

    word: 29
    more: 8


class Beat(data.Struct):
    """A word of a burst that is read."""

    data: 64
    last: 1


class Flags(data.Struct):
    """The tokens that an instruction gives when it is done, and whether it ends the program."""

    push_prev: 1
    push_next: 1
    finish: 1


class Operation(data.Struct):
    """What a step does: `gemm`, or the ALU's `op` with `imm` or a second operand; `reset` sets to zero."""

    gemm: 1
    reset: 1
    op: 2
    use_imm: 1
    imm: signed(16)


def requests() -> stream.Signature:
    """A stream of bursts."""
    return stream.Signature(Request)


def beats() -> stream.Signature:
    """A stream of words that were read."""
    return stream.Signature(Beat)


def lanes(count: int, width: int) -> data.ArrayLayout:
    """`count` signed numbers."""
    return data.ArrayLayout(Shape(width, signed=True), count)
