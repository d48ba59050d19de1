"""Instructions in an order in which they could run one by one, and what has to wait for what.

Whoever calls adds instructions in sequential order; the stream finds, element by element, which of them
conflict, and `tokens.py` turns that into flags. So no schedule can forget a dependency.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optc.targets.vta.compiler.tokens import assign
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import Alu, Finish, Gemm, Instruction, Load, Module, Store
from optc.targets.vta.timing import Timing

Span = tuple[int, int]
"""First element, and the one behind the last."""

Rows = NDArray[np.int64]


_PASS_ON = Load(Memory.UOP, 0, 0, 0, 0, 0)
"""A NOP of the compute module."""

_LONG = 64
"""Cycles: a longer instruction gets a NOP in front that passes a token on, instead of when it is done."""


@dataclass(frozen=True)
class Edge:
    """Instruction `last` starts after `first` is done; both by index, of neighbouring modules.

    The index of a NOP in front of instruction i is i - 0.5.
    """

    first: float
    last: float


class Stream:
    """Instructions with their dependencies; at the end `finish` gives them their tokens."""

    def __init__(self, config: Config, timing: Timing, dram_elements: int) -> None:
        """`dram_elements`: INP elements of DRAM in which stored tensors lie."""
        self.config, self.timing = config, timing
        self.instructions: list[Instruction] = []
        self.modules: list[Module] = []
        self.owner = 0
        self.owners: list[int] = []
        self._edges: list[Edge] = []
        self._written = {m: self._table(m) for m in (Memory.INP, Memory.WGT)}
        self._read = {m: self._table(m) for m in (Memory.INP, Memory.WGT)}
        self._computed, self._stored = self._table(Memory.ACC), self._table(Memory.ACC)
        self._in_dram = np.full(dram_elements, -1, np.int64)
        self._fetched = np.full(dram_elements, -1, np.int64)
        self._known: list[list[float]] = []
        self._passes: dict[int, list[float]] = {}
        self._latest: list[list[float]] = [[-1, -1, -1] for _ in Module]
        self._clock = [0, 0, 0]
        self._times: list[Span] = []

    def _table(self, memory: Memory) -> Rows:
        return np.full(self.config.depth(memory), -1, np.int64)

    def load(self, load: Load, after: int = -1) -> int:
        """A LOAD of INP or WGT; `after`: an instruction to wait for."""
        height, width = load.y_size, load.x_size
        span = slice(load.sram, load.sram + height * width)
        waits: list[float] = [int(self._read[load.memory][span].max()), after]
        source = self._storer(load) if load.memory == Memory.INP else -1
        index = self._next()
        if source >= 0 and source > self._latest[Module.LOAD][Module.STORE]:
            waits.append(self._carrier(source))
            index = self._next()
        self._add(load, Module.LOAD, waits)
        self._written[load.memory][span] = index
        if load.memory == Memory.INP:
            for part in self._rows(load):
                self._fetched[part] = index
        return index

    def compute(
        self, insn: Gemm | Alu | Load, acc: Sequence[Span], reads: Sequence[tuple[Memory, Span]] = ()
    ) -> int:
        """An instruction of the compute module; `acc`: elements written; `reads`: of INP and WGT."""
        waits = [int(self._stored[a:b].max()) for a, b in acc]
        waits += [int(self._written[m][a:b].max()) for m, (a, b) in reads]
        index = self._add(insn, Module.COMPUTE, waits)
        for a, b in acc:
            self._computed[a:b] = index
        for memory, (a, b) in reads:
            self._read[memory][a:b] = index
        return index

    def store(self, store: Store) -> int:
        """A STORE."""
        span = slice(store.sram, store.sram + store.y_size * store.x_size)
        waits = [int(self._computed[span].max())]
        parts = self._rows(store)
        reader = max(int(self._fetched[part].max()) for part in parts)
        if reader > max(self._latest[Module.STORE][Module.LOAD], self._known[waits[0]][Module.LOAD]):
            waits.append(self._add(_PASS_ON, Module.COMPUTE, [reader]))
        index = self._add(store, Module.STORE, waits)
        self._stored[span] = index
        for part in parts:
            self._in_dram[part] = index
        return index

    def finish(self) -> list[Instruction]:
        """All instructions with their tokens, and FINISH behind them."""
        ends = [max((i for i, m in enumerate(self.modules) if m == o), default=-1) for o in Module]
        waits = [e for e in (ends[Module.LOAD], ends[Module.STORE]) if e >= 0]
        self._add(Finish(), Module.COMPUTE, waits)
        order = sorted([*range(self._next()), *(i - 0.5 for i in self._passes)])
        places = {index: place for place, index in enumerate(order)}
        own = [math.ceil(index) for index in order]
        self.instructions = [
            self.instructions[i] if i == index else _PASS_ON for i, index in zip(own, order, strict=True)
        ]
        self.modules = [
            self.modules[i] if i == index else Module.COMPUTE for i, index in zip(own, order, strict=True)
        ]
        self.owners = [self.owners[i] for i in own]
        edges = [(places[e.first], places[e.last]) for e in self._edges]
        return assign(self.instructions, self.modules, edges)

    def _next(self) -> int:
        return len(self.instructions)

    def _rows(self, move: Load | Store) -> list[slice]:
        if move.x_size == move.x_stride or move.y_size == 1:
            return [slice(move.dram, move.dram + move.x_size * move.y_size)]
        starts = range(move.dram, move.dram + move.y_size * move.x_stride, move.x_stride)
        return [slice(s, s + move.x_size) for s in starts]

    def _storer(self, load: Load) -> int:
        """The last STORE of what `load` reads, -1 where none wrote it."""
        return max(int(self._in_dram[part].max()) for part in self._rows(load))

    def _carrier(self, store: int) -> float:
        """A compute instruction that waits for `store`, so that a load can wait for it.

        The first one that, by an estimate, starts after the store is done anyway, or a NOP in front of it
        where it is long and the next stage's, which waits for its first loads; else a new NOP.
        """
        done = self._times[store][1]
        for index in range(store + 1, self._next()):
            start, end = self._times[index]
            if self.modules[index] == Module.COMPUTE and start >= done:
                self._known[index][Module.STORE] = max(self._known[index][Module.STORE], store)
                hurry = end - start > _LONG and self.owners[index] != self.owners[store]
                carrier = self._pass_before(index, store) if hurry else index
                self._edges.append(Edge(store, carrier))
                return carrier
        return self._add(_PASS_ON, Module.COMPUTE, [store])

    def _pass_before(self, index: int, store: int) -> float:
        """A NOP in front of a compute instruction, which waits for `store`."""
        before = index - 1
        while before >= 0 and self.modules[before] != Module.COMPUTE:
            before -= 1
        if index not in self._passes:
            known = list(self._known[before]) if before >= 0 else [-1.0] * len(Module)
            known[Module.COMPUTE] = before
            self._passes[index] = known
        self._passes[index][Module.STORE] = max(self._passes[index][Module.STORE], store)
        return index - 0.5

    def _add(self, insn: Instruction, module: Module, waits: Sequence[float]) -> int:
        index = self._next()
        known = self._latest[module]
        start = self._clock[module]
        for first in sorted({w for w in waits if w >= 0}, reverse=True):
            at = math.ceil(first)
            other, its = (
                (self.modules[at], self._known[at]) if at == first else (Module.COMPUTE, self._passes[at])
            )
            if other == module or first <= known[other]:
                continue
            self._edges.append(Edge(first, index))
            if module != Module.LOAD and other != Module.LOAD:
                start = max(start, self._times[at][1])
            for m in Module:
                known[m] = max(known[m], its[m])
            known[other] = max(known[other], first)
        self._times.append((start, start + self._duration(insn)))
        self._clock[module] = self._times[-1][1]
        self.instructions.append(insn)
        self.modules.append(module)
        self.owners.append(self.owner)
        self._known.append(list(known))
        known[module] = index
        return index

    def _duration(self, insn: Instruction) -> int:
        """Roughly, in cycles."""
        if isinstance(insn, Gemm | Alu):
            steps = insn.iter_out * insn.iter_in * (insn.uop_end - insn.uop_begin)
            slow = isinstance(insn, Alu) and not insn.use_imm
            return steps * (2 if slow else 1) + self.timing.drain
        if isinstance(insn, Store):
            return 3 * insn.x_size * insn.y_size + 3 * insn.y_size + 3
        return 0
