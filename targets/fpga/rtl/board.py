"""A whole machine for a board: the core, memory on the chip, and two wires to the host."""

import hashlib

from amaranth import Elaboratable, Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.core import Core
from optc.targets.fpga.rtl.host import Host
from optc.targets.fpga.rtl.layouts import WORD_BYTES
from optc.targets.fpga.rtl.ram import Ram
from optc.targets.fpga.rtl.uart import Receiver, Transmitter
from optc.targets.vta.config import Config
from optc.targets.vta.device import PAGE


def identity(config: Config) -> bytes:
    """Eight bytes that tell configurations apart."""
    return hashlib.sha256(config.to_json().encode()).digest()[:8]


class Board(wiring.Component):
    """VTA of `config` with `banks` banks of memory from address `PAGE` on, which holds `init` at first.

    `rx`, `tx`: the host's bytes (`host.py`), `divisor` clocks a bit. `busy`: a program runs; `failed`: the
    last one stopped with an error.
    """

    def __init__(self, config: Config, banks: int, divisor: int, init: bytes = b"") -> None:
        self._config, self._banks, self._divisor = config, banks, divisor
        words = [init[n : n + WORD_BYTES] for n in range(0, len(init), WORD_BYTES)]
        self._init = [int.from_bytes(word, "little") for word in words]
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "busy": Out(1), "failed": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        """The core is reset before and after each program, and memory forgets what it asked for."""
        m = Module()
        first = PAGE // WORD_BYTES
        again, core = Signal(), Core(self._config)
        m.submodules.core = ResetInserter(again)(core)
        ram = Ram(first, self._banks, self._init)
        m.submodules.ram = ResetInserter(again)(ram)
        m.submodules.host = host = Host(ram.index_bits, first, identity(self._config))
        m.submodules.receiver = receiver = Receiver(self._divisor)
        m.submodules.transmitter = transmitter = Transmitter(self._divisor)
        for name in ("reads", "writes", "words"):
            wiring.connect(m, getattr(core, name), getattr(ram, name))
        wiring.connect(m, ram.beats, core.beats)
        wiring.connect(m, receiver.bytes, host.received)
        wiring.connect(m, host.sent, transmitter.bytes)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            core.answer.eq(ram.answer),
            core.fault.eq(ram.fault),
            ram.host_index.eq(host.index),
            ram.host_strobe.eq(host.strobe),
            ram.host_data.eq(host.data),
            host.value.eq(ram.host_value),
        ]
        m.d.sync += again.eq(host.reset)  # from a register: it goes far
        for name in ("launch", "address", "count"):
            m.d.comb += getattr(core, name).eq(getattr(host, name))
        for name in ("finished", "error", "cycles"):
            m.d.comb += getattr(host, name).eq(getattr(core, name))
        with m.If(host.launch):
            m.d.sync += self.busy.eq(1)
        with m.If(core.finished):
            m.d.sync += [self.busy.eq(0), self.failed.eq(core.error.any())]
        return m
