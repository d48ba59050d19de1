"""Running a model in ONNX Runtime: what a transform is compared with."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.data import LABEL, Member, Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.small_floats import BFLOAT16, FLOAT16, mentions, with_float32_nodes
from optc.models.storage import PROTOBUF_LIMIT

Arrays = dict[str, NDArray[Any]]


class Session:
    """A model in ONNX Runtime on the CPU.

    `optimize=False` (default) turns graph optimizations off, so that what runs is the graph as written. Nodes
    of 16-bit floats compute in float32 then, and their results are rounded; those of bfloat16 always do.
    `threads=0`: as many as OMP_NUM_THREADS says, or else as the machine has cores.
    """

    def __init__(self, model: Model, optimize: bool = False, threads: int = 0) -> None:
        """Open the model; `InputError` with ONNX Runtime's own reason where it refuses it."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads or _usual_threads()
        level = ort.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
        try:
            self._session = self._open(model, options, optimize)
        except Exception as error:
            raise InputError(f"model '{model.name}': ONNX Runtime refuses it: {first_line(error)}") from error
        self.inputs = {i.name: i for i in self._session.get_inputs()}
        """ONNX Runtime's description of each input: `.type`, `.shape`."""
        self.outputs = [o.name for o in self._session.get_outputs()]

    @staticmethod
    def _open(model: Model, options: Any, optimize: bool) -> Any:
        import onnxruntime as ort

        providers = ["CPUExecutionProvider"]
        if model.stored_bytes() < PROTOBUF_LIMIT // 2:
            proto = model.to_proto()
            kinds = [BFLOAT16] if optimize else [BFLOAT16, FLOAT16]
            if mentions(proto, kinds):
                proto = with_float32_nodes(proto, kinds)
            return ort.InferenceSession(proto.SerializeToString(), options, providers)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            model.save(path, external=True)
            return ort.InferenceSession(str(path), options, providers)

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> Arrays:
        """Run once; `feeds` by input name. Returns arrays by output name (`InputError` on bad feeds)."""
        names = list(outputs) if outputs is not None else self.outputs
        wanted = {k: v for k, v in feeds.items() if k in self.inputs}
        try:
            return dict(zip(names, self._session.run(names, wanted), strict=True))
        except Exception as error:
            raise InputError(f"ONNX Runtime failed: {first_line(error)}") from error


def _usual_threads() -> int:
    """What OMP_NUM_THREADS says, which ONNX Runtime does not read; 0 where it says nothing."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdigit() else 0


def first_line(error: BaseException) -> str:
    """The first line of an exception's text: messages to the user are one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def check_feeds(model: Model, members: Mapping[str, Member], where: str) -> list[str]:
    """The model's input names, once `members` (shapes with the batch first) are known to fit them.

    Raises `InputError` naming the input, what it needs and what was given, or an array that is no input
    (labels aside).
    """
    names: list[str] = []
    for tensor in model.view.inputs:
        if tensor.name not in members:
            have = ", ".join(k for k in members if k != LABEL) or "none"
            raise InputError(f"{where}: has no array for the input '{tensor.name}' (it has {have}); add it")
        member = members[tensor.name]
        dtype = None if tensor.dtype is None or isinstance(tensor.dtype, int) else np.dtype(tensor.dtype)
        if dtype not in (None, member.dtype):
            raise InputError(f"{where}: array '{tensor.name}' is {member.dtype}, the input takes {dtype}")
        _check_shape(tensor.name, tensor.shape, member.shape, where)
        names.append(tensor.name)
    for name in members:
        if name not in names and name != LABEL:
            takes = ", ".join(names) or "none"
            raise InputError(f"{where}: array '{name}' is no input of the model (it takes {takes}); drop it")
    return names


def check_files(model: Model, samples: Samples, what: str = "") -> list[str]:
    """The model's input names, once every file of `samples` is known to fit them (`InputError`).

    `what` the samples are for begins the message.
    """
    return [check_feeds(model, f.members, f"{what} {f.path}".lstrip()) for f in samples.files][0]


def _check_shape(name: str, wanted: Sequence[Any] | None, given: tuple[int, ...], where: str) -> None:
    if wanted is None:
        return
    fits = len(wanted) == len(given) and all(
        not isinstance(w, int) or w == g for w, g in list(zip(wanted, given, strict=False))[1:]
    )
    if not fits:
        text = "[" + ", ".join(str(w) for w in wanted) + "]"
        raise InputError(f"{where}: array '{name}' has shape {list(given)}, the input takes {text}")
