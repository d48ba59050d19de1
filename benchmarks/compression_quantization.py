"""The part `quantization`: accuracy of ours, ONNX Runtime's and onnxsim's int8 networks."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import compression_onnxsim
import numpy as np
from compression_measure import Folders, Row, Rows, say, snr
from compression_onnxsim_methods import QUANTIZERS
from compression_peers import ACTIVATIONS, METHODS, quantize_static
from compression_tasks import NETWORKS, Task, open_task
from numpy.typing import NDArray

from optc.models.errors import OptcError
from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.pipeline import Pipeline
from optc.passes.registry import parse_passes
from optc.passes.verify.metrics import paired_test

OURS = {
    "nearest": "quantize",
    "learnt": "quantize{weights=learnt,calibration=mse}",
    "learnt, percentile": "quantize{weights=learnt,calibration=percentile,percentile=99.999}",
    "nearest, pow2": "quantize{scales=pow2}",
    "learnt, pow2": "quantize{weights=learnt,scales=pow2,calibration=mse}",
}

COMPARED = ("optc nearest", "optc learnt", "optc learnt, percentile")
"""Of these the one that is right most often is compared with the peers."""

INT8 = 0.9
"""The share of layers' weights that a result must hold in 8 bits to count as int8."""

PEERS = ("onnxruntime", "onnxsim")

WORKERS = 2
"""How many of onnxsim's methods run at once."""

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_ROUNDS_ACTIVATIONS = ("QuantizeLinear", "DynamicQuantizeLinear")


def quantization(folders: Folders) -> Rows:
    """Every network by every setting, on the same calibration samples; then a paired test with each peer."""
    for name in NETWORKS:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                yield from _network(open_task(name, folders, Path(scratch)))
            except OptcError as error:
                yield {"part": "quantization", "network": name, "setting": "", "error": str(error)}


def _network(task: Task) -> Rows:
    wanted = task.result(task.model)
    rows: dict[str, Row] = {}
    found = settings(task)
    with ThreadPoolExecutor(WORKERS) as pool:  # onnxsim's run in processes of their own
        waiting = {key: pool.submit(make) for key, make in found.items() if key.startswith("onnxsim")}
        for key, make in found.items():
            row = rows[key] = {"part": "quantization", "network": task.name, "setting": key}
            start = time.perf_counter()
            _judge(task, wanted, row, waiting[key].result if key in waiting else make)
            say(f"{task.name} {key}: {time.perf_counter() - start:.0f} s {row.get('error', '')}")
    yield from ({k: v for k, v in row.items() if k != "right"} for row in rows.values())
    yield from _paired(task, rows)


def _judge(task: Task, wanted: NDArray[np.float32], row: Row, make: Callable[[], Model]) -> None:
    """Make the int8 network of `row`, and judge it."""
    try:
        made = make()
        row |= {"int8": round(int8_share(task.model, made), 3), **_judged(task, wanted, made)}
    except Exception as error:  # a failure is a row, too
        row["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]


def settings(task: Task) -> Mapping[str, Callable[[], Model]]:
    """What makes each int8 network, by its name."""
    found: dict[str, Callable[[], Model]] = {
        f"optc {name}": partial(_ours, task, text) for name, text in OURS.items()
    }
    for method in METHODS:
        for activations in ACTIVATIONS:
            static = partial(quantize_static, task.model, task.samples, method, activations)
            found[f"onnxruntime {method} {activations}"] = static
            if task.name == "minilm":  # by default it quantizes the mask's -10000, and all accuracy goes
                found[f"onnxruntime {method} {activations}, MatMul only"] = partial(static, ["MatMul"])
    for name in QUANTIZERS:
        found[f"onnxsim {name}"] = partial(compression_onnxsim.apply, name, task.model, task.samples)
    return found


def _ours(task: Task, text: str) -> Model:
    model = task.model.copy()
    Pipeline(parse_passes(text)).run(model, Context(calibration=task.samples))
    return model


def int8_share(before: Model, after: Model) -> float:
    """The share of the weights of Conv, Gemm and MatMul that `after` does not read as floats."""
    if not any(n.op in _ROUNDS_ACTIVATIONS for n in after.view.nodes):
        return 0.0
    return 1 - _float_weights(after) / _float_weights(before)


def _float_weights(model: Model) -> int:
    read = {id(t): t for n in model.view.nodes if n.op in _LAYERS for t in n.inputs if hasattr(t, "values")}
    weights = [t.values for t in read.values() if len(t.shape) >= 2]
    return sum(w.size for w in weights if w.dtype.kind == "f")


def _judged(task: Task, wanted: NDArray[np.float32], model: Model) -> Row:
    """What the tests say of a model; `right`: which of them it decides rightly."""
    result = task.result(model)
    labelled = task.labels is not None
    right = task.right(result, wanted)
    return {
        "snr": snr(wanted, result),
        "agreement": round(float(np.mean(task.decide(result) == task.decide(wanted))), 4),
        "top1": round(float(right.mean()), 4) if labelled else None,
        "float_top1": round(float(task.right(wanted, wanted).mean()), 4) if labelled else None,
        "right": right,
    }


def _paired(task: Task, rows: Mapping[str, Row]) -> Rows:
    """Our best beside each peer's best: of those that are right equally often the one of the best SNR."""

    def best(keys: list[str]) -> str | None:
        able = [k for k in keys if "right" in rows.get(k, {}) and rows[k]["int8"] >= INT8]
        return max(able, key=lambda k: (rows[k]["right"].sum(), rows[k]["snr"]), default=None)

    ours = best(list(COMPARED))
    for peer in PEERS:
        theirs = best([k for k in rows if k.startswith(peer)])
        if ours is None or theirs is None:
            error = "no int8 network to compare with"
            yield {"part": "paired", "network": task.name, "setting": peer, "error": error}
            continue
        right = [rows[ours]["right"], rows[theirs]["right"]]
        yield {
            "part": "paired",
            "network": task.name,
            "setting": f"{ours}, and {theirs}",
            "peer": peer,
            "right": [int(r.sum()) for r in right],
            "of": len(right[0]),
            "snr": [rows[ours]["snr"], rows[theirs]["snr"]],
            "p": round(paired_test(right[1], right[0]), 4),
        }
