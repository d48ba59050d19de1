"""From Yosys' JSON of a netlist to a shared library."""

from __future__ import annotations

from pathlib import Path

from optc.targets.fpga import tools
from optc.targets.fpga.netsim.code import generate
from optc.targets.fpga.netsim.layout import Layout
from optc.targets.fpga.netsim.netlist import load

SOURCES = sorted(Path(__file__).parent.glob("*.py"))


def library(folder: Path, netlist: str, top: str, shim: Path) -> Path:
    """Compile the module `top` of the file `netlist` in `folder`, and `shim`, to a library in `folder`.

    The shim finds the class `VTOP`. Raises `RuntimeError` for what has no model, `MissingError` without g++.
    """
    layout = Layout(load(folder / netlist, top))
    (folder / f"V{top}.h").write_text(generate(layout, f"V{top}"))
    return tools.compile_library(folder, "-O1", "-I.", str(shim))
