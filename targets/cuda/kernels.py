"""The GPU part of a program: one cubin an architecture, PTX for newer cards, and how kernels are launched.

TVM writes a CUDA module as three parts: the format ("cubin", "ptx", or "cuda" for source), a table of the
kernels with their launch parameters, and the code. The table is the same whatever the code was compiled
for; it is kept as TVM's own bytes.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from optc.models.errors import InputError, MissingError
from optc.targets.cuda.nvrtc import compile_cuda

TABLE = "kernels.table"
PTX = "kernels.ptx"


def cubin_name(arch: str) -> str:
    """The file of the cubin for `arch`, such as kernels.sm_80.cubin."""
    return f"kernels.{arch}.cubin"


def save(module: Any, archs: tuple[str, ...], folder: Path) -> None:
    """Compile the CUDA source in TVM's `module` for each of `archs` and write the files into `folder`."""
    source = module.inspect_source("cuda")
    table = _table(module, source)
    (folder / TABLE).write_bytes(table)
    for arch in archs:
        (folder / cubin_name(arch)).write_bytes(compile_cuda(source, arch))
    (folder / PTX).write_bytes(compile_cuda(source, lowest(archs), ptx=True))


def lowest(archs: tuple[str, ...]) -> str:
    """The architecture with the lowest compute capability."""
    return min(archs, key=capability)


def capability(arch: str) -> int:
    """The compute capability of `arch` times ten: 80 for sm_80; `InputError` where it is no such name."""
    digits = arch.removeprefix("sm_")
    if not arch.startswith("sm_") or not digits.isdigit():
        raise InputError(f"--arch {arch}: not of the form sm_80")
    return int(digits)


def load(folder: Path, archs: tuple[str, ...], device: int) -> Any:
    """The kernels for a card of compute capability `device` (times ten) as a TVM module.

    A cubin runs on its own architecture and on later ones of the same generation (first digit); otherwise
    the PTX is compiled by the driver. `MissingError` where the card is older than all of `archs`.
    """
    import tvm_ffi

    same = [a for a in archs if capability(a) // 10 == device // 10 and capability(a) <= device]
    table = (folder / TABLE).read_bytes()
    if same:
        best = max(same, key=capability)
        data = _string(b"cubin") + table + _string((folder / cubin_name(best)).read_bytes())
    elif capability(lowest(archs)) < device:
        data = _string(b"ptx") + table + _string((folder / PTX).read_bytes())
    else:
        raise MissingError(
            f"the artifact was built for {', '.join(archs)}, this GPU is sm_{device}; "
            f"compile the model with --arch sm_{device}"
        )
    return tvm_ffi.get_global_func("ffi.Module.load_from_bytes.cuda")(data)


def _table(module: Any, source: str) -> bytes:
    """The table of kernels out of TVM's serialized form of `module`: key, size, format, table, code."""
    import tvm_ffi

    packed = tvm_ffi.get_global_func("runtime.ModulePackImportsToTensor")(module).numpy().tobytes()
    code = _string(source.encode())
    key, kind = _string(b"cuda"), _string(b"cuda")
    start = packed.find(key) + len(key) + 8
    end = packed.rfind(code)
    if not packed.startswith(kind, start) or end < 0:
        raise RuntimeError("TVM's serialized CUDA module has another form than the one optc knows")
    return bytes(packed[start + len(kind) : end])


def _string(data: bytes) -> bytes:
    """As TVM writes a string: its length as uint64, little endian, then the bytes."""
    return struct.pack("<Q", len(data)) + data
