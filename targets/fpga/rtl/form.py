"""Which instructions VTA does not define, as far as an instruction alone tells."""

from amaranth import Cat, Elaboratable, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.layouts import INSTRUCTION_BITS, instruction_layout
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import AluOp, Opcode


class Form(wiring.Component):
    """`undefined`: an opcode or memory that does not exist, padding or rows where there may be none, a token
    to or from a neighbour that a module lacks, or an end of the program that is not its `last` instruction.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__({"instruction": In(INSTRUCTION_BITS), "last": In(1), "undefined": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        """By opcode, then by memory."""
        m = Module()
        move, alu = (
            data.View(instruction_layout(code, self._config), self.instruction)
            for code in (Opcode.LOAD, Opcode.ALU)
        )
        padded, nothing, wrong = Signal(), Signal(), Signal()
        m.d.comb += [
            padded.eq(Cat(move.y_pad_0, move.y_pad_1, move.x_pad_0, move.x_pad_1).any()),
            nothing.eq((move.x_size == 0) | (move.y_size == 0)),
            # What moves no element is a NOP, which has neither padding nor columns.
            wrong.eq(nothing & (padded | (move.x_size != 0))),
        ]
        undefined = self.undefined
        with m.Switch(move.opcode):
            with m.Case(Opcode.LOAD.value):
                m.d.comb += undefined.eq(self._load(m, move, padded, nothing) | wrong | self.last)
            with m.Case(Opcode.STORE.value):
                flags = move.pop_next | move.push_next
                m.d.comb += undefined.eq((move.memory != Memory.OUT) | padded | wrong | flags | self.last)
            with m.Case(Opcode.GEMM.value):
                m.d.comb += undefined.eq(self.last)
            with m.Case(Opcode.ALU.value):
                m.d.comb += undefined.eq((alu.op > AluOp.SHR) | self.last)
            with m.Case(Opcode.FINISH.value):
                m.d.comb += undefined.eq(~self.last)
            with m.Default():
                m.d.comb += undefined.eq(1)
        return m

    def _load(self, m: Module, move: data.View, padded: Signal, nothing: Signal) -> Signal:
        undefined = Signal()
        flags = move.pop_prev | move.push_prev
        with m.Switch(move.memory):
            with m.Case(Memory.INP.value):
                m.d.comb += undefined.eq(flags)
            with m.Case(Memory.WGT.value):
                m.d.comb += undefined.eq(flags | padded)
            with m.Case(Memory.UOP.value):
                m.d.comb += undefined.eq(padded | (~nothing & (move.y_size != 1)))
            with m.Case(Memory.ACC.value):
                pass
            with m.Default():
                m.d.comb += undefined.eq(1)
        return undefined
