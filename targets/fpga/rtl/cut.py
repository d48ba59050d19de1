"""Runs of words cut into bursts."""

from amaranth import Elaboratable, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.layouts import requests


class Run(data.Struct):
    """`words` words, at least one, from word address `word` on."""

    word: 29
    words: 24


class Cut(wiring.Component):
    """Makes bursts of at most `most` words (a power of two) that cross no multiple of it: one a cycle.

    `length`: words of the burst that is asked for.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        length = Out(range(most + 1))
        super().__init__({"runs": In(stream.Signature(Run)), "requests": Out(requests()), "length": length})

    def elaborate(self, platform: object) -> Elaboratable:
        """How long the next burst is, and whether it is the run's last, is known a cycle before."""
        m = Module()
        most, out, given = self._most, self.requests, self.runs.payload
        word, words = Signal(29, reset_less=True), Signal(24, reset_less=True)
        length, last = self.length, Signal()
        room, rest = Signal(range(most + 1)), Signal(24)
        m.d.comb += [
            room.eq(most - given.word[: most.bit_length() - 1]),
            rest.eq(words - length),
            out.payload.word.eq(word),
            out.payload.more.eq(length - 1),
        ]
        takes = ~out.valid | (out.ready & last)
        m.d.comb += self.runs.ready.eq(takes)
        with m.If(takes):
            m.d.sync += [out.valid.eq(self.runs.valid), word.eq(given.word), words.eq(given.words)]
            m.d.sync += [length.eq(Mux(given.words < room, given.words, room)), last.eq(given.words <= room)]
        with m.Elif(out.ready):
            m.d.sync += [word.eq(word + length), words.eq(rest)]
            m.d.sync += [length.eq(Mux(rest < most, rest, most)), last.eq(rest <= most)]
        return m
