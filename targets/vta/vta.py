"""Target `vta`: integer operations on the accelerator VTA, simulated; the rest on the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Pass
from optc.passes.cost import Cost
from optc.passes.registry import parse_passes
from optc.targets.artifact import Artifact
from optc.targets.base import Placement, Runner
from optc.targets.cpu import check_processor, compile_native, native_program
from optc.targets.lowering import vm
from optc.targets.lowering.lower import lower
from optc.targets.vta import regions
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.device import Device
from optc.targets.vta.sim import Fsim
from optc.targets.vta.timed import Timed
from optc.targets.vta.timing import TIMINGS, Report, Timing

_PASSES = (
    "move-preactivation,"
    "quantize{activations=int8,scales=pow2,rounding=half_up,residual=accumulator,per_channel=false,"
    "weights=learnt}"
)

UOPS = 2048
"""Micro-ops that the original's RTL holds; none that its configuration has beyond them are used."""


@dataclass(frozen=True)
class Vta:
    """VTA: `config` is a JSON file of its configuration, the original's by default.

    `timing`: whose cycles the tilings are chosen by and the timed simulator counts; `device`: what runs it.
    """

    name: ClassVar[str] = "vta"

    config: str = ""
    timing: Literal["pynq", "de10", "optc"] = "pynq"
    device: Literal["fsim", "timed", "rtl"] = "fsim"

    @property
    def machine(self) -> Config:
        """The configuration; `InputError` where the file has none."""
        return Config.load(Path(self.config)) if self.config else Config()

    def passes(self) -> tuple[Pass, ...]:
        """Quantization to what VTA computes exactly: int8, power-of-two scales, sums kept whole."""
        return parse_passes(_PASSES)

    def accepts(self, node: gs.Node) -> str | None:
        """None: what VTA does not take runs on the host."""
        return None

    def cost(self, model: Model) -> Cost:
        """A roofline estimate at 100 MHz."""
        from optc.targets.measure import VTA_PYNQ

        return VTA_PYNQ.estimate(model)

    def build(self, model: Model, out: Path) -> Artifact:
        """Compile `model` into the folder `out`; byte-identical for equal models, options and versions."""
        program, placement = compile_for(model, out, self.machine, TIMINGS[self.timing])
        return Artifact.create(out, self, model, program, placement)

    def runner(self, artifact: Artifact) -> Runner:
        """Load the artifact onto a simulator."""
        return runner_on(artifact, self.simulator)

    def simulator(self, config: Config, end: int) -> Device:
        """The device of `device`, with memory up to the address `end`."""
        if self.device == "timed":
            return Timed(config, TIMINGS[self.timing], end)
        if self.device == "rtl":
            from optc.targets.fpga.rtlsim import RtlSim

            return RtlSim(config, end)
        return Fsim(config, end)


def compile_for(
    model: Model, out: Path, config: Config, timing: Timing
) -> tuple[dict[str, Any], Sequence[Placement]]:
    """Write VTA's programs and the host's part into `out`; a manifest's `program`, and the placement.

    Raises `InputError` for a model with free dimensions besides the batch.
    """
    from optc.targets.vta.compiler.offloader import VtaOffloader
    from optc.targets.vta.compiler.search import Machine

    _check_shapes(model)
    offloader = VtaOffloader(Machine(config, timing, min(UOPS, config.depth(Memory.UOP))))
    lowered = lower(model, Vta.name, compile_native, offloader)
    program: dict[str, Any] = {"kind": "island"}
    if lowered.executable is not None:
        islands = vm.save(lowered, out)
        found = regions.save(offloader.programs, out)
        program = {"kind": "vm", "islands": islands, "regions": found, "config": config.to_json()}
        program |= native_program()
    return program, lowered.placement


def runner_on(artifact: Artifact, device: Callable[[Config, int], Device]) -> Runner:
    """Load an artifact; `device` makes a device of a configuration with memory up to an address."""
    program, manifest = artifact.manifest["program"], artifact.manifest
    if program["kind"] == "island":
        return vm.WholeIsland(artifact.model, manifest["inputs"])
    check_processor(program)
    return VtaRunner(artifact, device)


class VtaRunner:
    """A loaded artifact; `reports`: the region and, of the timed device, the report of its last launch.

    `cycles`: of all launches so far.
    """

    def __init__(self, artifact: Artifact, device: Callable[[Config, int], Device]) -> None:
        program, manifest = artifact.manifest["program"], artifact.manifest
        self.config = Config.from_json(program["config"])
        self.regions = [
            regions.Region.load(artifact.folder, entry, self.config) for entry in program["regions"]
        ]
        self.device = device(self.config, max((r.end for r in self.regions), default=0))
        self.reports: dict[str, tuple[regions.Region, Report]] = {}
        self.cycles = 0
        for region in self.regions:
            region.install(self.device)
        functions = {r.name: self._function(r) for r in self.regions}
        specs = (manifest["inputs"], manifest["outputs"])
        self._program = vm.Program(artifact.folder, specs, program["islands"], functions=functions)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """As `Runner.run`."""
        return self._program.run(feeds)

    def _function(self, region: regions.Region) -> Callable[..., None]:
        def call(*tensors: Any) -> None:
            count = len(region.arguments)
            given = [t.numpy() for t in tensors[:count]]
            found, cycles = region.call(self.device, given)
            self.cycles += cycles
            if isinstance(self.device, Timed) and self.device.report is not None:
                self.reports[region.name] = region, self.device.report
            for out, array in zip(tensors[count:], found, strict=True):
                out.copyfrom(np.asarray(array, order="C"))

        return call


def _check_shapes(model: Model) -> None:
    """`InputError` where an input has free dimensions besides its first, the batch."""
    for tensor in model.view.inputs:
        free = [d for d in (tensor.shape or [])[1:] if not isinstance(d, int)]
        if free or tensor.shape is None:
            example = ",".join(str(d) if isinstance(d, int) else "1" for d in tensor.shape or [])
            raise InputError(
                f"input '{tensor.name}' has the free dimensions {', '.join(map(str, free))}; VTA needs "
                f"fixed sizes: bind them, as in --shape {tensor.name}={example}"
            )
