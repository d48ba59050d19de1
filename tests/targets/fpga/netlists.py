"""Small netlists for tests: of cells one by one, or what Yosys makes; and what simulates them."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optc.targets.fpga.netsim.build import library

Nets = Sequence[int | str]
SHIM = """
#include "Vtop.h"
static uint64_t& port(void* top, int number) {{
    auto& v = *static_cast<Vtop*>(top);
    uint64_t* const all[] = {{{ports}}};
    return *all[number];
}}
extern "C" {{
void* made() {{ return new Vtop; }}
void deleted(void* top) {{ delete static_cast<Vtop*>(top); }}
void set(void* top, int number, uint64_t value) {{ port(top, number) = value; }}
uint64_t get(void* top, int number) {{ return port(top, number); }}
void eval(void* top) {{ static_cast<Vtop*>(top)->eval(); }}
}}
"""


class Simulated:
    """The module `top` of `folder`/top.json; its ports by name, its clock `clk`."""

    def __init__(self, folder: Path) -> None:
        ports = json.loads((folder / "top.json").read_text())["modules"]["top"]["ports"]
        shim = folder / "shim.cpp"
        shim.write_text(SHIM.format(ports=", ".join(f"&v.{name}" for name in ports)))
        self._code = ctypes.CDLL(str(library(folder, "top.json", "top", shim)))
        self._code.made.restype, self._code.get.restype = ctypes.c_void_p, ctypes.c_uint64
        self._top = ctypes.c_void_p(self._code.made())
        self._numbers = {name: number for number, name in enumerate(ports)}

    def set(self, **values: int) -> None:
        for name, value in values.items():
            self._code.set(self._top, self._numbers[name], ctypes.c_uint64(value))
        self._code.eval(self._top)

    def get(self, name: str) -> int:
        return int(self._code.get(self._top, self._numbers[name]))

    def clock(self) -> None:
        self.set(clk=1)
        self.set(clk=0)

    def __del__(self) -> None:
        if hasattr(self, "_top"):
            self._code.deleted(self._top)


def cell(kind: str, parameters: Mapping[str, str] | None = None, **pins: int | str | Nets) -> dict[str, Any]:
    """A cell in Yosys' JSON; nets are numbers or "0", "1"."""
    connections = {name: [bits] if isinstance(bits, int | str) else list(bits) for name, bits in pins.items()}
    return {"type": kind, "parameters": dict(parameters or {}), "connections": connections}


def netlist(
    folder: Path, inputs: Mapping[str, Nets], outputs: Mapping[str, Nets], *cells: dict[str, Any]
) -> Path:
    """A module `top` in `folder`/top.json."""
    ports = {name: {"direction": "input", "bits": list(bits)} for name, bits in inputs.items()}
    ports |= {name: {"direction": "output", "bits": list(bits)} for name, bits in outputs.items()}
    module = {"ports": ports, "cells": {f"cell{i}": found for i, found in enumerate(cells)}}
    (folder / "top.json").write_text(json.dumps({"modules": {"top": module}}))
    return folder
