"""What Yosys makes for an ECP5 does, in the netlist's simulator, what the design does in Amaranth's."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="needs pip install 'optc[fpga]'")

from amaranth import Cat, Module, Mux, ResetInserter, Signal, signed
from amaranth.back import rtlil
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from machines import SMALL, needs_rtl
from netlists import Simulated
from streams import simulate
from test_board import INPUT, OUTPUT, add, left

from optc.targets.fpga import bitstream, tools
from optc.targets.fpga.boards import board
from optc.targets.fpga.boardsim import SimulatedLink
from optc.targets.fpga.design import Design
from optc.targets.fpga.link import LinkedBoard
from optc.targets.fpga.netsim.build import library
from optc.targets.fpga.rtl.banks import Banks
from optc.targets.vta.config import Memory as Place
from optc.targets.vta.device import PAGE, Device
from optc.targets.vta.isa import Finish, Gemm, Instruction, Load, Store, encode, encode_uops
from optc.targets.vta.sim import Fsim

pytestmark = needs_rtl

SCRIPT = (
    "read_rtlil top.il; setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2 r:CLK_ENABLE=1 %i; "
    "synth_ecp5 -top top -json top.json"
)
WIDTHS = (2, 4, 9, 18, 36)
DEPTH = 1 << 14


class Arithmetic(wiring.Component):
    """A counter, products of 17 by 15 bits and a sum, with comparisons."""

    def __init__(self) -> None:
        super().__init__(
            {
                "count_up": In(1),
                "clear": In(1),
                "count": Out(20),
                "x": In(signed(17)),
                "y": In(signed(15)),
                "product": Out(signed(32)),
                "unsigned_product": Out(32),
                "sum": Out(signed(18)),
                "relations": Out(3),
                "chosen": Out(signed(17)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        inner = Module()
        count = Signal(20, init=0x7FFF0)
        with inner.If(self.count_up):
            inner.d.sync += count.eq(count + 5)
        m.submodules.counter = ResetInserter(self.clear)(inner)
        x, y = self.x, self.y
        m.d.comb += [
            self.count.eq(count),
            self.product.eq(x * y),
            self.sum.eq(x + y),
            self.relations.eq(Cat(x < y, x == y, x.as_unsigned() >= count[:17])),
        ]
        m.d.sync += [
            self.unsigned_product.eq(x.as_unsigned() * y.as_unsigned()),
            self.chosen.eq(Mux(x < y, x, y) ^ Mux(self.clear, count[3:], self.sum)),
        ]
        return m


class Memories(wiring.Component):
    """Memories of every width that a block RAM has, empty or with contents; one that is read at once."""

    def __init__(self) -> None:
        inputs = {"write": In(1), "there": In(14), "here": In(14), "data": In(36), "enables": In(4)}
        values = {f"{kind}{width}": Out(width) for width in WIDTHS for kind in ("banks", "memory")}
        super().__init__({**inputs, **values, "small7": Out(7)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for width in WIDTHS:
            depth = DEPTH >> (width // 2).bit_length()
            m.submodules[f"banks{width}"] = banks = Banks(depth, 1, width)
            m.d.comb += [
                banks.write_index.eq(self.there),
                banks.read_index.eq(self.here),
                banks.enable.eq(self.write),
                banks.data.eq(self.data),
                getattr(self, f"banks{width}").eq(banks.value),
            ]
            self.memory(m, f"memory{width}", width, depth, "sync", 9 if width > 9 else None)
        self.memory(m, "small7", 7, 32, "comb", None)
        return m

    def memory(self, m: Module, name: str, width: int, depth: int, domain: str, parts: int | None) -> None:
        """With contents; written in `parts` of so many bits."""
        noise = random.Random(width)
        init = [noise.getrandbits(width) for _ in range(depth)]
        m.submodules[name] = memory = Memory(shape=width, depth=depth, init=init)
        write, read = memory.write_port(granularity=parts), memory.read_port(domain=domain)
        m.d.comb += [
            write.addr.eq(self.there),
            write.data.eq(self.data),
            write.en.eq(Mux(self.write, self.enables, 0) if parts else self.write),
            read.addr.eq(self.here),
            getattr(self, name).eq(read.data),
        ]


def arithmetic_inputs(noise: random.Random) -> dict[str, int]:
    x, y = (noise.choice((noise.getrandbits(bits), 1 << bits - 1, 0, 7)) for bits in (17, 15))
    return {"count_up": noise.randrange(2), "clear": noise.random() < 0.1, "x": x, "y": y}


def memory_inputs(noise: random.Random) -> dict[str, int]:
    """Never a write where something is read: what comes then is undefined."""
    there, here = (noise.randrange(32) << 9 | low for low in noise.sample(range(5), 2))
    data, enables = noise.getrandbits(36), noise.randrange(16)
    return {"write": noise.randrange(2), "there": there, "here": here, "data": data, "enables": enables}


MODULES = {
    "arithmetic": (Arithmetic, arithmetic_inputs, {"TRELLIS_FF", "CCU2C", "MULT18X18D", "LUT4", "PFUMX"}),
    "memories": (Memories, memory_inputs, {"DP16KD", "TRELLIS_DPR16X4"}),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_netlist_does_what_its_design_does(name: str, tmp_path: Path) -> None:
    """In every cycle, before the clock and after it, the same outputs."""
    make, inputs, kinds = MODULES[name]
    module, noise = make(), random.Random(6)
    (tmp_path / "top.il").write_text(rtlil.convert(make(), name="top"))
    tools.yosys(SCRIPT, tmp_path)
    cells = json.loads((tmp_path / "top.json").read_text())["modules"]["top"]["cells"].values()
    assert kinds <= {found["type"] for found in cells}
    if "DP16KD" in kinds:
        widths = {int(c["parameters"]["DATA_WIDTH_A"], 2) for c in cells if c["type"] == "DP16KD"}
        assert widths == set(WIDTHS)
    netlist = Simulated(tmp_path)
    outputs = [(n, getattr(module, n)) for n, port in module.signature.members.items() if port.flow is Out]

    async def bench(ctx: Any) -> None:
        for cycle in range(1000):
            values = inputs(noise)
            netlist.set(**values)
            for name, value in values.items():
                ctx.set(getattr(module, name), value)
            for after in range(2):
                for name, signal in outputs:
                    wanted = int(ctx.get(signal)) & (1 << len(signal)) - 1
                    assert netlist.get(name) == wanted, (cycle, after, name)
                if not after:
                    netlist.clock()
                    await ctx.tick()

    simulate(module, bench)


UOPS, WEIGHTS = 0x2400, 0x2100


def multiply() -> list[Instruction]:
    """OUTPUT = the low bytes of the product of the element of INP at INPUT and that of WGT at WEIGHTS."""
    return [
        Load(Place.INP, 0, INPUT // 4, 1, 1, 1),
        Load(Place.WGT, 0, WEIGHTS // 16, 1, 1, 1, push_next=True),
        Load(Place.UOP, 0, UOPS // 4, 1, 1, 1, pop_prev=True),
        Gemm(True, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0),
        Gemm(False, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, push_next=True),
        Store(0, OUTPUT // 4, 1, 1, 1, pop_prev=True, push_prev=True),
        Finish(pop_next=True),
    ]


def multiplied(device: Device) -> list[bytes]:
    """What `multiply` leaves for eight pairs of elements."""
    noise, zero, found = np.random.default_rng(7), np.zeros(1, int), []
    device.write(UOPS, encode_uops(zero, zero, zero, SMALL).view(np.uint8))
    device.write(PAGE, encode(multiply(), SMALL))
    for _ in range(8):
        device.write(INPUT, noise.integers(0, 256, 4, np.uint8))
        device.write(WEIGHTS, noise.integers(0, 256, 16, np.uint8))
        device.run(PAGE, len(multiply()))
        found.append(device.read(OUTPUT, 4).tobytes())
    return found


def broken(text: str) -> str:
    """The netlist with two bits of a product swapped."""
    netlist = json.loads(text)
    cells = netlist["modules"]["board"]["cells"].values()
    pins = next(c for c in cells if c["type"] == "MULT18X18D")["connections"]
    pins["P0"], pins["P1"] = pins["P1"], pins["P0"]
    return json.dumps(netlist)


@pytest.mark.slow
def test_the_netlist_of_a_board(tmp_path: Path) -> None:
    """It runs programs as the simulator does; with two bits of a product swapped, it does not."""
    bitstream.synthesize(Design(replace(board("ulx3s-85f"), config=SMALL, banks=1)), tmp_path)
    netlist = tmp_path / "board.json"

    def device(name: str) -> LinkedBoard:
        made = library(tmp_path, "board.json", "board", tools.HERE / "sim" / "board.cpp")
        return LinkedBoard(SMALL, SimulatedLink(made.rename(tmp_path / name)))

    right = device("right.so")
    for amount in (3, -100, 127):
        assert left(right, add(amount)) == left(Fsim(SMALL, 1 << 16), add(amount))
    wanted = multiplied(Fsim(SMALL, 1 << 16))
    assert multiplied(right) == wanted
    netlist.write_text(broken(netlist.read_text()))
    assert multiplied(device("wrong.so")) != wanted
