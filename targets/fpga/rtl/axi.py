"""The core with AXI4's signals: one port of 64 bits that reads and writes, and the registers of the host."""

from amaranth import Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.core import PATIENCE, QUEUE, Core
from optc.targets.vta.config import Config

SIZE = 3
"""AXI's code of 8 bytes a beat."""
INCREMENTING = 1
"""AXI's code of bursts whose addresses go up."""


class VtaAxi(wiring.Component):
    """VTA as an AXI4 manager (`ar`, `r`, `aw`, `w`, `b`), with bursts of one id, answered in order.

    `launch` starts the program of `count` instructions at `address`; `finished`, `error` (see `Core`) and
    `cycles` are what the host reads back.
    """

    def __init__(self, config: Config, queue: int = QUEUE, patience: int = PATIENCE) -> None:
        self._core = Core(config, queue, patience)
        address = {"addr": (32, Out), "len": (8, Out), "size": (3, Out), "burst": (2, Out)}
        ports: dict[str, wiring.Member] = {}
        for channel in ("ar", "aw"):
            ports |= {f"{channel}valid": Out(1), f"{channel}ready": In(1)}
            ports |= {f"{channel}{name}": flow(bits) for name, (bits, flow) in address.items()}
        ports |= {"rvalid": In(1), "rready": Out(1), "rdata": In(64), "rresp": In(2), "rlast": In(1)}
        ports |= {"wvalid": Out(1), "wready": In(1), "wdata": Out(64), "wstrb": Out(8), "wlast": Out(1)}
        ports |= {"bvalid": In(1), "bready": Out(1), "bresp": In(2)}
        host = {"launch": In(1), "address": In(32), "count": In(22)}
        state = {"finished": Out(1), "error": Out(6), "cycles": Out(32)}
        super().__init__({**host, **state, **ports})

    def elaborate(self, platform: object) -> Elaboratable:
        """Names, and constants."""
        m = Module()
        m.submodules.core = core = self._core
        for channel, requests in (("ar", core.reads), ("aw", core.writes)):
            m.d.comb += [
                getattr(self, f"{channel}valid").eq(requests.valid),
                requests.ready.eq(getattr(self, f"{channel}ready")),
                getattr(self, f"{channel}addr").eq(requests.payload.word << 3),
                getattr(self, f"{channel}len").eq(requests.payload.more),
                getattr(self, f"{channel}size").eq(SIZE),
                getattr(self, f"{channel}burst").eq(INCREMENTING),
            ]
        m.d.comb += [
            core.beats.valid.eq(self.rvalid),
            core.beats.payload.data.eq(self.rdata),
            core.beats.payload.last.eq(self.rlast),
            self.rready.eq(core.beats.ready),
            self.wvalid.eq(core.words.valid),
            self.wdata.eq(core.words.payload.piece.data),
            self.wstrb.eq(core.words.payload.piece.strobe),
            self.wlast.eq(core.words.payload.last),
            core.words.ready.eq(self.wready),
            self.bready.eq(1),
            core.answer.eq(self.bvalid),
        ]
        fault = Signal()
        m.d.comb += fault.eq((self.rvalid & self.rresp[1]) | (self.bvalid & self.bresp[1]))
        m.d.comb += core.fault.eq(fault)
        for name in ("launch", "address", "count"):
            m.d.comb += getattr(core, name).eq(getattr(self, name))
        for name in ("finished", "error", "cycles"):
            m.d.comb += getattr(self, name).eq(getattr(core, name))
        return m
