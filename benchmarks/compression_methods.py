"""The part `methods`: what is not static int8 of everything: its accuracy, size and latency."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from compression_measure import Folders, Row, Rows, latencies, say, snr
from compression_tasks import NETWORKS, Task, open_task

from optc.models.errors import OptcError
from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.pipeline import Pipeline
from optc.passes.registry import parse_passes

EVERYWHERE = (
    "convert-floats",
    "upgrade-opset{opset=22},convert-floats{to=bfloat16}",
    "quantize{activations=int16}",
    "quantize{bias=corrected}",
    "quantize{per_channel=false}",
    "equalize,quantize{per_channel=false}",
    "quantize-weights",
    "quantize-weights{bits=4,block=32}",
    "quantize-weights{bits=4,block=32,weights=learnt}",
)
OF_NETWORK = {
    "efficientnet-lite0": ("quantize{min_snr=25.0}", "quantize{min_snr=25.0,fallback=int16}"),
    "minilm": ("quantize-dynamic", "quantize", "equalize{method=smooth,copy=true},quantize"),
}


def methods(folders: Folders) -> Rows:
    """Every network by every pipeline; latency in ONNX Runtime, one thread, one sample."""
    for name in NETWORKS:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                yield from _network(open_task(name, folders, Path(scratch)))
            except OptcError as error:
                yield {"part": "methods", "network": name, "setting": "", "error": str(error)}


def _network(task: Task) -> Rows:
    wanted = task.result(task.model)
    rows: list[Row] = []
    made: list[Model] = []
    for text in (*EVERYWHERE, *OF_NETWORK.get(task.name, ())):
        row: Row = {"part": "methods", "network": task.name, "setting": text}
        rows.append(row)
        start = time.perf_counter()
        try:
            model = task.model.copy()
            Pipeline(parse_passes(text)).run(model, Context(calibration=task.samples))
            row |= _judged(task, wanted, model)
            made.append(model)
        except OptcError as error:
            row["error"] = str(error)[:200]
        say(f"{task.name} {text}: {time.perf_counter() - start:.0f} s {row.get('error', '')}")
    first, *times = latencies([task.model, *made], [task.feed] * (len(made) + 1))
    for row, found in zip((r for r in rows if "error" not in r), times, strict=True):
        row |= {"milliseconds": round(found, 3), "of_float": round(found / first, 3)}
    yield from rows


def _judged(task: Task, wanted: np.ndarray, model: Model) -> Row:
    """Signal to noise, decisions, and the model's size as a share of the float one's."""
    result = task.result(model)
    labels = None if task.labels is None else round(float(task.right(result, wanted).mean()), 4)
    size, full = (len(m.to_proto().SerializeToString()) for m in (model, task.model))
    return {
        "snr": snr(wanted, result),
        "agreement": round(float(np.mean(task.decide(result) == task.decide(wanted))), 4),
        "top1": labels,
        "megabytes": round(size / 1e6, 3),
        "of_size": round(size / full, 3),
    }
