"""VTA instructions as text, one a line, and back.

A line is the mnemonic and its fields: `gemm pop_prev uops=0:9 iter=14,14 dst=14,1 src=16,1 wgt=0,0`. Pads of
zero and flags that are not set are left out; `#` begins a comment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from optc.models.errors import InputError
from optc.targets.vta.config import Memory
from optc.targets.vta.isa import Alu, AluOp, Finish, Gemm, Instruction, Load, Store

FLAGS = ("pop_prev", "pop_next", "push_prev", "push_next")

Values = dict[str, list[int]]


def disassemble(instructions: Sequence[Instruction]) -> str:
    """The text of `instructions`; `assemble` reads it back."""
    return "".join(line(i) + "\n" for i in instructions)


def line(instruction: Instruction) -> str:
    """One instruction as text."""
    flags = [name for name in FLAGS if getattr(instruction, name)]
    head, fields = _parts(instruction)
    return " ".join([head, *flags, *fields])


def _parts(i: Instruction) -> tuple[str, list[str]]:
    if isinstance(i, Finish):
        return "finish", []
    if isinstance(i, Load | Store):
        head = f"{type(i).__name__.lower()} {i.memory.name.lower()}"
        fields = [f"sram={i.sram}", f"dram={i.dram}", f"size={i.y_size},{i.x_size}", f"stride={i.x_stride}"]
        pads = (i.y_pad_0, i.y_pad_1, i.x_pad_0, i.x_pad_1)
        return head, fields + ([f"pad={','.join(map(str, pads))}"] if any(pads) else [])
    loops = [f"uops={i.uop_begin}:{i.uop_end}", f"iter={i.iter_out},{i.iter_in}"]
    loops += [f"dst={i.dst_out},{i.dst_in}", f"src={i.src_out},{i.src_in}"]
    reset = ["reset"] if i.reset else []
    if isinstance(i, Gemm):
        return "gemm", [*reset, *loops, f"wgt={i.wgt_out},{i.wgt_in}"]
    # The field is in the bits of a tensor operation too, though unused.
    operand = ["tensor"] if not i.use_imm else []
    if i.use_imm or i.imm:
        operand.append(f"imm={i.imm}")
    return f"alu {i.op.name.lower()}", [*reset, *loops, *operand]


def assemble(text: str) -> list[Instruction]:
    """The instructions of `text`; `InputError` names the line that is none."""
    found: list[Instruction] = []
    for number, raw in enumerate(text.splitlines(), 1):
        words = raw.partition("#")[0].split()
        if words:
            found.append(_instruction(words, number))
    return found


def _instruction(words: list[str], number: int) -> Instruction:
    if words[0] not in _READERS:
        raise InputError(f"line {number}: '{words[0]}' is none of {', '.join(_READERS)}")
    try:
        return _READERS[words[0]](words[1:])
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"line {number}: cannot read '{' '.join(words)}': {_why(error)}") from error


def _why(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _load(words: list[str]) -> Instruction:
    kind, flags, values = _transfer(words)
    return Load(kind, *values, **flags)


def _store(words: list[str]) -> Instruction:
    kind, flags, values = _transfer(words)
    sram, dram, y_size, x_size, stride, *pads = values
    return Store(sram, dram, y_size, x_size, stride, kind, *pads, **flags)


def _transfer(words: list[str]) -> tuple[Memory, dict[str, bool], list[int]]:
    kind = Memory[words[0].upper()]
    flags, values = _fields(words[1:], {"sram": 1, "dram": 1, "size": 2, "stride": 1, "pad": 4})
    numbers = [*values["sram"], *values["dram"], *values["size"], *values["stride"]]
    return kind, _tokens(flags), [*numbers, *values.get("pad", [0] * 4)]


_LOOPS = {"uops": 2, "iter": 2, "dst": 2, "src": 2}


def _gemm(words: list[str]) -> Instruction:
    flags, values = _fields(words, {**_LOOPS, "wgt": 2}, "reset")
    wgt_out, wgt_in = values["wgt"]
    return Gemm("reset" in flags, **_loops(values), wgt_out=wgt_out, wgt_in=wgt_in, **_tokens(flags))


def _alu(words: list[str]) -> Instruction:
    op = AluOp[words[0].upper()]
    flags, values = _fields(words[1:], {**_LOOPS, "imm": 1}, "reset", "tensor")
    imm = values.get("imm", [0])[0]
    if "tensor" not in flags and "imm" not in values:
        raise ValueError("give imm=NUMBER or tensor")
    use_imm = "tensor" not in flags
    return Alu(op, use_imm, imm, **_loops(values), reset="reset" in flags, **_tokens(flags))


def _finish(words: list[str]) -> Instruction:
    return Finish(**_tokens(_fields(words, {})[0]))


def _fields(words: list[str], lengths: dict[str, int], *more: str) -> tuple[list[str], Values]:
    """The flags and the named numbers of a line."""
    flags: list[str] = []
    values: Values = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals and name in (*FLAGS, *more):
            flags.append(name)
        elif not equals or name not in lengths or name in values:
            raise ValueError(f"'{word}' has no place here")
        else:
            values[name] = [int(v) for v in text.replace(":", ",").split(",")]
            if len(values[name]) != lengths[name]:
                raise ValueError(f"'{word}' needs {lengths[name]} numbers")
    return flags, values


def _loops(values: Values) -> dict[str, Any]:
    names = ("uop_begin", "uop_end", "iter_out", "iter_in", "dst_out", "dst_in", "src_out", "src_in")
    return dict(zip(names, (number for name in _LOOPS for number in values[name]), strict=True))


def _tokens(flags: list[str]) -> dict[str, bool]:
    return {name: True for name in FLAGS if name in flags}


_READERS: dict[str, Callable[[list[str]], Instruction]] = {
    "load": _load,
    "store": _store,
    "gemm": _gemm,
    "alu": _alu,
    "finish": _finish,
}
