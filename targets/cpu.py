"""Target `cpu`: LLVM code by TVM, with ONNX Runtime for what TVM refuses."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import onnx_graphsurgeon as gs

from optc.models.errors import MissingError
from optc.models.model import Model
from optc.passes.base import Pass
from optc.passes.cost import Cost
from optc.targets.artifact import Artifact
from optc.targets.base import Runner
from optc.targets.lowering import vm
from optc.targets.lowering.lower import lower

_V2 = ("cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3")
_V3 = (*_V2, "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")

LEVELS = {"x86-64": (), "x86-64-v2": _V2, "x86-64-v3": _V3, "x86-64-v4": _V4}
"""LLVM's processor levels, lowest first, and the flags of /proc/cpuinfo that each needs (x86-64 psABI)."""

Level = Literal["native", "x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"]


@dataclass(frozen=True)
class Cpu:
    """A processor: `mcpu` is the level its instructions reach, "native" the highest this machine has."""

    name: ClassVar[str] = "cpu"

    mcpu: Level = "native"

    def passes(self) -> tuple[Pass, ...]:
        """Nothing beyond the common pipeline."""
        return ()

    def accepts(self, node: gs.Node) -> str | None:
        """None: what TVM does not take runs in ONNX Runtime on this very processor."""
        return None

    def cost(self, model: Model) -> Cost:
        """A roofline estimate of one core."""
        from optc.targets.measure import CPU_CORE

        return CPU_CORE.estimate(model)

    def measure(self, model: Model) -> Cost:
        """What the guard compares: latency in ONNX Runtime, until our own kernels are ahead of it."""
        from optc.passes.verify.measure import measure

        return measure(model)

    def build(self, model: Model, out: Path) -> Artifact:
        """Compile `model` into the folder `out`; byte-identical for equal models, options and versions."""
        level = native_level() if self.mcpu == "native" else self.mcpu
        lowered = lower(model, self.name, lambda module: _compile(module, level))
        program: dict[str, Any] = {"kind": "island"}
        if lowered.executable is not None:
            islands = vm.save(lowered, out)
            program = {"kind": "vm", "islands": islands, "mcpu": level, "machine": platform.machine()}
        return Artifact.create(out, self, model, program, lowered.placement)

    def runner(self, artifact: Artifact) -> Runner:
        """Load the artifact; `MissingError` where this machine lacks instructions it was built for."""
        program, manifest = artifact.manifest["program"], artifact.manifest
        if program["kind"] == "island":
            return vm.WholeIsland(artifact.model, manifest["inputs"])
        check_processor(program)
        return vm.Program(artifact.folder, (manifest["inputs"], manifest["outputs"]), program["islands"])


def _compile(module: Any, level: str) -> Any:
    import tvm
    from tvm.s_tir import dlight

    from optc.targets.lowering.cpu_schedule import CpuSchedule
    from optc.targets.lowering.pipeline import build

    options = {"kind": "llvm", "mcpu": level} if level in LEVELS else {"kind": "llvm"}
    return build(module, tvm.target.Target(options), [dlight.ApplyDefaultSchedule(CpuSchedule())])


def compile_native(module: Any) -> Any:
    """Compile a Relax module for this machine's processor."""
    return _compile(module, native_level())


def native_program() -> dict[str, str]:
    """What a manifest says of code for this machine: machine and processor level."""
    return {"machine": platform.machine(), "mcpu": native_level()}


def processor_flags() -> frozenset[str]:
    """The instruction sets of this machine, as /proc/cpuinfo names them."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def native_level() -> str:
    """The highest of `LEVELS` that this machine reaches; "generic" where it is no x86-64."""
    if platform.machine() != "x86_64":
        return "generic"
    flags = processor_flags()
    return [level for level, needed in LEVELS.items() if flags.issuperset(needed)][-1]


def check_processor(program: dict[str, Any]) -> None:
    """`MissingError` where this machine is not one that the program was built for."""
    if platform.machine() != program["machine"]:
        raise MissingError(
            f"the artifact was built for {program['machine']}, this machine is {platform.machine()}; "
            "compile the model here"
        )
    missing = set(LEVELS.get(program["mcpu"], ())) - processor_flags()
    if missing:
        raise MissingError(
            f"the artifact was built for {program['mcpu']} processors, this one lacks "
            f"{', '.join(sorted(missing))}; compile here, or with --target 'cpu{{mcpu={native_level()}}}'"
        )
