"""What stands before a module: the next instruction, once the tokens are there that it waits for."""

from amaranth import Elaboratable, Module, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.layouts import INSTRUCTION_BITS


class TokenFlags(data.Struct):
    """The first bits of every instruction."""

    opcode: 3
    pop_prev: 1
    pop_next: 1
    push_prev: 1
    push_next: 1


class Gate(wiring.Component):
    """Passes instructions on, one by one, and takes a token of `prev` or `next` for each that asks for it."""

    instructions: In(stream.Signature(INSTRUCTION_BITS))
    ready_instructions: Out(stream.Signature(INSTRUCTION_BITS))
    prev_available: In(1)
    prev_take: Out(1)
    next_available: In(1)
    next_take: Out(1)

    def elaborate(self, platform: object) -> Elaboratable:
        """Valid when both tokens are there; they are taken when the instruction goes."""
        m = Module()
        given, out = self.instructions, self.ready_instructions
        flags = data.View(TokenFlags, given.payload[: TokenFlags.as_shape().size])
        prev_missing: Value = flags.pop_prev & ~self.prev_available
        next_missing: Value = flags.pop_next & ~self.next_available
        m.d.comb += [
            out.payload.eq(given.payload),
            out.valid.eq(given.valid & ~prev_missing & ~next_missing),
            given.ready.eq(out.valid & out.ready),
            self.prev_take.eq(given.ready & flags.pop_prev),
            self.next_take.eq(given.ready & flags.pop_next),
        ]
        return m
