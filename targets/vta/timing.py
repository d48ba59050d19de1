"""The cycle model: three queues with their tokens, one shared read port; after the original RTL.

Figures: docs/vta.md, "Cycles". An event is an instruction's start or a burst on the read port, never a cycle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from optc.models.errors import InputError
from optc.targets.vta.channels import moves
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import Alu, Gemm, Instruction, Load, Module, Store, is_nop

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


_MODULES = tuple(Module)

_READ, _START = 0, 1
"""Kinds of event, in order of precedence at one time."""


Run = tuple[int, int]
"""So many bursts of so many words."""


@dataclass
class _Reading:
    """A LOAD under way: its bursts to come, when the next can begin, what follows the last."""

    index: int
    runs: deque[Run]
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
        self._moves = [moves(i) for i in instructions]
        for index, move in enumerate(self._moves):
            self._queues[move.module].append(index)
        self._tokens: list[deque[int]] = [deque() for _ in range(4)]
        self._free = [0, 0, 0]
        self._reading: list[_Reading | None] = [None, None, None]
        self._port = 0

    def run(self) -> None:
        """All events, in order of time."""
        while events := [e for m in _MODULES if (e := self._next(m)) is not None]:
            time, kind, module = min(events)
            if kind == _START:
                self._start(module, time)
            else:
                self._read(module, time, self._until(module, events))
        stuck = [queue[0] for queue in self._queues if queue]
        if stuck:
            raise InputError(f"instruction {min(stuck)}: deadlock: it waits for a token that never comes")

    def _until(self, module: Module, events: list[tuple[int, int, Module]]) -> int | None:
        """When another module may take the port from `module`, whose turn it is: load goes first."""
        if module == Module.LOAD:
            return None
        return next((time for time, _, other in events if other == Module.LOAD), None)

    def _next(self, module: Module) -> tuple[int, int, Module] | None:
        """The next event of a module, None while it waits or has no more to do."""
        reading = self._reading[module]
        if reading is not None:
            return max(self._port, reading.ready), _READ, module
        if not self._queues[module]:
            return None
        index = self._queues[module][0]
        time = self._available(module, index)
        for channel in self._moves[index].pops:
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
        for channel in self._moves[index].pops:
            self._tokens[channel].popleft()
        self.spans[index] = (time, time)
        if isinstance(instruction, Load) and not is_nop(instruction):
            self._reading[module] = self._request(index, instruction, time)
        else:
            self._end(module, index, time + self._duration(instruction), 0)

    def _request(self, index: int, load: Load, time: int) -> _Reading:
        runs = deque(self._runs(load))
        height, width = load.y_size + load.y_pad_0 + load.y_pad_1, load.x_size + load.x_pad_0 + load.x_pad_1
        # Zeros are written while the first word is on its way; those left over cost a cycle each.
        zeros = max(0, height * width - load.y_size * load.x_size - self.timing.request)
        tail = self.timing.close - (load.memory == Memory.UOP) + zeros
        return _Reading(index, runs, time + self.timing.request, tail)

    def _read(self, module: Module, time: int, until: int | None) -> None:
        """A burst on the port, and those that follow before `until`, when another module may come between."""
        reading = self._reading[module]
        assert reading is not None
        reading.waited += time - reading.ready
        runs, begun = reading.runs, False
        while runs and (not begun or until is None or time < until):
            count, words = runs.popleft()
            now = count if until is None else min(count, max(1, -((time - until) // words)))
            if now < count:
                runs.appendleft((count - now, words))
            time, begun = time + now * words, True
        self._port = reading.ready = time
        if not runs:
            self._reading[module] = None
            self._end(module, reading.index, self._port + reading.tail, reading.waited)

    def _end(self, module: Module, index: int, time: int, waited: int) -> None:
        start = self.spans[index][0]
        self.spans[index] = (start, time)
        self.activity[module].busy += time - start - waited
        self.activity[module].memory += waited
        self._free[module] = time
        for channel in self._moves[index].pushes:
            self._tokens[channel].append(time)

    def _duration(self, instruction: Instruction) -> int:
        """Of anything that does not read memory."""
        if isinstance(instruction, Gemm | Alu):
            steps = instruction.iter_out * instruction.iter_in * (instruction.uop_end - instruction.uop_begin)
            slow = isinstance(instruction, Alu) and not instruction.use_imm
            return steps * (2 if slow else 1) + self.timing.drain
        if isinstance(instruction, Store) and not is_nop(instruction):
            bursts = sum(count for count, _ in self._runs(instruction))
            return 3 * instruction.x_size * instruction.y_size + 3 * bursts + 3
        return self.timing.token

    def _runs(self, move: Load | Store) -> Iterator[Run]:
        """The bursts of each row, one after another."""
        size, limit = self.config.element_bytes(move.memory), self.timing.burst_bytes
        first, step = move.dram * size % limit, move.x_stride * size % limit
        for y in range(move.y_size):
            yield from _bursts((first + y * step) % limit, move.x_size * size, limit)


@cache
def _bursts(offset: int, size: int, limit: int) -> tuple[Run, ...]:
    """The bursts of `size` bytes from `offset` behind a multiple of `limit`, cut at multiples of it."""
    skew = offset % WORD_BYTES
    first = min(size, limit - offset)
    full, last = divmod(size - first, limit)
    runs = ((1, -(-(skew + first) // WORD_BYTES)), (full, limit // WORD_BYTES), (1, -(-last // WORD_BYTES)))
    return tuple((count, words) for count, words in runs if count and words)
