"""What Verilator does with a bare matrix unit: the yardstick for the speed of the core's simulation.

Memories of INP, WGT and ACC as large as the core's, counters for addresses, BLOCK × BLOCK products and sums a
cycle, accumulated in ACC: nothing else. Made with the same tools and flags as the core.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from optc.targets.fpga import tools
from optc.targets.fpga.verilate import PACKAGES
from optc.targets.vta.config import Config, Memory

SHIM = """
#include <cstdint>
#include "Vbare.h"
#include "verilated.h"
extern "C" uint32_t bare_run(uint64_t cycles) {
    VerilatedContext context;
    Vbare bare{&context};
    bare.eval();
    for (uint64_t i = 0; i < cycles; ++i) bare.rst = i < 2, bare.clk ^= 1, bare.eval();
    return bare.out;
}
"""


def bare_library(config: Config) -> Any:
    """The function `bare_run(cycles)` of the matrix unit of `config`, compiled once."""
    sources = [*tools.rtl_sources(), *tools.RECIPE, Path(__file__)]
    key = tools.digest(config.to_json(), SHIM, packages=PACKAGES, sources=sources)
    code = ctypes.CDLL(str(tools.kept(f"bare-{key}.so", lambda folder: _build(config, folder))))
    return code.bare_run


def _build(config: Config, folder: Path) -> Path:
    from amaranth.back import rtlil

    (folder / "bare.il").write_text(rtlil.convert(_design(config), name="bare"))
    tools.verilog("bare", folder, both_edges=True)
    shim = folder / "bare.cpp"
    shim.write_text(SHIM)
    return tools.shared_library(folder, ["bare.v"], "bare", str(shim))


def _design(config: Config) -> Any:
    from amaranth import Cat, Elaboratable, Module, Signal, Value
    from amaranth.lib import wiring
    from amaranth.lib.wiring import Out

    from optc.targets.fpga.rtl.banks import Banks
    from optc.targets.fpga.rtl.products import LATENCY, Products

    class Bare(wiring.Component):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__({"out": Out(32)})

        def elaborate(self, platform: object) -> Elaboratable:
            m = Module()
            lanes = config.batch * config.block
            inp = Banks(config.depth(Memory.INP), 1, 8 * lanes)
            wgt = Banks(config.depth(Memory.WGT), 1, 8 * config.block**2)
            acc = Banks(config.depth(Memory.ACC), 1, 32 * lanes)
            products = Products(config.batch, config.block)
            m.submodules.inp, m.submodules.wgt, m.submodules.acc, m.submodules.products = (
                inp,
                wgt,
                acc,
                products,
            )
            step = Signal(32)
            m.d.sync += step.eq(step + 1)
            late = [step]
            for _ in range(LATENCY + 3):
                late.append(Signal(32))
                m.d.sync += late[-1].eq(late[-2])
            m.d.comb += [inp.read_index.eq(step), wgt.read_index.eq(step >> 4)]
            # Something to multiply: the counter itself is written into both memories.
            for memory in (inp, wgt):
                m.d.comb += [memory.write_index.eq(step), memory.enable.eq(step[-1] == 0)]
                m.d.comb += memory.data.eq(Cat(step, ~step).replicate(max(1, len(memory.data) // 64)))
            m.d.comb += [Value.cast(products.inp).eq(inp.value), Value.cast(products.wgt).eq(wgt.value)]
            old = Value.cast(acc.value)
            sums = [old[32 * i : 32 * (i + 1)] + products.sums[i] for i in range(lanes)]
            m.d.comb += acc.read_index.eq(late[LATENCY])
            m.d.comb += [acc.write_index.eq(late[LATENCY + 2]), acc.enable.eq(1)]
            m.d.comb += acc.data.eq(Cat(s[:32] for s in sums))
            m.d.comb += self.out.eq(old[:32])
            return m

    return Bare()
