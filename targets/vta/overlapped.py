"""The cycle model of optc's own RTL (targets/fpga/rtl): modules ask for words ahead, and instructions overlap.

A machine of its own beside `serial.py`: there a module reads when an instruction runs; here instructions that
have their tokens wait behind a module's gate with their bursts under way, bursts come back in the order in
which they were asked for, and fetch asks among them. An event is an instruction or a burst, never a cycle: when
a burst's words come is known as soon as it is asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from optc.models.errors import InputError
from optc.targets.vta.asking import Asking, Port
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.figures import WORD_BYTES, Overlapped
from optc.targets.vta.isa import INSTRUCTION_BYTES, Alu, Finish, Gemm, Instruction, Load, Module
from optc.targets.vta.units import Job, Program, Unit

_WORDS = INSTRUCTION_BYTES // WORD_BYTES
"""Of an instruction."""
_NEVER = 1 << 62


class OverlappedMachine:
    """Fetch and the three units, the tokens between them, and the read port."""

    def __init__(self, instructions: Sequence[Instruction], config: Config, timing: Overlapped) -> None:
        program = Program(instructions, config, timing)
        self._port = Port(timing)
        load, compute, store = _Load(program, self._port), _Compute(program, self._port), _Store(program)
        self._units: dict[Module, Unit] = {Module.LOAD: load, Module.COMPUTE: compute, Module.STORE: store}
        self._fetch = _Fetch(program, self._port, self._units)
        # In the order in which the arbiter prefers them.
        self._clients: tuple[_Fetch | _Load | _Compute, ...] = (self._fetch, compute, load)
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
        if first[0] >= _NEVER:
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
    """Reads the program in blocks as far as there is room, and puts each instruction into its queue."""

    def __init__(self, program: Program, port: Port, units: dict[Module, Unit]) -> None:
        self._program, self._port, self._units, self._timing = program, port, units, program.timing
        self._left = {module: 0 for module in Module}
        self._words: list[int] = []
        self._time = 0

    def step(self) -> bool:
        """Instructions whose words came go to where there is room for them; whether there was any."""
        program, timing = self._program, self._timing
        arrivals, before = program.arrivals, len(program.arrivals)
        while len(arrivals) < len(self._words):
            index = len(arrivals)
            module = program.moves[index].module
            time = self._words[index] + timing.buffer
            if arrivals:
                time = max(time, arrivals[-1] - timing.buffer + _WORDS)
            waits_for = self._left[module] - timing.queue
            if waits_for >= 0:
                left = self._units[module].left
                if waits_for >= len(left):
                    break
                time = max(time, left[waits_for] + 1)
            self._left[module] += 1
            arrivals.append(time + timing.buffer)
        return len(arrivals) != before

    def offer(self) -> int:
        """When the next burst can be asked for."""
        program, timing = self._program, self._timing
        begin = len(self._words)
        if begin == len(program.instructions):
            return _NEVER
        end = min(begin + timing.fetch_block, len(program.instructions))
        waits_for = end - timing.fetch_room // _WORDS - 1
        if waits_for < 0:
            return self._time
        if waits_for >= len(program.arrivals):
            return _NEVER
        return max(self._time, program.arrivals[waits_for] - timing.buffer + 1)

    def take(self, time: int) -> bool:
        """Ask for it; something new follows."""
        begin = len(self._words)
        count = min(self._timing.fetch_block, len(self._program.instructions) - begin)
        first = self._port.take(time, count * _WORDS)
        self._words += range(first + _WORDS - 1, first + count * _WORDS, _WORDS)
        self._time = time + 1
        return True


class _Load(Unit):
    """INP and WGT: words are written as they come, one LOAD behind the other, with zeros between them."""

    def __init__(self, program: Program, port: Port) -> None:
        super().__init__(program, Module.LOAD, program.timing.ahead)
        self.burst_bytes = program.timing.burst_bytes
        self._port = port
        self._at = 0
        """When the next word, or zeros, can be written; in the cycle before, a LOAD ended or began."""
        self._waited = self._bursts = 0
        self._running = False

    def run(self, job: Job) -> bool:
        """Begin it, and end it when all of its bursts were asked for."""
        if not self._running:
            self._running = True
            begun = max(job.time + 1, self._at - 1)
            self.begun.append(begun)
            self._at, self._bursts, self._waited = begun + 1, len(job.bursts), 0
        if self._bursts:
            return False
        self._running = False
        self._at += job.tail if job.bursts else 1
        self.end(job, self._at, self._waited, self._at)
        return True

    def offer(self) -> int:
        """When the next burst can be asked for."""
        return self.asking.time if self.asking.burst and self._bursts else _NEVER

    def take(self, time: int) -> bool:
        """Ask for it; whether something new follows."""
        burst = self.asking.burst
        assert burst is not None
        words, zeros = burst
        self._at += zeros
        first = self._port.take(time, words, self._at)
        self._waited += first - self._at
        self._at = first + words
        self._bursts -= 1
        return self.asking.asked(time)


class _Compute(Unit):
    """GEMM and ALU a step a cycle, without a gap; words for UOP and ACC wait for their LOAD's turn."""

    def __init__(self, program: Program, port: Port) -> None:
        super().__init__(program, Module.COMPUTE, program.timing.ahead)
        self.burst_bytes = program.timing.compute_bytes
        self._port = port
        self._last = -program.timing.hold
        """The last cycle in which something went into the pipeline."""
        self._next = 0
        """When the next instruction can be looked at."""
        self._came: deque[int] = deque()
        """When the first word can be taken of bursts that no LOAD has taken yet."""
        self._asked = self._taken = 0
        self._ends: deque[tuple[int, int]] = deque()
        """Words taken in all, and the cycle behind the last of them, burst by burst."""
        self._place: int | None = None
        self._at = self._waited = 0

    def run(self, job: Job) -> bool:
        """As far as its words were asked for."""
        insn = self.program.instructions[job.index]
        head = max(job.time + 1, self._next)
        if isinstance(insn, Gemm | Alu):
            begun = max(head, self._last)
            steps = insn.iter_out * insn.iter_in * (insn.uop_end - insn.uop_begin)
            self._last = begun + steps
            self._done(job, begun, 0)
            return True
        begun = max(head, self._last + 1)
        if isinstance(insn, Finish):
            self._last = begun
            self._done(job, begun, 0)
            return True
        return self._read(job, begun)

    def _read(self, job: Job, begun: int) -> bool:
        if self._place is None:
            self._place, self._waited, self._at = 0, 0, begun + 1
            if job.bursts and self.program.instructions[job.index].memory == Memory.ACC:
                self._at = max(self._at, self._last + self.timing.hold)
        while self._place < len(job.bursts):
            if not self._came:
                return False
            words, zeros = job.bursts[self._place]
            at = self._at + zeros
            first = max(at, self._came.popleft())
            self._waited += first - at
            self._at = first + words
            self._taken += words
            self._ends.append((self._taken, self._at))
            self._place += 1
        self._place = None
        self._at += job.tail if job.bursts else 1
        self._last = self._at - 1
        self._done(job, self._last, self._waited)
        return True

    def _done(self, job: Job, popped: int, waited: int) -> None:
        self.begun.append(popped)
        self._next = popped + 1
        self.end(job, self._last + 1, waited, self._last + self.timing.retire)

    def offer(self) -> int:
        """When the next burst can be asked for: there has to be room for it."""
        burst = self.asking.burst
        if burst is None:
            return _NEVER
        need = self._asked + burst[0] - self.timing.room
        if need <= 0:
            return self.asking.time
        while self._ends and self._ends[0][0] < need:
            self._ends.popleft()
        if not self._ends:
            return _NEVER
        taken, end = self._ends[0]
        return max(self.asking.time, end - (taken - need))

    def take(self, time: int) -> bool:
        """Ask for it; something new may follow."""
        burst = self.asking.burst
        assert burst is not None
        self._came.append(self._port.take(time, burst[0]) + self.timing.buffer)
        self._asked += burst[0]
        self.asking.asked(time)
        return True


class _Store(Unit):
    """One store after another, each until memory has taken all of it."""

    def __init__(self, program: Program) -> None:
        super().__init__(program, Module.STORE, 1)

    @property
    def left(self) -> list[int]:
        """A store leaves its queue when it is over."""
        return self.begun

    def run(self, job: Job) -> bool:
        """At once."""
        store = self.program.instructions[job.index]
        words = store.x_size * store.y_size * max(1, self.program.config.element_bytes(Memory.OUT) // WORD_BYTES)
        over = job.time + (words + self.timing.answer if words else self.timing.idle)
        self.begun.append(over - 1)
        self.end(job, over, 0, over)
        return True
