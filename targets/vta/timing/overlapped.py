"""The cycle model of optc's own RTL (targets/fpga/rtl): modules ask for words ahead, instructions overlap.

A machine of its own beside `serial.py`: there a module reads when an instruction runs; here instructions that
have their tokens wait behind a module's gate with their bursts under way, bursts come back in the order in
which they were asked for, and fetch asks among them. An event is an instruction or a burst, never a cycle:
when a burst's words come is known as soon as it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from optc.models.errors import InputError
from optc.targets.vta.config import Config
from optc.targets.vta.isa import INSTRUCTION_BYTES, Instruction, Module
from optc.targets.vta.timing.asking import NEVER, Port
from optc.targets.vta.timing.figures import WORD_BYTES, Overlapped
from optc.targets.vta.timing.unit import Program, Unit
from optc.targets.vta.timing.units import ComputeUnit, LoadUnit, StoreUnit

_WORDS = INSTRUCTION_BYTES // WORD_BYTES
"""Of an instruction."""


class OverlappedMachine:
    """Fetch and the three units, the tokens between them, and the read port."""

    def __init__(self, instructions: Sequence[Instruction], config: Config, timing: Overlapped) -> None:
        program = Program(instructions, config, timing)
        self._port = Port(timing)
        load, compute = LoadUnit(program, self._port), ComputeUnit(program, self._port)
        self._units: dict[Module, Unit] = {
            Module.LOAD: load,
            Module.COMPUTE: compute,
            Module.STORE: StoreUnit(program),
        }
        self._fetch = _Fetch(program, self._port, self._units)
        # In the order in which the arbiter prefers them.
        self._clients: tuple[_Fetch | LoadUnit | ComputeUnit, ...] = (self._fetch, compute, load)
        self.spans = program.spans
        self.activity = {module: unit.activity for module, unit in self._units.items()}

    def run(self) -> None:
        """Whatever follows from what is known; then the burst that is asked for first; and again.

        Nothing that is not known by then can ask earlier than that burst: it follows from words that were not
        asked for yet.
        """
        busy = True
        while busy:
            while any([self._fetch.step(), *(unit.step() for unit in self._units.values())]):
                pass
            busy = self._serve()
        stuck = [u.queue[len(u.gates)] for u in self._units.values() if len(u.gates) < len(u.queue)]
        if stuck:
            raise InputError(f"instruction {min(stuck)}: deadlock: it waits for a token that never comes")

    def _serve(self) -> bool:
        """The bursts of the client that is first, until something new follows; False if none asks."""
        offers = [(max(client.offer(), self._port.next), n) for n, client in enumerate(self._clients)]
        first, second, _ = sorted(offers)
        if first[0] >= NEVER:
            return False
        client = self._clients[first[1]]
        time = first[0]
        while not client.take(time):
            time = max(client.offer(), self._port.next)
            others = max(second[0], self._port.next), second[1]
            if (time, first[1]) > others:
                break
        return True


class _Fetch:
    """Reads the program in blocks as far as there is room, and puts each instruction into its queue.

    The program begins where a block does.
    """

    def __init__(self, program: Program, port: Port, units: dict[Module, Unit]) -> None:
        self._program, self._port, self._units, self._timing = program, port, units, program.timing
        self._left = {module: 0 for module in Module}
        self._words: list[int] = []
        self._time = 1
        self._through = program.timing.buffer + 1
        """From the words to behind the queue, over a register."""

    def step(self) -> bool:
        """Instructions whose words came go to where there is room for them; whether there was any."""
        program, timing = self._program, self._timing
        arrivals, before = program.arrivals, len(program.arrivals)
        while len(arrivals) < len(self._words):
            index = len(arrivals)
            module = program.moves[index].module
            time = self._words[index] + timing.buffer
            if arrivals:
                time = max(time, arrivals[-1] - self._through + _WORDS)
            waits_for = self._left[module] - timing.queue
            if waits_for >= 0:
                left = self._units[module].left
                if waits_for >= len(left):
                    break
                time = max(time, left[waits_for] + 1)
            self._left[module] += 1
            arrivals.append(time + self._through)
        return len(arrivals) != before

    def offer(self) -> int:
        """When the next burst can be asked for."""
        program, timing = self._program, self._timing
        begin = len(self._words)
        if begin == len(program.instructions):
            return NEVER
        end = min(begin + timing.fetch_block, len(program.instructions))
        waits_for = end - timing.fetch_room // _WORDS - 1
        if waits_for < 0:
            return self._time
        if waits_for >= len(program.arrivals):
            return NEVER
        return max(self._time, program.arrivals[waits_for] - self._through + 1)

    def take(self, time: int) -> bool:
        """Ask for it; something new follows."""
        begin = len(self._words)
        count = min(self._timing.fetch_block, len(self._program.instructions) - begin)
        first = self._port.take(time, count * _WORDS)
        self._words += range(first + _WORDS - 1, first + count * _WORDS, _WORDS)
        self._time = time + 1
        return True
