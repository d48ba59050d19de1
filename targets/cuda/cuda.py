"""Target `cuda`: NVIDIA GPUs. Compiles on a machine with neither a GPU nor a CUDA toolkit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import onnx_graphsurgeon as gs

from optc.models.errors import InputError, MissingError
from optc.models.model import Model
from optc.passes.base import Pass
from optc.passes.cost import Cost
from optc.targets.artifact import Artifact
from optc.targets.base import Runner
from optc.targets.cpu import check_processor, native_level, native_program
from optc.targets.cuda import kernels, nvrtc
from optc.targets.lowering import vm
from optc.targets.lowering.lower import lower


@dataclass(frozen=True)
class Cuda:
    """NVIDIA GPUs: `arch` are the architectures to compile for, each gets a cubin, the lowest PTX too."""

    name: ClassVar[str] = "cuda"

    arch: tuple[str, ...] = ("sm_80",)

    def __post_init__(self) -> None:
        if not self.arch:
            raise InputError("--arch: give at least one architecture, such as sm_80")
        for arch in self.arch:
            kernels.capability(arch)

    def passes(self) -> tuple[Pass, ...]:
        """Nothing beyond the common pipeline."""
        return ()

    def accepts(self, node: gs.Node) -> str | None:
        """None: what TVM does not take runs in ONNX Runtime on the host."""
        return None

    def cost(self, model: Model) -> Cost:
        """A roofline estimate of an A100."""
        from optc.targets.measure import A100

        return A100.estimate(model)

    def build(self, model: Model, out: Path) -> Artifact:
        """Compile `model` into the folder `out`; byte-identical for equal models, options and versions.

        Raises `MissingError` without the extra `cuda`, `InputError` for an architecture NVRTC does not know.
        """
        for arch in self.arch:
            nvrtc.check_arch(arch)
        nvrtc.include_folders()
        lowered = lower(model, self.name, self._compile)
        program: dict[str, Any] = {"kind": "island"}
        if lowered.executable is not None:
            islands = vm.save(lowered, out)
            device = _device_module(lowered.executable)
            if device is not None:
                kernels.save(device, self.arch, out)
            program = {"kind": "vm", "islands": islands, "kernels": device is not None} | native_program()
        return Artifact.create(out, self, model, program, lowered.placement)

    def _compile(self, module: Any) -> Any:
        import tvm

        from optc.targets.cuda.schedule import schedule
        from optc.targets.lowering.pipeline import build

        host = {"kind": "llvm"} | ({"mcpu": native_level()} if native_level() != "generic" else {})
        target = tvm.target.Target({"kind": "cuda", "arch": kernels.lowest(self.arch), "host": host})
        with _source_only():
            return build(module, target, schedule())

    def runner(self, artifact: Artifact) -> Runner:
        """Load the artifact; `MissingError` without a GPU, or on a card that it was not built for."""
        program, manifest = artifact.manifest["program"], artifact.manifest
        if program["kind"] == "island":
            return vm.WholeIsland(artifact.model, manifest["inputs"])
        check_processor(program)
        capability = gpu_capability()
        module = kernels.load(artifact.folder, self.arch, capability) if program["kernels"] else None
        specs = (manifest["inputs"], manifest["outputs"])
        return vm.Program(artifact.folder, specs, program["islands"], "cuda", module)


@contextmanager
def _source_only() -> Iterator[None]:
    """Let TVM leave kernels as CUDA source: where it finds a GPU, it would compile them for that one."""
    name = "TVM_COMPILE_FORCE_FALLBACK"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _device_module(executable: Any) -> Any:
    """TVM's CUDA module inside a compiled program, or None where no kernel was needed."""
    for library in executable.mod.imports:
        for module in library.imports:
            if module.kind == "cuda":
                return module
    return None


def gpu_capability() -> int:
    """Compute capability of GPU 0, times ten; `MissingError` where there is none that TVM can use."""
    import tvm

    try:
        device = tvm.device("cuda")
        version = str(device.compute_version) if device.exist else ""
    except Exception:  # TVM raises its own internal error where the CUDA runtime is missing
        version = ""
    if not version:
        raise MissingError(
            "no NVIDIA GPU with its driver was found on this machine; run the artifact where one is"
        )
    major, _, minor = version.partition(".")
    return int(major) * 10 + int(minor or 0)
