"""Compiled regions in an artifact: their files, and calling them on a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models import storage
from optc.targets.vta.compiler.region import Place, RegionProgram
from optc.targets.vta.compiler.values import Layout
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
                "inputs": {n: _place(p) for n, p in region.inputs.items()},
                "outputs": {n: _place(p) for n, p in region.outputs.items()},
                "stages": [{"label": s.label, "macs": s.macs} for s in region.stages],
            }
        )
    return found


def _place(place: Place) -> dict[str, Any]:
    return {"address": place.address, "shape": place.layout.shape, "axes": place.layout.axes}


@dataclass(frozen=True, eq=False)
class Region:
    """A region as an artifact holds it, ready to be called."""

    name: str
    program: Program
    owners: NDArray[np.int32]
    stream_address: int
    end: int
    inputs: Mapping[str, Place]
    outputs: Mapping[str, Place]
    stages: Sequence[Mapping[str, Any]]

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any]) -> Region:
        """The region that an entry of the manifest describes."""

        def places(found: Mapping[str, Any]) -> dict[str, Place]:
            layouts = {n: Layout(tuple(p["shape"]), tuple(p["axes"])) for n, p in found.items()}
            return {n: Place(p["address"], layouts[n]) for n, p in found.items()}

        return cls(
            entry["name"],
            Program.load(folder / entry["file"]),
            np.load(folder / entry["owners"], allow_pickle=False),
            entry["stream"],
            entry["end"],
            places(entry["inputs"]),
            places(entry["outputs"]),
            entry["stages"],
        )

    def install(self, device: Device) -> None:
        """Write what does not change from call to call: constants and instructions."""
        for address, data in self.program.inputs:
            device.write(address, data)
        device.write(self.stream_address, self.program.instructions.reshape(-1))

    def call(self, device: Device, config: Config, arrays: Sequence[Array]) -> list[Array]:
        """Codes out for codes in, in the order of `outputs` and `inputs`; several samples one by one."""
        samples = max(len(a) // p.layout.shape[0] for a, p in zip(arrays, self.inputs.values(), strict=True))
        if samples <= 1:
            return self._once(device, config, arrays)
        each = [self._once(device, config, [a[i : i + 1] for a in arrays]) for i in range(samples)]
        return [np.concatenate(parts) for parts in zip(*each, strict=True)]

    def _once(self, device: Device, config: Config, arrays: Sequence[Array]) -> list[Array]:
        for array, place in zip(arrays, self.inputs.values(), strict=True):
            device.write(place.address, place.layout.pack(array, config).reshape(-1).view(np.uint8))
        device.run(self.stream_address, len(self.program.instructions))
        size = config.element_bytes(Memory.OUT)
        found: list[Array] = []
        for place in self.outputs.values():
            data = device.read(place.address, place.layout.extent(config).elements * size)
            found.append(place.layout.unpack(data.view(np.int8), config))
        return found
