"""Compiled regions in an artifact: their files, and calling them on a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models import storage
from optc.passes.quantize.integer.ops import Window
from optc.targets.vta.compiler.fold import Folded
from optc.targets.vta.compiler.region import Given, Made, Place, RegionProgram
from optc.targets.vta.compiler.stages import Extent
from optc.targets.vta.compiler.values import Layout, Matrices, Wide
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.device import Device
from optc.targets.vta.program import Program

Array = NDArray[Any]


def save(programs: Mapping[str, RegionProgram], folder: Path) -> list[dict[str, Any]]:
    """Write a file for each region; what the manifest says of them."""
    found: list[dict[str, Any]] = []
    for number, (name, region) in enumerate(programs.items()):
        file = f"region_{number}.npz"
        Program(region.instructions, region.constants, ()).save(folder / file)
        owners = f"region_{number}.stages.npy"
        with storage.write_beside(folder / owners) as beside:
            np.save(beside, region.owners.astype(np.int32))
        found.append(
            {
                "name": name,
                "file": file,
                "owners": owners,
                "stream": region.stream_address,
                "end": region.end,
                "inputs": [_place(p) for p in region.inputs],
                "outputs": [_place(p) for p in region.outputs],
                "arguments": region.arguments,
                "stages": [{"label": s.label, "macs": s.macs} for s in region.stages],
            }
        )
    return found


def _place(place: Place[Any]) -> dict[str, Any]:
    form = place.layout
    entry = {"address": place.address, "value": place.value, "shape": form.shape}
    match form:
        case Folded():
            return entry | {"folded": asdict(form.window), "rows": form.rows}
        case Wide():
            return entry | {"axes": form.layout.axes, "planes": form.planes}
        case Matrices():
            return entry | {"matrices": True}
    return entry | {"axes": form.axes}


def _given(entry: Mapping[str, Any]) -> Place[Given]:
    shape = tuple(entry["shape"])
    layout: Given
    if "folded" in entry:
        parts: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in entry["folded"].items()
        }
        layout = Folded(shape, Window(**parts), entry["rows"])
    else:
        layout = Matrices(shape) if "matrices" in entry else _layout(entry)
    return Place(entry["address"], layout, entry["value"])


def _made(entry: Mapping[str, Any]) -> Place[Made]:
    layout = _layout(entry)
    made = Wide(layout, entry["planes"]) if "planes" in entry else layout
    return Place(entry["address"], made, entry["value"])


def _layout(entry: Mapping[str, Any]) -> Layout:
    n, c, y, x = (tuple(a) for a in entry["axes"])
    return Layout(tuple(entry["shape"]), (n, c, y, x))


@dataclass(frozen=True, eq=False)
class Region:
    """A region as an artifact holds it, ready to be called."""

    name: str
    config: Config
    program: Program
    owners: NDArray[np.int32]
    stream_address: int
    end: int
    arguments: Sequence[str]
    inputs: Sequence[Place[Given]]
    outputs: Sequence[Place[Made]]
    stages: Sequence[Mapping[str, Any]]

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any], config: Config) -> Region:
        """The region that an entry of the manifest describes, for a machine of `config`."""

        return cls(
            entry["name"],
            config,
            Program.load(folder / entry["file"]),
            np.load(folder / entry["owners"], allow_pickle=False),
            entry["stream"],
            entry["end"],
            entry["arguments"],
            [_given(p) for p in entry["inputs"]],
            [_made(p) for p in entry["outputs"]],
            entry["stages"],
        )

    def size(self, place: Place[Any]) -> int:
        """Bytes of a tensor."""
        extent: Extent = place.layout.extent(self.config)
        return extent.elements * self.config.element_bytes(Memory.OUT)

    def install(self, device: Device) -> None:
        """Write what does not change from call to call: constants and instructions."""
        for address, data in self.program.inputs:
            device.write(address, data)
        device.write(self.stream_address, self.program.instructions.reshape(-1))

    def call(self, device: Device, arrays: Sequence[Array]) -> tuple[list[Array], int]:
        """Codes or accumulators of `outputs` for codes of `arguments`, and the cycles.

        Several samples go one by one.
        """
        first = {p.value: p.layout.shape[0] for p in self.inputs if p.layout.shape}
        given = dict(zip(self.arguments, arrays, strict=True))
        samples = max(len(a) // first.get(n, len(a)) for n, a in given.items())
        if samples <= 1:
            return self._once(device, given)
        free = {n for n, a in given.items() if len(a) > first.get(n, len(a))}
        each = [
            self._once(device, {n: a[i : i + 1] if n in free else a for n, a in given.items()})
            for i in range(samples)
        ]
        joined = [np.concatenate(parts) for parts in zip(*(arrays for arrays, _ in each), strict=True)]
        return joined, sum(cycles for _, cycles in each)

    def _once(self, device: Device, given: Mapping[str, Array]) -> tuple[list[Array], int]:
        for place in self.inputs:
            packed = place.layout.pack(given[place.value], self.config)
            device.write(place.address, packed.reshape(-1).view(np.uint8))
        cycles = device.run(self.stream_address, len(self.program.instructions))
        found: list[Array] = []
        for made in self.outputs:
            data = device.read(made.address, self.size(made))
            found.append(made.layout.unpack(data.view(np.int8), self.config))
        return found, cycles
