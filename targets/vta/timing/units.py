"""The modules of `overlapped.py`: when their instructions begin, and end.

What follows from a burst that was not asked for yet waits until it is.
"""

from __future__ import annotations

from collections import deque

from optc.targets.vta.config import Memory
from optc.targets.vta.isa import Alu, Finish, Gemm, Load, Module, Store
from optc.targets.vta.timing.asking import NEVER, Asking, Port
from optc.targets.vta.timing.bursts import Burst, framed
from optc.targets.vta.timing.figures import WORD_BYTES
from optc.targets.vta.timing.unit import Job, Program, Unit


class Reader(Unit):
    """A module that reads."""

    def __init__(self, program: Program, port: Port, module: Module, burst_bytes: int, rows: int) -> None:
        super().__init__(program, module, program.timing.ahead)
        self._port, self._burst_bytes, self._asking = port, burst_bytes, Asking(rows)
        self._running: Job | None = None
        self._at = self._waited = 0
        """When the next word or zeros can be written; how long the LOAD under way waited for words."""

    def _job(self, index: int, time: int, ready: int) -> Job:
        insn = self.program.instructions[index]
        if not isinstance(insn, Load):
            return Job(index, time, ready)
        bursts, tail = framed(insn, self.program.config, self._burst_bytes)
        self._asking.add(time + 1, bursts)
        return Job(index, time, ready, bursts, tail)

    def _write(self, burst: Burst, first: int) -> None:
        """Zeros, then words, the first of which comes at `first`."""
        words, zeros = burst
        self._waited += max(0, first - self._at - zeros)
        self._at = max(first, self._at + zeros) + words


class LoadUnit(Reader):
    """INP and WGT: words are written as they come, one LOAD right behind the other."""

    def __init__(self, program: Program, port: Port) -> None:
        timing = program.timing
        super().__init__(program, port, Module.LOAD, timing.burst_bytes, timing.rows)
        self._bursts = 0

    def _run(self, job: Job) -> bool:
        if self._running is not job:
            self._running, self._bursts = job, len(job.bursts)
            begun = max(job.time + 1, self._at - 1)
            self._at, self._waited = begun + 1, 0
            self.begun.append(begun)
        if self._bursts:
            return False
        self._at += job.tail if job.bursts else 1
        self._end(job, self._at, self._at, self._waited)
        return True

    def offer(self) -> int:
        """When the next burst can be asked for."""
        return self._asking.time if self._asking.burst else NEVER

    def take(self, time: int) -> bool:
        """Ask for it at `time`; whether it was its LOAD's last."""
        burst = self._asking.burst
        assert burst is not None
        words, zeros = burst
        self._write(burst, self._port.take(time, words, self._at + zeros))
        self._bursts -= 1
        return self._asking.asked(time)


class ComputeUnit(Reader):
    """A step of GEMM or ALU a cycle; words for UOP and ACC wait for the turn of their LOAD."""

    def __init__(self, program: Program, port: Port) -> None:
        timing = program.timing
        super().__init__(program, port, Module.COMPUTE, timing.compute_burst_bytes, timing.rows)
        self._last = self._stepped = -program.timing.hold
        """The last cycles in which something, and in which a step went into the pipeline."""
        self._next = 0
        """When the next instruction can be looked at."""
        self._room = 0
        """When the loops can take another nest: one waits while one runs."""
        self._came: deque[int] = deque()
        """Of each burst that was not yet written, when its first word can be."""
        self._place = self._asked = self._taken = 0
        self._ends: deque[tuple[int, int]] = deque()
        """Behind each burst that was written: words up to there, and the time."""

    def _run(self, job: Job) -> bool:
        insn = self.program.instructions[job.number]
        begun = max(job.time + 1, self._next)
        if isinstance(insn, Gemm | Alu):
            begun = max(begun, self._room)
            self._room = max(begun + 1, self._last)
            self._last = self._room + insn.iter_out * insn.iter_in * (insn.uop_end - insn.uop_begin)
            self._stepped = self._last
        elif isinstance(insn, Finish):
            self._last = begun = max(begun, self._last + 1)
        else:
            assert isinstance(insn, Load)
            begun = max(begun, self._last + 1)
            if self._running is not job:
                self.begun.append(begun)
            if not self._read(job, insn.memory, begun):
                return False
            self._last = begun = self._at - 1
        if not isinstance(insn, Load):
            self.begun.append(begun)
        self._next = begun + 1
        self._end(job, self._last + 1, self._last + self.timing.drain + 1, self._waited)
        self._waited = 0
        return True

    def _read(self, job: Job, memory: Memory, begun: int) -> bool:
        if self._running is not job:
            self._running, self._place, self._at = job, 0, begun + 1
            if memory == Memory.ACC and job.bursts:
                self._at = max(self._at, self._stepped + self.timing.hold)
        while self._place < len(job.bursts) and self._came:
            burst = job.bursts[self._place]
            self._write(burst, self._came.popleft())
            self._taken += burst[0]
            self._ends.append((self._taken, self._at))
            self._place += 1
        if self._place < len(job.bursts):
            return False
        self._at += job.tail if job.bursts else 1
        return True

    def offer(self) -> int:
        """When the next burst can be asked for: when so many words were written that there is room for it."""
        burst, ends = self._asking.burst, self._ends
        if burst is None:
            return NEVER
        written = self._asked + burst[0] - self.timing.room
        if written <= 0:
            return self._asking.time
        while ends and ends[0][0] < written:
            ends.popleft()
        return max(self._asking.time, ends[0][1] - (ends[0][0] - written)) if ends else NEVER

    def take(self, time: int) -> bool:
        """Ask for it at `time`; something may follow."""
        burst = self._asking.burst
        assert burst is not None
        self._came.append(self._port.take(time, burst[0]) + self.timing.buffer)
        self._asked += burst[0]
        self._asking.asked(time)
        return True


class StoreUnit(Unit):
    """One store after another, each until memory has taken all of it."""

    def __init__(self, program: Program) -> None:
        super().__init__(program, Module.STORE, ahead=1)
        self._words = max(1, program.config.element_bytes(Memory.OUT) // WORD_BYTES)

    @property
    def left(self) -> list[int]:
        """A store stays in its queue until it is over."""
        return self.begun

    def _run(self, job: Job) -> bool:
        store = self.program.instructions[job.number]
        assert isinstance(store, Store)
        words = store.x_size * store.y_size * self._words
        over = job.time + (words + self.timing.answer if words else self.timing.empty)
        self.begun.append(over - 1)
        self._end(job, over, over)
        return True
