"""A flat netlist of one clock, from Yosys' JSON, as models; its logic in an order and in clusters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from optc.targets.fpga.netsim.cells import Bit, Cell
from optc.targets.fpga.netsim.models import (
    BlockRam,
    Logic,
    Register,
    SmallRam,
    block_ram,
    logic,
    lut,
    register,
    small_ram,
)

CLUSTER = 48
"""About how many LUTs are evaluated together, if one of their inputs changed."""
_COPY = 0b10
"""The LUT of one input that is its input."""


@dataclass
class Netlist:
    """The cells' models, and `ports`: by name, whether it is an input, and its bits.

    `clock`: the input that is every cell's clock, if any has one.
    """

    ports: Mapping[str, tuple[bool, Sequence[Bit]]]
    clock: Bit | None = None
    logic: list[Logic] = field(default_factory=list)
    registers: list[Register] = field(default_factory=list)
    small_rams: list[SmallRam] = field(default_factory=list)
    block_rams: list[BlockRam] = field(default_factory=list)

    def inputs(self) -> list[Bit]:
        """The bits that come from outside, without the clock."""
        return [b for is_input, bits in self.ports.values() if is_input for b in bits if b != self.clock]


def load(path: Path, top: str) -> Netlist:
    """The module `top` of a file that Yosys wrote.

    `RuntimeError` where it has a cell or a mode without a model, or another clock than one input.
    """
    module = json.loads(path.read_text())["modules"][top]
    cells = [
        Cell(name, cell["type"], cell["parameters"], cell["connections"])
        for name, cell in module["cells"].items()
        if cell["type"] != "$scopeinfo"
    ]
    aliases: dict[Bit, Bit] = {"x": "0", "z": "0"}
    for cell in cells:
        aliases |= cell.pll() if cell.kind == "EHXPLLL" else {}
    cells = [cell.renamed(aliases) for cell in cells if cell.kind != "EHXPLLL"]
    ports = {
        name: (port["direction"] == "input", [aliases.get(b, b) for b in port["bits"]])
        for name, port in module["ports"].items()
    }
    found = Netlist(ports, _clock(cells, ports))
    for number, cell in enumerate(cells):
        _add(found, cell, number)
    driven = {bit for one in found.logic for bit in one.outputs}
    for number, one in enumerate(found.registers):
        if isinstance(one.d, int) and one.d not in driven:
            copy = -2 * number - 1
            found.logic.append(lut(one.name, copy, _COPY, [one.d]))
            found.registers[number] = replace(one, d=copy)
    return found


def _clock(cells: Iterable[Cell], ports: Mapping[str, Any]) -> Bit | None:
    clocks = {clock for cell in cells for clock in cell.clocks()}
    inputs = {bit for is_input, bits in ports.values() if is_input for bit in bits}
    if len(clocks) > 1 or not clocks <= inputs:
        raise RuntimeError(f"a netlist with {len(clocks)} clocks, or one that is no input, has no model")
    return next(iter(clocks), None)


def _add(netlist: Netlist, cell: Cell, number: int) -> None:
    cell.check()
    if cell.kind == "TRELLIS_FF":
        kept, more = register(cell, -2 * number - 2)
        if cell.bit("Q") != "0":
            netlist.registers.append(kept)
            netlist.logic += more
    elif cell.kind == "TRELLIS_DPR16X4":
        ram = small_ram(cell, len(netlist.small_rams))
        netlist.small_rams.append(ram)
        netlist.logic.append(ram.read)
    elif cell.kind == "DP16KD":
        netlist.block_rams.append(block_ram(cell))
    else:
        netlist.logic.append(logic(cell))


def grouped(registers: Iterable[Register]) -> list[list[Register]]:
    """Registers with the same enable and reset together, neighbours by name beside each other."""
    found: dict[tuple[Bit, int, Bit], list[Register]] = {}
    for one in sorted(registers, key=lambda r: _natural(r.name)):
        found.setdefault((one.enable, one.off, one.reset), []).append(one)
    return list(found.values())


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def clusters(netlist: Netlist, sinks: Iterable[Bit]) -> list[list[Logic]]:
    """The logic before `sinks`, each after what drives it, neighbours beside each other, cut into pieces.

    No piece reads what a later one drives. `RuntimeError` where logic drives itself.
    """
    found: list[list[Logic]] = [[]]
    weight = 0
    for one in _ordered(netlist.logic, sinks):
        if weight + one.weight > CLUSTER and found[-1]:
            found.append([])
            weight = 0
        found[-1].append(one)
        weight += one.weight
    return found


def _ordered(logic: Iterable[Logic], sinks: Iterable[Bit]) -> list[Logic]:
    """Depth first."""
    drivers = {bit: one for one in logic for bit in one.outputs}
    order: list[Logic] = []
    begun: set[int] = set()
    ended: set[int] = set()
    for sink in sinks:
        path = [drivers[sink]] if sink in drivers else []
        while path:
            one = path[-1]
            begun.add(id(one))
            ahead = [drivers[b] for b in one.inputs if b in drivers and id(drivers[b]) not in ended]
            if ahead and id(ahead[0]) in begun:
                raise RuntimeError(f"{ahead[0].name}: logic that drives itself has no model")
            if ahead:
                path.append(ahead[0])
                continue
            path.pop()
            if id(one) not in ended:
                ended.add(id(one))
                order.append(one)
    return order
