"""What a byte stream may ask of the board: write memory, read it, run a program.

A request is a byte that says which, and two numbers of 32 bits, little endian:
    w ADDRESS SIZE, then SIZE bytes: write them
    r ADDRESS SIZE: the answer is SIZE bytes
    x ADDRESS COUNT: run COUNT instructions; the answer is the error register (a byte) and the cycles (four)
    i 0 0: the answer is `identity`, eight bytes
"""

from amaranth import Cat, Const, Elaboratable, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.ram import LATENCY

WRITE, READ, RUN, IDENTIFY = b"wrxi"
HEADER = 8
"""Bytes of the two numbers."""


class Host(wiring.Component):
    """Carries out requests from `received`, answers in `sent`; `first` is the memory's first word address.

    `reset` comes two cycles before `launch`, which starts the core with `address` and `count`, and again when
    it has finished: what a program that failed still does would hold the memory, and write to it.
    """

    def __init__(self, index_bits: int, first: int, identity: bytes) -> None:
        self._first, self._identity = first, Const(int.from_bytes(identity, "little"), 64)
        super().__init__(
            {
                "received": In(stream.Signature(8, always_ready=True)),
                "sent": Out(stream.Signature(8)),
                "index": Out(index_bits),
                "strobe": Out(8),
                "data": Out(64),
                "value": In(64),
                "reset": Out(1),
                "launch": Out(1),
                "address": Out(32),
                "count": Out(22),
                "finished": In(1),
                "error": In(6),
                "cycles": In(32),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """A state machine; `address` and `left` are the request's numbers, and go on as bytes pass."""
        m = Module()
        command, header = Signal(8), Signal(8 * HEADER)
        address, left = header[:32], header[32:]
        got = Signal(range(HEADER))
        answer, length = Signal(64), Signal(range(HEADER + 1))
        byte = self.received.payload
        m.d.comb += [
            self.index.eq((address >> 3) - self._first),
            self.data.eq(byte.replicate(8)),
            self.address.eq(address),
            self.count.eq(left),
            self.sent.payload.eq(answer),
        ]
        with m.FSM():
            with m.State("command"), m.If(self.received.valid):
                m.d.sync += [command.eq(byte), got.eq(0)]
                m.next = "header"
            with m.State("header"), m.If(self.received.valid):
                m.d.sync += [header.eq(Cat(header[8:], byte)), got.eq(got + 1)]
                with m.If(got == HEADER - 1):
                    m.next = "begin"
            with m.State("begin"):
                self._begin(m, command, answer, length)
            with m.State("write"):
                self._write(m, address, left)
            with m.State("read"):
                self._read(m, address, left, answer, length)
            with m.State("reset"):
                m.next = "launch"
            with m.State("launch"):
                m.d.comb += self.launch.eq(1)
                m.next = "run"
            with m.State("run"), m.If(self.finished):
                m.d.comb += self.reset.eq(1)
                m.d.sync += [answer.eq(Cat(self.error, Const(0, 2), self.cycles)), length.eq(5)]
                m.next = "answer"
            with m.State("answer"):
                self._answer(m, command, answer, length)
        return m

    def _begin(self, m: Module, command: Signal, answer: Signal, length: Signal) -> None:
        with m.Switch(command):
            with m.Case(WRITE):
                m.next = "write"
            with m.Case(READ):
                m.next = "read"
            with m.Case(RUN):
                m.d.comb += self.reset.eq(1)
                m.next = "reset"
            with m.Case(IDENTIFY):
                m.d.sync += [answer.eq(self._identity), length.eq(8)]
                m.next = "answer"
            with m.Default():
                m.next = "command"

    def _write(self, m: Module, address: Signal, left: Signal) -> None:
        with m.If(left == 0):
            m.next = "command"
        with m.Elif(self.received.valid):
            m.d.comb += self.strobe.eq(1 << address[:3])
            m.d.sync += [address.eq(address + 1), left.eq(left - 1)]

    def _read(self, m: Module, address: Signal, left: Signal, answer: Signal, length: Signal) -> None:
        """The word at `address` is there after some cycles; one of its bytes is the answer."""
        wait = Signal(range(LATENCY + 2))
        with m.If(left == 0):
            m.next = "command"
        with m.Elif(wait != LATENCY + 1):
            m.d.sync += wait.eq(wait + 1)
        with m.Else():
            m.d.sync += [wait.eq(0), answer.eq(self.value.word_select(address[:3], 8)), length.eq(1)]
            m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
            m.next = "answer"

    def _answer(self, m: Module, command: Signal, answer: Signal, length: Signal) -> None:
        m.d.comb += self.sent.valid.eq(1)
        with m.If(self.sent.ready):
            m.d.sync += [answer.eq(answer >> 8), length.eq(length - 1)]
            with m.If(length == 1):
                with m.If(command == READ):
                    m.next = "read"
                with m.Else():
                    m.next = "command"
