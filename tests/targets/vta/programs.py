"""Well-formed small VTA programs over every instruction, drawn by hypothesis.

A program is built in program order. The builder knows what each instruction reads and writes;
where one must wait for an instruction of another module, it spends a
token, and otherwise lets the modules overlap. Everything that is read was written before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any

import numpy as np
from hypothesis import strategies as st
from interpreter import ACC, ADD, ALU, FINISH, GEMM, INP, LOAD, MAX, MIN, OUT, SHR, STORE, UOP, WGT, Shape

ORDER = ("load", "compute", "store")
PAGE = 0x1000
UOPS = 16
"""Micro-ops on the chip that a program uses."""
AREA = 64
"""Elements of each area of DRAM."""
SHIFTS = 4
"""So many elements at the end of ACC's window hold shift amounts and are never written again."""
PADS = ("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1")
PAIRS = (("load", "compute"), ("compute", "load"), ("compute", "store"), ("store", "compute"))

Draw = Any
Insn = dict[str, int]
Places = frozenset[tuple[str, int]]


@dataclass(frozen=True)
class Drawn:
    """A program: its configuration, instructions as (n, 16) bytes, and memory as it is before the run."""

    config: dict[str, int]
    rows: np.ndarray[Any, np.dtype[np.uint8]]
    memory: bytes
    free: int
    """First byte after what the program uses; `memory` has room for the instructions there."""


def encode(insn: Insn, shape: Shape) -> bytes:
    """16 bytes, from the widths of the page."""
    u, w, i, a = (shape.log[m] for m in (UOP, WGT, INP, ACC))
    common = [("opcode", 3), *((f, 1) for f in ("pop_prev", "pop_next", "push_prev", "push_next"))]
    loops = [("reset", 1), ("uop_bgn", u), ("uop_end", u + 1), ("iter_out", 14), ("iter_in", 14)]
    factors = [("dst_out", a), ("dst_in", a), ("src_out", i), ("src_in", i)]
    move = [("y_size", 16), ("x_size", 16), ("x_stride", 16), ("y_pad_0", 4), ("y_pad_1", 4)]
    low, high = {
        LOAD: ([("memory", 3), ("sram", 16), ("dram", 32)], [*move, ("x_pad_0", 4), ("x_pad_1", 4)]),
        STORE: ([("memory", 3), ("sram", 16), ("dram", 32)], move),
        GEMM: (loops, [*factors, ("wgt_out", w), ("wgt_in", w)]),
        ALU: (loops, [*factors, ("op", 3), ("use_imm", 1), ("imm", 16)]),
        FINISH: ([], []),
    }[insn["opcode"]]
    bits = 0
    for start, layout in ((0, common + low), (64, high)):
        for name, width in layout:
            bits |= (insn.get(name, 0) & ((1 << width) - 1)) << start
            start += width
    return bits.to_bytes(16, "little")


@dataclass
class Builder:
    """Instructions in program order, and the tokens that order the modules."""

    program: list[Insn] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=dict)
    seen: dict[str, dict[str, int]] = field(
        default_factory=lambda: {m: dict.fromkeys(ORDER, -1) for m in ORDER}
    )
    """seen[a][b]: the last instruction of b that is over when a's next one begins."""
    reads: dict[tuple[str, int], dict[str, int]] = field(default_factory=dict)
    writes: dict[tuple[str, int], dict[str, int]] = field(default_factory=dict)

    def add(self, name: str, insn: Insn, reads: Places = frozenset(), writes: Places = frozenset()) -> None:
        """Append an instruction of module `name`, after whatever it has to wait for."""
        waits = dict.fromkeys(ORDER, -1)
        for place in reads | writes:
            for table in (self.writes, *((self.reads,) if place in writes else ())):
                for other, index in table.get(place, {}).items():
                    waits[other] = max(waits[other], index)
        pops = self.wait(name, waits)
        index = self.append(name, insn | pops)
        for table, places in ((self.reads, reads), (self.writes, writes)):
            for place in places:
                table.setdefault(place, {})[name] = index

    def append(self, name: str, insn: Insn) -> int:
        self.program.append(insn)
        self.last[name] = self.seen[name][name] = len(self.program) - 1
        return self.last[name]

    def wait(self, name: str, waits: dict[str, int]) -> Insn:
        """The pops that the next instruction of `name` needs, with the pushes for them."""
        pops: Insn = {}
        far = {"load": "store", "store": "load"}.get(name)
        if far and waits[far] > self.seen[name][far]:
            if waits[far] > self.seen["compute"][far]:
                self.nop("compute", self.token(far, "compute"))
            waits["compute"] = self.last["compute"]
        for other in ORDER:
            if other not in (name, far) and waits[other] > self.seen[name][other]:
                pops |= self.token(other, name)
        return pops

    def token(self, giver: str, taker: str) -> Insn:
        """Let the last instruction of `giver` push; the pop for `taker`."""
        forward = ORDER.index(taker) > ORDER.index(giver)
        push, pop = ("push_next", "pop_prev") if forward else ("push_prev", "pop_next")
        if giver not in self.last or self.program[self.last[giver]].get(push):
            self.nop(giver, {})
        self.program[self.last[giver]][push] = 1
        for other in ORDER:
            self.seen[taker][other] = max(self.seen[taker][other], self.seen[giver][other])
        return {pop: 1}

    def nop(self, name: str, flags: Insn) -> None:
        """An instruction that only moves tokens."""
        memory = {"load": INP, "compute": UOP, "store": OUT}[name]
        opcode = STORE if name == "store" else LOAD
        self.append(name, {"opcode": opcode, "memory": memory, **flags})


def places(space: str, indices: Any) -> Places:
    """Elements (or bytes of DRAM) that something touches."""
    return frozenset((space, int(i)) for i in indices)


@dataclass
class Windows:
    """The part of each memory that a program uses (first element, how many), and its areas of DRAM."""

    shape: Shape
    at: dict[int, int]
    size: dict[int, int]
    dram: dict[int, int]
    """First element (in elements of the memory) of each area; OUT's area is where STORE writes."""


@st.composite
def configs(draw: Draw) -> dict[str, int]:
    """Configurations that the fields can express, BLOCK 4 to 32 and BATCH 1 to 4."""
    batch, block = draw(st.integers(0, 2)), draw(st.integers(2, 5))
    uop = draw(st.integers(6, 13))
    inp, acc, wgt = draw(st.integers(6, 11)), draw(st.integers(6, 11)), draw(st.integers(4, 10))
    return {
        "LOG_INP_WIDTH": 3,
        "LOG_WGT_WIDTH": 3,
        "LOG_ACC_WIDTH": 5,
        "LOG_BATCH": batch,
        "LOG_BLOCK": block,
        "LOG_UOP_BUFF_SIZE": uop + 2,
        "LOG_INP_BUFF_SIZE": inp + batch + block,
        "LOG_WGT_BUFF_SIZE": wgt + 2 * block,
        "LOG_ACC_BUFF_SIZE": acc + batch + block + 2,
    }


@st.composite
def windows(draw: Draw, shape: Shape) -> Windows:
    """Where a program lives."""
    size = {INP: 24, ACC: 32, WGT: 6, UOP: UOPS}
    # A src index of the ALU has the width of INP's depth.
    room = shape.depth | {ACC: min(shape.depth[ACC], shape.depth[INP]), UOP: min(shape.depth[UOP], 2048)}
    at = {m: draw(st.sampled_from([0, 1, room[m] - size[m]])) for m in size}
    start, dram = PAGE, {}
    for memory in (UOP, WGT, INP, ACC, OUT):
        dram[memory] = -(-start // shape.element[memory])
        start = (dram[memory] + AREA) * shape.element[memory]
    return Windows(shape, at, size, dram)


class Writer:
    """Draws the instructions of one program."""

    def __init__(self, draw: Draw, window: Windows) -> None:
        self.draw, self.window, self.shape = draw, window, window.shape
        self.builder = Builder()
        self.fresh: set[int] = set()  # ACC elements whose last operation was a GEMM or an ALU op
        self.words: list[int] = []  # micro-ops in DRAM
        self.usable = window.size[ACC] - SHIFTS

    def number(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def chance(self) -> bool:
        return bool(self.draw(st.booleans()))

    def body(self) -> None:
        """First loads that fill the windows, then anything."""
        for memory in (INP, WGT, ACC):
            self.move(memory, self.window.at[memory], (1, self.window.size[memory], 0), (0, 0, 0, 0), 0)
        kinds = [self.load, self.load, self.gemm, self.gemm, self.alu, self.alu, self.store, self.token]
        for kind in self.draw(st.lists(st.sampled_from(kinds), min_size=2, max_size=12)):
            kind()
        if not self.fresh:
            self.alu()
        self.store()
        self.builder.add("compute", {"opcode": FINISH} | self.builder.wait("compute", self.builder.last))

    def token(self) -> None:
        """A token that nobody needs."""
        giver, taker = self.draw(st.sampled_from(PAIRS))
        self.builder.nop(taker, self.builder.token(giver, taker))

    def move(
        self, memory: int, sram: int, rows: tuple[int, int, int], pads: tuple[int, ...], dram: int
    ) -> None:
        """A LOAD of `rows` (how many, elements of each, stride), from element `dram` of the memory's area."""
        (y, x, stride), size = rows, self.shape.element[memory]
        base = self.window.dram[memory] + dram
        touched = range(sram, sram + (pads[0] + y + pads[1]) * (pads[2] + x + pads[3]))
        insn = {"opcode": LOAD, "memory": memory, "sram": sram, "dram": base, "y_size": y, "x_size": x}
        insn |= {"x_stride": stride, **dict(zip(PADS, pads, strict=True))}
        space = {INP: "inp", WGT: "wgt", ACC: "acc", UOP: "uop"}[memory]
        module = "load" if memory in (INP, WGT) else "compute"
        self.builder.add(module, insn, dram_places(base, rows, size), places(space, touched))
        if memory == ACC:
            self.fresh -= set(touched)

    def load(self) -> None:
        """Strided, padded, and for INP sometimes from what a STORE wrote."""
        memory = self.draw(st.sampled_from([INP, INP, WGT, ACC]))
        limit = self.usable if memory == ACC else self.window.size[memory]
        pads = (0, 0, 0, 0) if memory == WGT else tuple(self.number(0, 1) for _ in PADS)
        y = self.number(1, 3)
        height = pads[0] + y + pads[1]
        x = self.number(1, limit // height - pads[2] - pads[3])
        total = height * (pads[2] + x + pads[3])
        sram = self.window.at[memory] + self.number(0, limit - total)
        stride = self.number(0, (AREA - 20 - x) // 2)
        shift = self.number(0, AREA - 20 - (y - 1) * stride - x)
        if memory == INP and self.chance():
            # INP and OUT elements have the same size.
            shift += self.window.dram[OUT] - self.window.dram[INP]
        self.move(memory, sram, (y, x, stride), pads, shift)

    def nest(self, limits: dict[str, tuple[int, int]]) -> tuple[Insn, list[list[int]]]:
        """A loop nest and its micro-ops' dst, src, wgt; indices stay in `limits` (first, how many)."""
        outer, inner, count = self.number(1, 3), self.number(1, 3), self.number(1, 3)
        first = self.window.at[UOP] + self.number(0, UOPS - count)
        insn = {"uop_bgn": first, "uop_end": first + count, "iter_out": outer, "iter_in": inner}
        columns = {}
        for name, (start, size) in limits.items():
            if name == "dst":  # all different, or a reduction outside of at least 4 steps
                reduced = inner * count >= 4 and self.chance()
                factors = (0 if reduced else inner * count, count)
                local = list(self.draw(st.permutations(range(count))))
            else:
                factors = (self.number(0, 3), self.number(0, 2)) if size > 10 else (0, size > 2)
                reach = size - 1 - (outer - 1) * factors[0] - (inner - 1) * factors[1]
                local = [self.number(0, reach) for _ in range(count)]
            top = max(local) + (outer - 1) * factors[0] + (inner - 1) * factors[1]
            move = start + self.number(0, size - 1 - top)
            insn |= {f"{name}_out": factors[0], f"{name}_in": int(factors[1])}
            columns[name] = [move + v for v in local]
        if "src" not in columns:
            columns["src"] = columns["dst"]
            insn |= {"src_out": insn["dst_out"], "src_in": insn["dst_in"]}
        return insn, [columns["dst"], columns["src"], columns.get("wgt", [0] * count)]

    def uops(self, first: int, columns: list[list[int]]) -> None:
        """Put micro-ops into DRAM and load them."""
        i, a = self.shape.log[INP], self.shape.log[ACC]
        words = [d | s << a | w << a + i for d, s, w in zip(*columns, strict=True)]
        self.move(UOP, first, (1, len(words), len(words)), (0, 0, 0, 0), len(self.words))
        self.words += words

    def gemm(self) -> None:
        """A GEMM or a reset."""
        at, size = self.window.at, self.window.size
        limits = {"dst": (at[ACC], self.usable), "src": (at[INP], size[INP]), "wgt": (at[WGT], size[WGT])}
        insn, columns = self.nest(limits)
        self.uops(insn["uop_bgn"], columns)
        insn |= {"opcode": GEMM, "reset": int(self.number(0, 3) == 0)}
        dst, src, wgt = (set(v) for v in zip(*walk(insn, columns), strict=True))
        self.builder.add("compute", insn, places("inp", src) | places("wgt", wgt), places("acc", dst))
        self.fresh = self.fresh - dst if insn["reset"] else self.fresh | dst

    def alu(self) -> None:
        """An ALU instruction, immediate or not."""
        at, immediate = self.window.at[ACC], self.chance()
        op = self.draw(st.sampled_from([MIN, MAX, ADD, SHR]))
        limits = {"dst": (at, self.usable)}
        if not immediate:
            limits["src"] = (at + self.usable, SHIFTS) if op == SHR else (at, self.window.size[ACC])
        insn, columns = self.nest(limits)
        steps = walk(insn, columns)
        if not immediate and any(b[1] == a[0] for a, b in pairwise(steps)):
            # A tensor operation must not read what the step before wrote: read what nothing writes.
            insn |= {"src_out": 0, "src_in": 0}
            columns[1] = [at + self.usable] * len(columns[1])
        self.uops(insn["uop_bgn"], columns)
        value = self.number(-16, 15) if op == SHR else self.number(-(2**15), 2**15 - 1)
        insn |= {"opcode": ALU, "op": op, "use_imm": int(immediate), "imm": value if immediate else 0}
        dst = {d for d, _, _ in steps}
        self.builder.add("compute", insn, writes=places("acc", dst))
        self.fresh |= dst

    def store(self) -> None:
        """STORE of elements whose last operation was a GEMM or an ALU op."""
        if not self.fresh:
            return
        first = self.draw(st.sampled_from(sorted(self.fresh)))
        run = 1
        while first + run in self.fresh and run < 12:
            run += 1
        y = self.number(1, min(run, 3))
        x = run // y
        rows = (y, x, x + self.number(0, 3))
        base = self.window.dram[OUT] + self.number(0, AREA - 20)
        insn = {"opcode": STORE, "memory": OUT, "sram": first, "dram": base}
        insn |= {"y_size": y, "x_size": x, "x_stride": rows[2]}
        writes = dram_places(base, rows, self.shape.element[OUT])
        self.builder.add("store", insn, places("acc", range(first, first + y * x)), writes)


def dram_places(base: int, rows: tuple[int, int, int], size: int) -> Places:
    """The bytes of DRAM (every fourth) of strided rows of elements of `size` bytes."""
    starts = [(base + r * rows[2] + c) * size for r in range(rows[0]) for c in range(rows[1])]
    return places("dram", [a + b for a in starts for b in range(0, size, 4)])


def walk(insn: Insn, columns: list[list[int]]) -> list[tuple[int, ...]]:
    """The (dst, src, wgt) of every step of a loop nest."""
    factors = [(insn.get(f"{n}_out", 0), insn.get(f"{n}_in", 0)) for n in ("dst", "src", "wgt")]
    nest = product(range(insn["iter_out"]), range(insn["iter_in"]), zip(*columns, strict=True))
    return [tuple(v + y * o + x * i for v, (o, i) in zip(u, factors, strict=True)) for y, x, u in nest]


@st.composite
def programs(draw: Draw, configuration: dict[str, int] | None = None) -> Drawn:
    """A program that every rule of the page allows, for `configuration` or any."""
    config = configuration or draw(configs())
    window = draw(windows(Shape(config)))
    writer = Writer(draw, window)
    writer.body()
    shape, dram = writer.shape, window.dram
    free = -(-(dram[OUT] + AREA) * shape.element[OUT] // PAGE) * PAGE
    rows = [encode(insn, shape) for insn in writer.builder.program]
    memory = bytearray(free + -(-16 * len(rows) // PAGE) * PAGE)
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    memory[PAGE:free] = random.bytes(free - PAGE)
    put(memory, dram[UOP] * 4, np.array(writer.words, np.uint32))
    lanes = shape.element[ACC] // 4
    amounts = random.integers(0, 16, SHIFTS * lanes, np.int32)
    put(memory, (dram[ACC] + writer.usable) * shape.element[ACC], amounts)
    table = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 16)
    return Drawn(config, table, bytes(memory), free)


def put(memory: bytearray, address: int, values: np.ndarray[Any, Any]) -> None:
    """Write an array's bytes."""
    memory[address : address + values.nbytes] = values.tobytes()
