"""CUDA C++ to cubins and PTX by NVRTC and NVIDIA's headers, both from pip: no CUDA toolkit, no GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optc.models.errors import InputError, MissingError

EXTRA = "pip install 'optc[cuda]'"


def bindings() -> Any:
    """The module `cuda.bindings.nvrtc`; `MissingError` where the extra `cuda` is not installed."""
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError) as error:
        raise MissingError(f"CUDA code needs NVRTC, which is not installed; run: {EXTRA}") from error
    return nvrtc


def include_folders() -> list[Path]:
    """Where pip put the CUDA headers; `MissingError` where they are not installed."""
    try:
        import nvidia
    except ImportError as error:
        raise MissingError(
            f"CUDA code needs NVIDIA's headers, which are not installed; run: {EXTRA}"
        ) from error
    for root in nvidia.__path__:
        for folder in sorted(Path(root).glob("cu*/include"), reverse=True):
            if (folder / "cuda_fp16.h").is_file() and (folder / "cccl/cuda/std/cstdint").is_file():
                return [folder, folder / "cccl"]
    raise MissingError(f"CUDA code needs NVIDIA's headers, which are not installed; run: {EXTRA}")


def check_arch(arch: str) -> None:
    """`InputError` where NVRTC does not compile for `arch` (such as sm_80)."""
    _, known = bindings().nvrtcGetSupportedArchs()
    names = [f"sm_{a}" for a in known]
    if arch not in names:
        raise InputError(f"--arch {arch}: NVRTC knows {', '.join(names)}; take one of these")


def compile_cuda(source: str, arch: str, ptx: bool = False) -> bytes:
    """`source` as a cubin for `arch` (such as sm_80), or as PTX for that compute capability and later.

    Raises `MissingError` without the extra `cuda`, `RuntimeError` where the source does not compile.
    """
    nvrtc = bindings()
    kind = "compute" if ptx else "sm"
    options = [f"--gpu-architecture={kind}_{arch.removeprefix('sm_')}", "-default-device", "--device-int128"]
    options += [f"-I{folder}" for folder in include_folders()]
    status, program = nvrtc.nvrtcCreateProgram(source.encode(), b"kernels.cu", 0, None, None)
    _check(nvrtc, status, "cannot start")
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [o.encode() for o in options])
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        log = _read(nvrtc, program, "ProgramLog").decode(errors="replace").strip("\0\n ")
        raise RuntimeError(f"NVRTC refuses the generated code: {log.splitlines()[0] if log else status}")
    binary: bytes = _read(nvrtc, program, "PTX" if ptx else "CUBIN")
    nvrtc.nvrtcDestroyProgram(program)
    return binary


def _read(nvrtc: Any, program: Any, what: str) -> bytes:
    status, size = getattr(nvrtc, f"nvrtcGet{what}Size")(program)
    _check(nvrtc, status, f"has no {what}")
    buffer: bytes = b" " * size
    (status,) = getattr(nvrtc, f"nvrtcGet{what}")(program, buffer)
    _check(nvrtc, status, f"has no {what}")
    return buffer


def _check(nvrtc: Any, status: Any, what: str) -> None:
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(f"NVRTC {what}: {status}")
