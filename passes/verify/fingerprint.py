"""A hash of a model's content, the same however its tensors are stored."""

from __future__ import annotations

import hashlib

import onnx

from optc.models import storage
from optc.models.model import Model


def fingerprint(model: Model) -> str:
    """SHA-256 of the graph as it stands in memory, whatever `model.changed` says.

    A tensor counts by dtype, shape and values, so that loading a lazy tensor changes nothing.
    """
    changed = model.changed
    _ = model.view  # the graph has to exist before it can be exported
    model.changed = True
    try:
        proto = model.to_proto(embed=False)
    finally:
        model.changed = changed
    for tensor in storage.tensors_of(proto):
        _digest(tensor, model)
    return hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()


def _digest(tensor: onnx.TensorProto, model: Model) -> None:
    """Replace the tensor's data by its hash; the documentation of a tensor does not count."""
    if tensor.data_type == onnx.TensorProto.STRING:
        return
    hashed = hashlib.sha256(_content(tensor, model)).digest()
    name, kind, dims = tensor.name, tensor.data_type, list(tensor.dims)
    tensor.Clear()
    tensor.name, tensor.data_type, tensor.raw_data = name, kind, hashed
    tensor.dims.extend(dims)


def _content(tensor: onnx.TensorProto, model: Model) -> bytes:
    if storage.is_external(tensor):
        return storage.external_bytes(tensor, model.folder).tobytes()
    if tensor.HasField("raw_data"):
        return tensor.raw_data
    return onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)).raw_data
