"""Launches of an artifact as program files, with the memory before and after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.targets.artifact import Artifact
from optc.targets.vta.device import Device
from optc.targets.vta.program import Program
from optc.targets.vta.regions import Region
from optc.targets.vta.vta import VtaRunner


class _Recorder:
    """A device that keeps what each launch finds and leaves in memory."""

    def __init__(self, device: Device, regions: list[Region]) -> None:
        self.device = device
        self.launches: list[Program] = []
        self._regions = {r.stream_address: r for r in regions}

    def write(self, address: int, data: NDArray[np.uint8]) -> None:
        """As `Device.write`."""
        self.device.write(address, data)

    def read(self, address: int, size: int) -> NDArray[np.uint8]:
        """As `Device.read`."""
        return self.device.read(address, size)

    def run(self, address: int, count: int) -> int:
        """As `Device.run`, kept as a program."""
        region = self._regions[address]
        before = list(region.program.inputs)
        before += [(p.address, self.read(p.address, region.size(p))) for p in region.inputs]
        cycles = self.device.run(address, count)
        after = [(p.address, self.read(p.address, region.size(p))) for p in region.outputs]
        self.launches.append(Program(region.program.instructions, tuple(before), tuple(after)))
        return cycles


def export_launches(artifact: Artifact, feeds: Mapping[str, NDArray[Any]], folder: Path) -> list[Path]:
    """Run `artifact` on `feeds` and write each launch to `folder`, in order; the files.

    Raises `InputError` where the artifact has no VTA programs, or the folder is not empty.
    """
    runner = artifact.runner() if artifact.manifest["program"].get("regions") else None
    if not isinstance(runner, VtaRunner):
        raise InputError(f"{artifact.folder}: it has no VTA programs; compile with --target vta or fpga")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: it is there already and not empty; give a new folder")
    recorder = _Recorder(runner.device, runner.regions)
    runner.device = recorder
    runner.run(feeds)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"launch_{n}.npz" for n in range(len(recorder.launches))]
    for file, program in zip(files, recorder.launches, strict=True):
        program.save(file)
    return files
