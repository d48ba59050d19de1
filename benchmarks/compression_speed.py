"""The part `speed`: latency in ONNX Runtime, one thread, of ours and of what `quantize_static` writes.

Calibration changes scales, not the graph: one method of it stands for all.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from compression_measure import Folders, Rows, latencies, say
from compression_quantization import settings
from compression_tasks import NETWORKS, Task, open_task

from optc.models.errors import OptcError
from optc.models.model import Model

OURS = ("optc nearest", "optc learnt")
PEERS = "onnxruntime MinMax"


def speed(folders: Folders) -> Rows:
    """Every network, all models in turn; for a quiet machine."""
    for name in NETWORKS:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                yield from _network(open_task(name, folders, Path(scratch)))
            except OptcError as error:
                yield {"part": "speed", "network": name, "setting": "", "error": str(error)}


def _network(task: Task) -> Rows:
    made: dict[str, Model] = {}
    for key, make in settings(task).items():
        if key not in OURS and not key.startswith(PEERS):
            continue
        say(f"{task.name} {key}")
        try:
            made[key] = make()
        except Exception as error:  # a failure is a row, too
            text = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            yield {"part": "speed", "network": task.name, "setting": key, "error": text}
    first, *times = latencies([task.model, *made.values()], [task.feed] * (len(made) + 1))
    for key, found in zip(made, times, strict=True):
        yield {
            "part": "speed",
            "network": task.name,
            "setting": key,
            "milliseconds": round(found, 3),
            "of_float": round(found / first, 3),
        }
