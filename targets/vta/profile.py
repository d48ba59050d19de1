"""Where a program's cycles go, layer by layer, and a roofline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import Alu, Gemm, Instruction, Load, Module, Store, decode, is_nop, module_of
from optc.targets.vta.regions import Region
from optc.targets.vta.timing import WORD_BYTES, Report


@dataclass
class Layer:
    """What a layer took. Cycles count from the end of the layer before to its own: layers overlap.

    `steps`: of the GEMM unit, resets left out; `passes`: ALU steps and resets, a tensor operation twice;
    `read`, `written`: bytes; `waited`: cycles that the compute module stood still before an instruction of
    the layer; `macs`: multiply-accumulates that the model asks for.
    """

    label: str
    macs: int
    cycles: int = 0
    steps: int = 0
    passes: int = 0
    read: int = 0
    written: int = 0
    waited: int = 0

    @property
    def floor(self) -> int:
        """Cycles that the larger of computing and reading takes by itself."""
        return max(self.steps + self.passes, self.read // WORD_BYTES)

    def utilisation(self, config: Config) -> float:
        """Multiply-accumulates asked for as a share of what the GEMM unit could do in the layer's cycles."""
        peak = config.batch * config.block**2
        return self.macs / (peak * self.cycles) if self.cycles else 0.0

    def json(self, config: Config) -> dict[str, Any]:
        """All of it."""
        return asdict(self) | {"floor": self.floor, "utilisation": round(self.utilisation(config), 4)}


def profile(region: Region, report: Report, config: Config) -> list[Layer]:
    """The layers of a region that took `report`."""
    found = [Layer(s["label"], s["macs"]) for s in region.stages]
    ends = [0] * len(found)
    free = 0
    instructions = decode(region.program.instructions, config)
    for owner, insn, (start, end) in zip(region.owners, instructions, report.spans, strict=False):
        layer = found[owner]
        ends[owner] = max(ends[owner], end)
        _count(layer, insn, config)
        if module_of(insn) == Module.COMPUTE:
            # Where instructions overlap, one starts before the end of the one before.
            layer.waited += max(0, start - free)
            free = max(free, end)
    before = 0
    for layer, end in zip(found, ends, strict=True):
        layer.cycles, before = max(0, end - before), max(end, before)
    return found


def _count(layer: Layer, insn: Instruction, config: Config) -> None:
    if isinstance(insn, Gemm | Alu):
        steps = insn.iter_out * insn.iter_in * (insn.uop_end - insn.uop_begin)
        if isinstance(insn, Gemm) and not insn.reset:
            layer.steps += steps
        else:
            layer.passes += steps * (2 if isinstance(insn, Alu) and not insn.use_imm else 1)
    elif isinstance(insn, Load | Store) and not is_nop(insn):
        memory = Memory.OUT if isinstance(insn, Store) else insn.memory
        moved = insn.x_size * insn.y_size * config.element_bytes(memory)
        if isinstance(insn, Store):
            layer.written += moved
        else:
            layer.read += moved


_WIDTH, _HEIGHT = 64, 14


def roofline(layers: Sequence[Layer], config: Config) -> str:
    """Layers by multiply-accumulates a byte (across, log) and a cycle (up, log), under the machine's roof."""
    peak = config.batch * config.block**2
    points = [
        (layer.macs / max(layer.read + layer.written, 1), layer.macs / layer.cycles, mark)
        for layer, mark in zip(layers, _marks(len(layers)), strict=True)
        if layer.macs and layer.cycles
    ]
    if not points:
        return ""
    left = min(1.0, *(p[0] for p in points))
    right = max(2.0 * peak / WORD_BYTES, *(p[0] for p in points)) * 1.1
    low = min(1.0, *(p[1] for p in points))
    cells = [[" "] * _WIDTH for _ in range(_HEIGHT)]

    def row(value: float) -> int:
        share = math.log(max(value, low) / low) / math.log(peak * 1.1 / low)
        return _HEIGHT - 1 - min(_HEIGHT - 1, round(share * (_HEIGHT - 1)))

    for column in range(_WIDTH):
        intensity = left * (right / left) ** (column / (_WIDTH - 1))
        cells[row(min(peak, intensity * WORD_BYTES))][column] = "·"
    for intensity, rate, mark in points:
        column = round(math.log(intensity / left) / math.log(right / left) * (_WIDTH - 1))
        cells[row(rate)][min(_WIDTH - 1, column)] = mark
    lines = [f"{'MAC/cycle' if i == 0 else '':>9} |{''.join(line)}" for i, line in enumerate(cells)]
    axis = f"{'':>9} +{'-' * _WIDTH}"
    scale = f"{left:<.3g}".ljust(_WIDTH - 8) + f"{right:.3g}"
    return "\n".join([*lines, axis, f"{'':>11}{scale} MAC/byte"])


def _marks(count: int) -> list[str]:
    """A letter for each layer, from the start again where they are too many."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [letters[i % len(letters)] for i in range(count)]


def marked(layers: Sequence[Layer]) -> list[tuple[str, Layer]]:
    """Each layer with its letter in the roofline."""
    return list(zip(_marks(len(layers)), layers, strict=True))
