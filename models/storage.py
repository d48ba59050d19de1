"""Reading and writing `.onnx` files, with external data that is memory-mapped and never leaves its folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx_graphsurgeon.ir.tensor import LazyValues

from optc.models.errors import InputError

PROTOBUF_LIMIT = 2**31 - 1
"""Bytes: no protobuf message can be larger."""

EXTERNAL_THRESHOLD = 1024
"""Bytes: smaller tensors stay inside the `.onnx` file."""

_ALIGNMENT = 4096
"""Bytes: each external tensor starts on a page, so that it can be memory-mapped alone."""


class ExternalValues(LazyValues):  # type: ignore[misc]
    """A tensor's values in an external file, memory-mapped on first use (read only)."""

    def __init__(self, tensor: onnx.TensorProto, folder: Path) -> None:
        super().__init__(tensor)
        self.folder = folder

    def load(self) -> NDArray[Any]:
        """The values as an array of the tensor's dtype and shape; packed 4-bit types are unpacked."""
        data = external_bytes(self.tensor, self.folder)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self.tensor.data_type)
        if dtype.itemsize * int(np.prod(self.tensor.dims, dtype=np.int64)) == data.size:
            return data.view(dtype).reshape(tuple(self.tensor.dims))
        return onnx.numpy_helper.to_array(embed(self.tensor, self.folder))


def read_proto(path: Path) -> onnx.ModelProto:
    """Parse `path` without its external data; `InputError` on anything that is not an ONNX model."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give the path of an .onnx file"
        ) from error
    if not data:
        raise InputError(f"{path}: the file is empty; give an ONNX model")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise InputError(f"{path}: not an ONNX file, or cut short; export or copy it again") from error
    return proto


def check_proto(proto: onnx.ModelProto, where: str) -> None:
    """Refuse what cannot be a usable model: no graph, no or unknown IR version, unknown opset."""
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise InputError(f"{where}: holds no ONNX graph; export or copy it again")
    if not 1 <= proto.ir_version <= onnx.IR_VERSION:
        raise InputError(
            f"{where}: IR version {proto.ir_version} is not one of 1 to {onnx.IR_VERSION}; "
            "export it again for a current ONNX, or update onnx"
        )
    newest = onnx.defs.onnx_opset_version()
    versions = [o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")]
    if not proto.opset_import and proto.ir_version >= 3:
        raise InputError(f"{where}: names no opset; export it again with an opset of at most {newest}")
    for version in versions:
        if not 1 <= version <= newest:
            raise InputError(
                f"{where}: opset {version} is unknown to onnx {onnx.__version__} (1 to {newest}); "
                "export it for a known opset, or update onnx"
            )


def tensors_of(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that can hold data: initializers and attributes, in subgraphs and functions too."""
    yield from _graph_tensors(proto.graph)
    for function in proto.functions:
        yield from _node_tensors(function.node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Any) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for graph in [attribute.g, *attribute.graphs] if attribute.HasField("g") else attribute.graphs:
                yield from _graph_tensors(graph)


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's bytes lie in another file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def _location(tensor: onnx.TensorProto, folder: Path) -> tuple[Path, int, int | None]:
    """File, offset and length in bytes of an external tensor; `InputError` where it leaves the folder."""
    entries = {e.key: e.value for e in tensor.external_data}
    location = entries.get("location", "")
    path = (folder / location).resolve()
    if not location or not path.is_relative_to(folder.resolve()):
        raise InputError(
            f"tensor '{tensor.name}': external data '{location}' lies outside the model's folder {folder}; "
            "move the data beside the model"
        )
    try:
        offset = int(entries.get("offset", "0") or 0)
        length = int(entries["length"]) if entries.get("length") else None
    except ValueError as error:
        raise InputError(
            f"tensor '{tensor.name}': offset or length of its external data is no number"
        ) from error
    return path, offset, length


def check_external(proto: onnx.ModelProto, folder: Path) -> None:
    """`InputError` where external data is missing, outside the folder, or past the end of its file."""
    for tensor in tensors_of(proto):
        if is_external(tensor):
            path, offset, length = _location(tensor, folder)
            if not path.is_file():
                raise InputError(
                    f"tensor '{tensor.name}': its external data {path} is missing; copy it there"
                )
            needed = byte_size(tensor) if length is None else length
            if needed != byte_size(tensor):
                raise InputError(
                    f"tensor '{tensor.name}': its external data has {needed} bytes where its shape "
                    f"{list(tensor.dims)} needs {byte_size(tensor)}; export the model again"
                )
            if offset < 0 or offset + needed > path.stat().st_size:
                raise InputError(
                    f"tensor '{tensor.name}': bytes {offset} to {offset + needed} lie past the end of {path} "
                    f"({path.stat().st_size} bytes); the file is cut short, copy it again"
                )


def byte_size(tensor: onnx.TensorProto) -> int:
    """Bytes of the tensor's data, from its dtype and shape (4-bit and 2-bit types packed)."""
    proto = onnx.TensorProto
    if tensor.data_type in (proto.STRING, proto.UNDEFINED):
        return sum(len(s) for s in tensor.string_data)
    count = int(np.prod(tensor.dims, dtype=np.int64))
    if tensor.data_type in (proto.INT4, proto.UINT4, proto.FLOAT4E2M1, proto.INT2, proto.UINT2):
        per_byte = 4 if tensor.data_type in (proto.INT2, proto.UINT2) else 2
        return (count + per_byte - 1) // per_byte
    return count * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def external_bytes(tensor: onnx.TensorProto, folder: Path) -> NDArray[np.uint8]:
    """The raw bytes of an external tensor as a read-only memory map, shape (bytes,), uint8."""
    path, offset, _ = _location(tensor, folder)
    size = byte_size(tensor)
    if size == 0:
        return np.zeros(0, np.uint8)
    try:
        return np.memmap(path, np.uint8, "r", offset, (size,))
    except (OSError, ValueError) as error:
        raise InputError(
            f"tensor '{tensor.name}': its external data {path} cannot be read ({error})"
        ) from error


def embed(tensor: onnx.TensorProto, folder: Path) -> onnx.TensorProto:
    """A copy of an external tensor with its bytes inside."""
    inside = onnx.TensorProto()
    inside.CopyFrom(tensor)
    inside.ClearField("external_data")
    inside.ClearField("data_location")
    inside.raw_data = external_bytes(tensor, folder).tobytes()
    return inside


class DataFile:
    """Appends tensors to one external data file and hands back tensors that point into it."""

    def __init__(self, stream: IO[bytes], location: str) -> None:
        self._stream = stream
        self._location = location

    def add(self, tensor: onnx.TensorProto, folder: Path) -> onnx.TensorProto:
        """Append the tensor's data, which may be external to `folder`; return a tensor that points at it.

        Small tensors, and those whose type has no raw form (strings), come back with their data inside.
        """
        if tensor.data_type == onnx.TensorProto.STRING:
            return tensor
        if byte_size(tensor) < EXTERNAL_THRESHOLD:
            return embed(tensor, folder) if is_external(tensor) else tensor
        self._stream.write(b"\0" * (-self._stream.tell() % _ALIGNMENT))
        offset = self._stream.tell()
        self._stream.write(external_bytes(tensor, folder).data if is_external(tensor) else _raw(tensor))
        outside = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        outside.doc_string = tensor.doc_string
        outside.metadata_props.extend(tensor.metadata_props)
        outside.data_location = onnx.TensorProto.EXTERNAL
        length = self._stream.tell() - offset
        for key, value in (("location", self._location), ("offset", offset), ("length", length)):
            outside.external_data.add(key=key, value=str(value))
        return outside


def _raw(tensor: onnx.TensorProto) -> bytes:
    if tensor.HasField("raw_data"):
        return bytes(tensor.raw_data)
    typed = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor))
    return bytes(typed.raw_data)


@contextmanager
def write_beside(path: Path) -> Iterator[IO[bytes]]:
    """A stream that becomes `path` by a rename if all goes well, and leaves nothing behind if not.

    A device or a pipe, such as /dev/null, is written to and never replaced. `InputError` where `path` cannot
    be written.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the path of a file to write")
    special = path.exists() and not path.is_file()
    try:
        with _direct(path) if special else _renamed(path) as stream:
            yield stream
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); free space or choose another path"
        ) from error


@contextmanager
def _direct(path: Path) -> Iterator[IO[bytes]]:
    with path.open("wb") as stream:
        yield stream


@contextmanager
def _renamed(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` whole or not at all."""
    with write_beside(path) as stream:
        stream.write(data)


Sink = Callable[[onnx.TensorProto], onnx.TensorProto]
"""Takes a tensor that may be external to the source file; returns the tensor to store."""
