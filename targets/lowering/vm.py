"""Relax VM programs as files, and running them: bytecode with the weights, LLVM bitcode, islands.

The bitcode is made machine code when it is loaded, by the LLVM inside TVM: no C toolchain is needed to
build an artifact or to run it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Arrays, Session, first_line
from optc.targets.feeds import Spec, check_arrays
from optc.targets.lowering.lower import Lowered

BYTECODE = "program.vm"
BITCODE = "program.bc"


def save(lowered: Lowered, folder: Path) -> dict[str, str]:
    """Write the program's files into `folder`; returns island file by packed function."""
    islands = {name: f"island_{index}.onnx" for index, name in enumerate(lowered.islands)}
    for name, file in islands.items():
        lowered.islands[name].save(folder / file)
    executable = lowered.executable.mod
    _write(folder / BYTECODE, lambda path: executable.write_to_file(path, ""))
    for library in executable.imports:
        text = library.inspect_source("ll")
        if "\ndefine " in text:
            (folder / BITCODE).write_bytes(_bitcode(text))
    return islands


def _write(path: Path, write: Callable[[str], None]) -> None:
    """Let TVM write into memory and write that ourselves: LLVM aborts the process on a full disk."""
    with _memory_file() as memory:
        write(memory)
        path.write_bytes(Path(memory).read_bytes())


def _bitcode(source: str) -> bytes:
    """An LLVM module's text as bitcode that does not depend on the addresses of this process."""
    import tvm_ffi

    from optc.targets.lowering.stable import stable_ir

    with _memory_file() as text, _memory_file() as bitcode:
        Path(text).write_text(stable_ir(source))
        load = tvm_ffi.get_global_func("ffi.Module.load_from_file.ll")
        load(text, "ll").write_to_file(bitcode, "bc")
        return Path(bitcode).read_bytes()


@contextmanager
def _memory_file() -> Iterator[str]:
    """The path of a file in memory."""
    handle = os.memfd_create("optc")
    try:
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


class Program:
    """A loaded VM program; see `optc.targets.base.Runner`."""

    def __init__(
        self,
        folder: Path,
        specs: tuple[Sequence[Spec], Sequence[Spec]],
        islands: Mapping[str, str],
        device: str = "cpu",
        device_module: Any = None,
        functions: Mapping[str, Callable[..., None]] = MappingProxyType({}),
    ) -> None:
        """Load the files of `folder` for `device` ("cpu" or "cuda").

        `specs`: of the inputs and outputs; `islands`: island file by packed function; `device_module`: the
        compiled kernels of a GPU, imported into the program; `functions`: other packed functions by name.
        """
        import tvm
        import tvm_ffi
        from tvm.runtime.vm import VirtualMachine

        self._inputs, self._outputs = specs
        self.device = device
        self._device = tvm.device(device)
        for name, function in functions.items():
            tvm_ffi.register_global_func(name, function, override=True)
        for name, file in islands.items():
            tvm_ffi.register_global_func(name, _island(Session(Model.load(folder / file))), override=True)
        load = tvm_ffi.get_global_func
        executable = load("ffi.Module.load_from_file.relax.VMExecutable")(str(folder / BYTECODE))
        if (folder / BITCODE).exists():
            library = load("ffi.Module.load_from_file.ll")(str(folder / BITCODE), "bc")
            if device_module is not None:
                library.import_module(device_module)
            executable.import_module(library)
        self._main = VirtualMachine(executable, self._device)["main"]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Outputs by name for inputs by name; `InputError` where a name, dtype or shape does not fit."""
        check_arrays(self._inputs, feeds)
        return {name: value.numpy() for name, value in self._call(feeds).items()}

    def run_on_device(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """`run` without copies to the host: outputs stay on `device`, and inputs may be there (DLPack).

        Returns once the outputs are computed.
        """
        check_arrays(self._inputs, {name: _stand_in(value) for name, value in feeds.items()})
        outputs = self._call(feeds)
        self._device.sync()
        return outputs

    def _call(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """TVM's tensors by the names of the outputs."""
        values = [self._tensor(feeds[s["name"]]) for s in self._inputs]
        try:
            result = self._main(*values)
        except Exception as error:
            raise InputError(f"the program failed on these inputs: {first_line(error)}") from error
        found = [result] if len(self._outputs) == 1 and hasattr(result, "numpy") else list(result)
        return {s["name"]: v for s, v in zip(self._outputs, found, strict=True)}

    def _tensor(self, value: Any) -> Any:
        """An array of the host copied to the device, or a tensor that is there as it is."""
        import tvm
        import tvm_ffi

        if _is_tensor(value):
            return tvm_ffi.from_dlpack(value)
        return tvm.runtime.tensor(np.asarray(value, order="C"), self._device)


def _is_tensor(value: Any) -> bool:
    """Whether it is another library's tensor, and may be on a device."""
    return hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray)


def _stand_in(value: Any) -> NDArray[Any]:
    """An array of a tensor's dtype and shape that takes no memory."""
    if not _is_tensor(value):
        return np.asarray(value)
    dtype = np.dtype(str(value.dtype).removeprefix("torch."))
    return np.broadcast_to(np.empty((), dtype), tuple(value.shape))


class WholeIsland:
    """A model that runs in ONNX Runtime as a whole; see `optc.targets.base.Runner`."""

    def __init__(
        self, model: Model, inputs: Sequence[Spec], optimize: bool = False, threads: int = 0
    ) -> None:
        self._session = Session(model, optimize, threads)
        self._inputs = inputs

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Outputs by name for inputs by name; `InputError` where a name, dtype or shape does not fit."""
        check_arrays(self._inputs, feeds)
        return self._session.run(feeds)


def _island(session: Session) -> Callable[..., None]:
    """A packed function: inputs, then outputs to be written in place, on whatever device they are."""
    names = list(session.inputs)

    def call(*tensors: Any) -> None:
        feeds = {n: t.numpy() for n, t in zip(names, tensors, strict=False)}
        results = session.run(feeds)
        for name, out in zip(session.outputs, tensors[len(names) :], strict=True):
            out.copyfrom(np.asarray(results[name], order="C"))

    return call
