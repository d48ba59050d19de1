"""A model as ONNX text to read: large weights by type and shape only."""

from __future__ import annotations

from typing import IO

import onnx

from optc.models import storage
from optc.models.model import Model
from optc.passes.base import Pass
from optc.passes.pipeline import Snapshot, Step, Watcher

_SHOWN = 128
"""Bytes: larger initializers are shown without their values."""


class PrintWatcher(Watcher):
    """Prints the graph after every pass."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def watch(self, p: Pass, before: Snapshot, after: Model, step: Step) -> None:
        """Print the pass, whether it changed anything, and the graph."""
        print(f"# after {step.text}{'' if step.changed else ' (nothing changed)'}", file=self._stream)
        print(graph_text(after), file=self._stream)


def graph_text(model: Model) -> str:
    """The model in ONNX's text form."""
    proto = model.to_proto(embed=False)
    kept = [t for t in proto.graph.initializer if not _large(t)]
    known = {v.name for v in proto.graph.input}
    for tensor in proto.graph.initializer:
        if _large(tensor) and tensor.name not in known:
            proto.graph.value_info.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return onnx.printer.to_text(proto)


def _large(tensor: onnx.TensorProto) -> bool:
    return storage.is_external(tensor) or storage.byte_size(tensor) > _SHOWN
