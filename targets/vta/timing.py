"""The cycle model: three queues with their tokens, one shared read port; after the original RTL.

Figures: docs/vta.md, "Cycles". An event is an instruction's start or a burst on the read port, never a cycle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from optc.models.errors import InputError
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import Alu, Gemm, Instruction, Load, Module, Store, is_nop, module_of

WORD_BYTES = 8
"""Bytes of a word on the bus: one a cycle."""


@dataclass(frozen=True)
class Timing:
    """An implementation's figures, in cycles unless said otherwise.

    `burst_bytes`: the longest burst, aligned; `fetch_block`: instructions that fetch reads at once;
    `launch`: until the first instruction can start; `request`, `close`: of a LOAD before its first word and
    behind its last (a LOAD UOP closes one earlier); `drain`: of GEMM and ALU beyond their steps; `token`: an
    instruction that moves tokens only; `refill`: fetch, between two blocks, beyond 3 an instruction.
    """

    name: str
    burst_bytes: int
    fetch_block: int
    launch: int = 21
    request: int = 20
    close: int = 5
    drain: int = 9
    token: int = 4
    refill: int = 20


PYNQ = Timing("pynq", burst_bytes=2048, fetch_block=128)
DE10 = Timing("de10", burst_bytes=128, fetch_block=8)

TIMINGS = {t.name: t for t in (PYNQ, DE10)}


@dataclass
class Activity:
    """Cycles that a module worked, waited for a token, waited for the read port; the rest it was idle."""

    busy: int = 0
    token: int = 0
    memory: int = 0


@dataclass(frozen=True)
class Report:
    """Cycles from launch to finish, each module's activity, and each instruction's (start, end)."""

    cycles: int
    modules: dict[Module, Activity]
    spans: list[tuple[int, int]]


def simulate(instructions: Sequence[Instruction], config: Config, timing: Timing) -> Report:
    """How long `instructions` take; `InputError` where they never end (deadlock)."""
    machine = _Machine(instructions, config, timing)
    machine.run()
    return Report(max((e for _, e in machine.spans), default=0), machine.activity, machine.spans)


_POPS = ((("pop_next", 1),), (("pop_prev", 0), ("pop_next", 3)), (("pop_prev", 2),))
_PUSHES = ((("push_next", 0),), (("push_prev", 1), ("push_next", 2)), (("push_prev", 3),))
"""By module: flag and channel (load to compute, compute to load, compute to store, store to compute)."""

_READ, _START = 0, 1
"""Kinds of event, in order of precedence at one time."""


@dataclass
class _Reading:
    """A LOAD under way: words of its bursts to come, when the next can begin, what follows the last."""

    index: int
    bursts: deque[int]
    ready: int
    tail: int
    waited: int = 0


class _Machine:
    """Time of each module, tokens under way (by the time they were given), and the read port."""

    def __init__(self, instructions: Sequence[Instruction], config: Config, timing: Timing) -> None:
        self.instructions, self.config, self.timing = instructions, config, timing
        self.activity = {m: Activity() for m in Module}
        self.spans = [(0, 0)] * len(instructions)
        self._queues: list[deque[int]] = [deque(), deque(), deque()]
        for index, instruction in enumerate(instructions):
            self._queues[module_of(instruction)].append(index)
        self._tokens: list[deque[int]] = [deque() for _ in range(4)]
        self._free = [0, 0, 0]
        self._reading: list[_Reading | None] = [None, None, None]
        self._port = 0

    def run(self) -> None:
        """All events, in order of time."""
        while events := [e for m in Module if (e := self._next(m)) is not None]:
            time, kind, module = min(events)
            if kind == _START:
                self._start(module, time)
            else:
                self._read(module, time, min((t for t, _, m in events if m != module), default=None))
        stuck = [queue[0] for queue in self._queues if queue]
        if stuck:
            raise InputError(f"instruction {min(stuck)}: deadlock: it waits for a token that never comes")

    def _next(self, module: Module) -> tuple[int, int, Module] | None:
        """The next event of a module, None while it waits or has no more to do."""
        reading = self._reading[module]
        if reading is not None:
            return max(self._port, reading.ready), _READ, module
        if not self._queues[module]:
            return None
        index = self._queues[module][0]
        time = self._available(module, index)
        for flag, channel in _POPS[module]:
            if getattr(self.instructions[index], flag):
                if not self._tokens[channel]:
                    return None
                time = max(time, self._tokens[channel][0])
        return time, _START, module

    def _available(self, module: Module, index: int) -> int:
        """When the module is free and fetch has brought the instruction, tokens aside."""
        block, place = divmod(index, self.timing.fetch_block)
        refill = self.timing.refill + 3 * self.timing.fetch_block
        return max(self._free[module], self.timing.launch + block * refill + place)

    def _start(self, module: Module, time: int) -> None:
        index = self._queues[module].popleft()
        instruction = self.instructions[index]
        self.activity[module].token += time - self._available(module, index)
        for flag, channel in _POPS[module]:
            if getattr(instruction, flag):
                self._tokens[channel].popleft()
        self.spans[index] = (time, time)
        if isinstance(instruction, Load) and not is_nop(instruction):
            self._reading[module] = self._request(index, instruction, time)
        else:
            self._end(module, index, time + self._duration(instruction), 0)

    def _request(self, index: int, load: Load, time: int) -> _Reading:
        bursts = deque(w for row in self._rows(load) for w in _bursts(*row, self.timing.burst_bytes))
        height, width = load.y_size + load.y_pad_0 + load.y_pad_1, load.x_size + load.x_pad_0 + load.x_pad_1
        # Zeros are written while the first word is on its way; those left over cost a cycle each.
        zeros = max(0, height * width - load.y_size * load.x_size - self.timing.request)
        tail = self.timing.close - (load.memory == Memory.UOP) + zeros
        return _Reading(index, bursts, time + self.timing.request, tail)

    def _read(self, module: Module, time: int, until: int | None) -> None:
        """A burst on the port, and those that follow before another module has an event."""
        reading = self._reading[module]
        assert reading is not None
        reading.waited += time - reading.ready
        time += reading.bursts.popleft()
        while reading.bursts and (until is None or time < until):
            time += reading.bursts.popleft()
        self._port = reading.ready = time
        if not reading.bursts:
            self._reading[module] = None
            self._end(module, reading.index, self._port + reading.tail, reading.waited)

    def _end(self, module: Module, index: int, time: int, waited: int) -> None:
        start = self.spans[index][0]
        self.spans[index] = (start, time)
        self.activity[module].busy += time - start - waited
        self.activity[module].memory += waited
        self._free[module] = time
        for flag, channel in _PUSHES[module]:
            if getattr(self.instructions[index], flag):
                self._tokens[channel].append(time)

    def _duration(self, instruction: Instruction) -> int:
        """Of anything that does not read memory."""
        if isinstance(instruction, Gemm | Alu):
            steps = instruction.iter_out * instruction.iter_in * (instruction.uop_end - instruction.uop_begin)
            slow = isinstance(instruction, Alu) and not instruction.use_imm
            return steps * (2 if slow else 1) + self.timing.drain
        if isinstance(instruction, Store) and not is_nop(instruction):
            rows = self._rows(instruction)
            bursts = sum(len(_bursts(*row, self.timing.burst_bytes)) for row in rows)
            return 3 * instruction.x_size * instruction.y_size + 3 * bursts + 3
        return self.timing.token

    def _rows(self, move: Load | Store) -> list[tuple[int, int]]:
        """Address and bytes of each row."""
        size = self.config.element_bytes(move.memory)
        return [((move.dram + y * move.x_stride) * size, move.x_size * size) for y in range(move.y_size)]


def _bursts(address: int, size: int, limit: int) -> list[int]:
    """Words of each burst of `size` bytes from `address`, cut at multiples of `limit` bytes."""
    skew = address % WORD_BYTES
    first = min(size, limit - address % limit)
    full, last = divmod(size - first, limit)
    words = [-(-(skew + first) // WORD_BYTES), *[limit // WORD_BYTES] * full]
    return [*words, -(-last // WORD_BYTES)] if last else words
