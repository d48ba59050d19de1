"""A second VTA, read off its page: plain loops over Python integers, its own decoder, nothing of the package.

What the page leaves undefined stops it (`Undefined`): an index out of range, a shift that the real machines
disagree on, storing an element that no GEMM or ALU wrote last, a program that cannot go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

LOAD, STORE, GEMM, FINISH, ALU = range(5)
UOP, WGT, INP, ACC, OUT = range(5)
MIN, MAX, ADD, SHR = range(4)
Values = list[int]


class Undefined(Exception):
    """The page does not say what happens."""


def signed(value: int, bits: int) -> int:
    """The low `bits` of `value` in two's complement."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


class Shape:
    """The sizes that a configuration (the original's JSON as a dictionary) gives; int8 and int32 only."""

    def __init__(self, config: dict[str, int]) -> None:
        assert (config["LOG_INP_WIDTH"], config["LOG_WGT_WIDTH"], config["LOG_ACC_WIDTH"]) == (3, 3, 5)
        self.batch, self.block = 1 << config["LOG_BATCH"], 1 << config["LOG_BLOCK"]
        self.element = {
            UOP: 4,
            WGT: self.block * self.block,
            INP: self.batch * self.block,
            ACC: self.batch * self.block * 4,
            OUT: self.batch * self.block,
        }
        names = {UOP: "UOP", WGT: "WGT", INP: "INP", ACC: "ACC"}
        self.depth = {m: (1 << config[f"LOG_{n}_BUFF_SIZE"]) // self.element[m] for m, n in names.items()}
        self.log = {m: depth.bit_length() - 1 for m, depth in self.depth.items()}


def fields(bits: int, start: int, layout: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Cut `bits` into named fields, the first at bit `start`."""
    found = {}
    for name, width in layout:
        found[name] = bits >> start & ((1 << width) - 1)
        start += width
    return found


COMMON = (("opcode", 3), ("pop_prev", 1), ("pop_next", 1), ("push_prev", 1), ("push_next", 1))
MOVE_LOW = (("memory", 3), ("sram", 16), ("dram", 32))
MOVE_HIGH = (
    *(("y_size", 16), ("x_size", 16), ("x_stride", 16)),
    *(("y_pad_0", 4), ("y_pad_1", 4), ("x_pad_0", 4), ("x_pad_1", 4)),
)


def decode(row: Any, shape: Shape) -> dict[str, int]:
    """The fields of one instruction of 16 bytes."""
    bits = int.from_bytes(bytes(row), "little")
    found = fields(bits, 0, COMMON)
    if found["opcode"] in (LOAD, STORE):
        return found | fields(bits, 7, MOVE_LOW) | fields(bits, 64, MOVE_HIGH)
    if found["opcode"] == FINISH:
        return found
    if found["opcode"] not in (GEMM, ALU):
        raise Undefined(f"opcode {found['opcode']}")
    u, w, i, a = (shape.log[m] for m in (UOP, WGT, INP, ACC))
    low = (("reset", 1), ("uop_bgn", u), ("uop_end", u + 1), ("iter_out", 14), ("iter_in", 14))
    high = [("dst_out", a), ("dst_in", a), ("src_out", i), ("src_in", i)]
    if found["opcode"] == GEMM:
        high += [("wgt_out", w), ("wgt_in", w)]
    else:
        high += [("op", 3), ("use_imm", 1), ("imm", 16)]
    return found | fields(bits, 7, low) | fields(bits, 64, high)


def module(insn: dict[str, int]) -> str:
    """Which of the three modules executes an instruction."""
    if insn["opcode"] == STORE:
        return "store"
    return "load" if insn["opcode"] == LOAD and insn["memory"] in (INP, WGT) else "compute"


# module -> flag -> token queue
POPS = {
    "load": {"pop_next": "g2l"},
    "compute": {"pop_prev": "l2g", "pop_next": "s2g"},
    "store": {"pop_prev": "g2s"},
}
PUSHES = {
    "load": {"push_next": "l2g"},
    "compute": {"push_prev": "g2l", "push_next": "g2s"},
    "store": {"push_prev": "s2g"},
}


@dataclass
class Machine:
    """The memories: lists of elements, each a flat list of integers, or None where nothing was written."""

    shape: Shape
    dram: bytearray
    uop: list[int | None] = field(init=False)
    wgt: list[Values | None] = field(init=False)
    inp: list[Values | None] = field(init=False)
    acc: list[Values | None] = field(init=False)
    out: list[Values | None] = field(init=False)
    finished: bool = False

    def __post_init__(self) -> None:
        self.uop = [None] * self.shape.depth[UOP]
        self.wgt = [None] * self.shape.depth[WGT]
        self.inp = [None] * self.shape.depth[INP]
        self.acc = [None] * self.shape.depth[ACC]
        self.out = [None] * self.shape.depth[ACC]

    def execute(self, insn: dict[str, int]) -> None:
        """One instruction, tokens apart."""
        if self.finished:
            raise Undefined("an instruction after FINISH")
        if insn["opcode"] == FINISH:
            self.finished = True
        elif insn["opcode"] in (LOAD, STORE):
            if insn["x_size"] == 0:
                return
            self.load(insn) if insn["opcode"] == LOAD else self.store(insn)
        else:
            self.loops(insn)

    def load(self, insn: dict[str, int]) -> None:
        """Rows of DRAM, zeros around them, written one after another."""
        memory, at = insn["memory"], insn["sram"]
        size = self.shape.element[memory]
        width = insn["x_pad_0"] + insn["x_size"] + insn["x_pad_1"]
        for y in range(-insn["y_pad_0"], insn["y_size"] + insn["y_pad_1"]):
            for x in range(-insn["x_pad_0"], width - insn["x_pad_0"]):
                inside = 0 <= y < insn["y_size"] and 0 <= x < insn["x_size"]
                address = (insn["dram"] + y * insn["x_stride"] + x) * size
                raw = self.read(address, size) if inside else bytes(size)
                self.put(memory, at, raw)
                at += 1

    def read(self, address: int, size: int) -> bytes:
        """Bytes of DRAM."""
        if address + size > len(self.dram):
            raise Undefined(f"address {address:#x} is beyond the memory")
        return bytes(self.dram[address : address + size])

    def put(self, memory: int, index: int, raw: bytes) -> None:
        """An element from DRAM into a memory on the chip."""
        if index >= self.shape.depth[memory]:
            raise Undefined(f"element {index} of memory {memory}")
        if memory == UOP:
            self.uop[index] = int.from_bytes(raw, "little")
        elif memory == ACC:
            words = range(0, len(raw), 4)
            self.acc[index] = [signed(int.from_bytes(raw[k : k + 4], "little"), 32) for k in words]
            self.out[index] = None  # not what ACC holds any more
        else:
            (self.inp if memory == INP else self.wgt)[index] = [signed(byte, 8) for byte in raw]

    def store(self, insn: dict[str, int]) -> None:
        """Rows of OUT to DRAM."""
        if insn["memory"] != OUT:
            raise Undefined("STORE of another memory than OUT")
        size, at = self.shape.element[OUT], insn["sram"]
        for y in range(insn["y_size"]):
            for x in range(insn["x_size"]):
                address = (insn["dram"] + y * insn["x_stride"] + x) * size
                self.read(address, size)
                values = element(self.out, at)
                self.dram[address : address + size] = bytes(value & 255 for value in values)
                at += 1

    def loops(self, insn: dict[str, int]) -> None:
        """The loop nest of GEMM and ALU."""
        action = self.gemm if insn["opcode"] == GEMM else self.alu
        w, i, a = (self.shape.log[m] for m in (WGT, INP, ACC))
        for y in range(insn["iter_out"]):
            for x in range(insn["iter_in"]):
                for u in range(insn["uop_bgn"], insn["uop_end"]):
                    word = self.uop[u]
                    if word is None:
                        raise Undefined(f"micro-op {u} was never loaded")
                    uop = fields(word, 0, (("dst", a), ("src", i), ("wgt", w)))
                    dst = uop["dst"] + y * insn["dst_out"] + x * insn["dst_in"]
                    src = uop["src"] + y * insn["src_out"] + x * insn["src_in"]
                    wgt = uop["wgt"] + y * insn.get("wgt_out", 0) + x * insn.get("wgt_in", 0)
                    action(insn, dst, src, wgt)

    def gemm(self, insn: dict[str, int], dst: int, src: int, wgt: int) -> None:
        """One matrix product of a GEMM, or one reset."""
        batch, block = self.shape.batch, self.shape.block
        if dst >= len(self.acc) or src >= len(self.inp) or wgt >= len(self.wgt):
            raise Undefined(f"index out of range: {dst} {src} {wgt}")
        if insn["reset"]:
            self.acc[dst], self.out[dst] = [0] * (batch * block), None
            return
        rows, weights, old = element(self.inp, src), element(self.wgt, wgt), element(self.acc, dst)
        new = []
        for b in range(batch):
            for o in range(block):
                total = old[b * block + o]
                for k in range(block):
                    total += rows[b * block + k] * weights[o * block + k]
                new.append(signed(total, 32))
        self.acc[dst], self.out[dst] = new, [signed(value, 8) for value in new]

    def alu(self, insn: dict[str, int], dst: int, src: int, wgt: int) -> None:
        """One vector operation of an ALU instruction."""
        left = element(self.acc, dst)
        right = [signed(insn["imm"], 16)] * len(left) if insn["use_imm"] else element(self.acc, src)
        if insn["use_imm"] and src != dst:
            raise Undefined("an immediate operation whose src is not its dst")
        limits = range(-16, 16) if insn["use_imm"] else range(16)
        new = [calculate(insn["op"], x, y, limits) for x, y in zip(left, right, strict=True)]
        self.acc[dst], self.out[dst] = new, [signed(value, 8) for value in new]


def element(memory: list[Values | None], index: int) -> Values:
    """An element that was written before."""
    found = memory[index] if index < len(memory) else None
    if found is None:
        raise Undefined(f"element {index} is out of range, or holds nothing of use")
    return found


def calculate(op: int, x: int, y: int, shifts: range) -> int:
    """One lane of the ALU."""
    if op == SHR and y not in shifts:
        raise Undefined(f"a shift by {y}")
    if op not in (MIN, MAX, ADD, SHR):
        raise Undefined(f"ALU operation {op}")
    if op == SHR:
        return signed(x >> y if y >= 0 else x << -y, 32)
    return signed(x + y, 32) if op == ADD else min(x, y) if op == MIN else max(x, y)


Pick = Callable[[list[int]], int]
Queues = dict[str, list[int]]


def run(rows: Any, dram: bytearray, config: dict[str, int], pick: Pick = min) -> Machine:
    """Run a program on `dram` in place; of the instructions that are ready, `pick` says which is next."""
    machine = Machine(Shape(config), dram)
    program = [decode(row, machine.shape) for row in rows]
    queues: Queues = {"load": [], "compute": [], "store": []}
    for index, insn in enumerate(program):
        check_flags(insn)
        queues[module(insn)].append(index)
    tokens = {"l2g": 0, "g2l": 0, "g2s": 0, "s2g": 0}
    while any(queues.values()):
        heads = [q[0] for name, q in queues.items() if q and may_run(program[q[0]], name, tokens)]
        if not heads:
            raise Undefined("deadlock")
        index = pick(sorted(heads))
        insn, name = program[index], module(program[index])
        queues[name].remove(index)
        for flag, token in POPS[name].items():
            tokens[token] -= insn[flag]
        machine.execute(insn)
        for flag, token in PUSHES[name].items():
            tokens[token] += insn[flag]
    if not machine.finished or any(tokens.values()):
        raise Undefined(f"no FINISH, or tokens are left: {tokens}")
    return machine


def check_flags(insn: dict[str, int]) -> None:
    """The load module has no stage before it, the store module none after it."""
    name = module(insn)
    for flag in ("pop_prev", "pop_next", "push_prev", "push_next"):
        if insn[flag] and flag not in POPS[name] | PUSHES[name]:
            raise Undefined(f"{flag} in {name}")


def may_run(insn: dict[str, int], name: str, tokens: dict[str, int]) -> bool:
    """All tokens that an instruction takes are there."""
    return all(tokens[token] for flag, token in POPS[name].items() if insn[flag])
