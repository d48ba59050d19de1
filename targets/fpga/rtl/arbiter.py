"""The read port, shared: whose burst is asked for next, and whose words come back."""

from collections.abc import Sequence

from amaranth import Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.fifo import Fifo
from optc.targets.fpga.rtl.layouts import beats, requests

OUTSTANDING = 16
"""Bursts that are under way."""


class Arbiter(wiring.Component):
    """Clients `client0` (asked first) to the last: `requestsN`, `beatsN`; `requests` and `beats` of memory.

    Memory answers in order. A request, once shown, stays until it is taken, as AXI wants.
    """

    def __init__(self, clients: int) -> None:
        self._clients = clients
        ports: dict[str, wiring.Member] = {}
        for number in range(clients):
            ports |= {f"requests{number}": In(requests()), f"beats{number}": Out(beats())}
        super().__init__({"requests": Out(requests()), "beats": In(beats()), **ports})

    def elaborate(self, platform: object) -> Elaboratable:
        """The lowest number first; a queue remembers who asked."""
        m = Module()
        m.submodules.order = order = Fifo(range(self._clients), OUTSTANDING)
        asked: Sequence[wiring.PureInterface] = [getattr(self, f"requests{n}") for n in range(self._clients)]
        out = self.requests
        # A register stands before memory: what it holds does not change while memory is not ready.
        with m.If(~out.valid | out.ready):
            m.d.sync += out.valid.eq(0)
            with m.If(order.write.ready):
                for number, request in reversed(list(enumerate(asked))):
                    earlier = [r.valid for r in asked[:number]]
                    mine = Signal(name=f"turn{number}")
                    m.d.comb += mine.eq(request.valid & ~_any(earlier))
                    with m.If(mine):
                        m.d.comb += [request.ready.eq(1), order.write.valid.eq(1)]
                        m.d.comb += order.write.payload.eq(number)
                        m.d.sync += [out.valid.eq(1), out.payload.eq(request.payload)]
        # Whose words come is known long before they do: it stands in a register, a bit a client.
        turn = Signal(self._clients)
        for number in range(self._clients):
            beat = getattr(self, f"beats{number}")
            m.d.comb += [beat.payload.eq(self.beats.payload), beat.valid.eq(turn[number] & self.beats.valid)]
            with m.If(turn[number]):
                m.d.comb += self.beats.ready.eq(beat.ready)
        ends = self.beats.valid & self.beats.ready & self.beats.payload.last
        with m.If(ends | (turn == 0)):
            m.d.comb += order.read.ready.eq(1)
            m.d.sync += turn.eq(Mux(order.read.valid, 1 << order.read.payload, 0))
        return m


def _any(values: Sequence[Signal]) -> Signal | int:
    from amaranth import Cat

    return Cat(values).any() if values else 0
