"""The cycle model of the original RTL: a module does an instruction at a time, and reads when it is at it.

An event is an instruction's start or a burst on the read port, never a cycle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from optc.models.errors import InputError
from optc.targets.vta.channels import moves
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import Alu, Gemm, Instruction, Load, Module, Store, is_nop
from optc.targets.vta.timing.bursts import Run, runs
from optc.targets.vta.timing.figures import Serial
from optc.targets.vta.timing.report import Activity

_MODULES = tuple(Module)


@dataclass
class _Reading:
    """A LOAD under way: its bursts to come, when the next can begin, what follows the last."""

    index: int
    bursts: deque[Run]
    ready: int
    tail: int
    waited: int = 0


class SerialMachine:
    """Time of each module, tokens under way (by the time they were given), and the read port."""

    def __init__(self, instructions: Sequence[Instruction], config: Config, timing: Serial) -> None:
        self.instructions, self.config, self.timing = instructions, config, timing
        self.activity = {m: Activity() for m in Module}
        self.spans = [(0, 0)] * len(instructions)
        self._queues: list[deque[int]] = [deque(), deque(), deque()]
        self._moves = [moves(i) for i in instructions]
        for index, move in enumerate(self._moves):
            self._queues[move.module].append(index)
        refill = timing.refill + 3 * timing.fetch_block
        blocks = (divmod(index, timing.fetch_block) for index in range(len(instructions)))
        self._arrivals = [timing.launch + block * refill + place for block, place in blocks]
        self._tokens: list[deque[int]] = [deque() for _ in range(4)]
        self._free = [0, 0, 0]
        self._reading: list[_Reading | None] = [None, None, None]
        self._port = 0

    def run(self) -> None:
        """Start all that can start, then let the first burst of those that wait have the port, and again.

        When an instruction starts does not depend on the order in which modules are looked at; only what is
        read does, and nothing can ask for the port earlier that has not been started by then.
        """
        busy = True
        while busy:
            busy = False
            for module in _MODULES:
                while (time := self._startable(module)) is not None:
                    self._start(module, time)
                    busy = True
            if not busy:
                busy = self._serve()
        stuck = [queue[0] for queue in self._queues if queue]
        if stuck:
            raise InputError(f"instruction {min(stuck)}: deadlock: it waits for a token that never comes")

    def _startable(self, module: Module) -> int | None:
        """When the next instruction of a module starts, None while it has to wait or there is none."""
        if self._reading[module] is not None or not self._queues[module]:
            return None
        index = self._queues[module][0]
        time = self._available(module, index)
        for channel in self._moves[index].pops:
            given = self._tokens[channel]
            if not given:
                return None
            time = max(time, given[0])
        return time

    def _serve(self) -> bool:
        """Bursts of the module whose turn it is, the load module's at the same time; False if none asks."""
        asking = [(max(self._port, r.ready), m) for m in _MODULES if (r := self._reading[m]) is not None]
        if not asking:
            return False
        time, module = min(asking)
        until = max(asking)[0] if module == Module.COMPUTE and len(asking) > 1 else None
        self._read(module, time, until)
        return True

    def _available(self, module: Module, index: int) -> int:
        """When the module is free and fetch has brought the instruction, tokens aside."""
        free, arrival = self._free[module], self._arrivals[index]
        return free if free > arrival else arrival

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
        bursts = deque(runs(load, self.config, self.timing.burst_bytes))
        height, width = load.y_size + load.y_pad_0 + load.y_pad_1, load.x_size + load.x_pad_0 + load.x_pad_1
        # Zeros are written while the first word is on its way; those left over cost a cycle each.
        zeros = max(0, height * width - load.y_size * load.x_size - self.timing.request)
        tail = self.timing.close - (load.memory == Memory.UOP) + zeros
        return _Reading(index, bursts, time + self.timing.request, tail)

    def _read(self, module: Module, time: int, until: int | None) -> None:
        """A burst on the port, and those that follow before `until`, when another module may come between."""
        reading = self._reading[module]
        assert reading is not None
        reading.waited += time - reading.ready
        bursts, begun = reading.bursts, False
        while bursts and (not begun or until is None or time < until):
            count, words = bursts.popleft()
            now = count if until is None else min(count, max(1, -((time - until) // words)))
            if now < count:
                bursts.appendleft((count - now, words))
            time, begun = time + now * words, True
        self._port = reading.ready = time
        if not bursts:
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
            bursts = sum(count for count, _ in runs(instruction, self.config, self.timing.burst_bytes))
            return 3 * instruction.x_size * instruction.y_size + 3 * bursts + 3
        return self.timing.token
