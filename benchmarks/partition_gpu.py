"""Ranks on GPUs: whether tensors that go from GPU to GPU by NCCL arrive as those that go through the host.

    python benchmarks/partition_gpu.py            build, run, write results/partition_gpu.json
    python benchmarks/partition_gpu.py --build F  only build into F (no GPU needed)
    python benchmarks/partition_gpu.py --from F   run what was built into F

The bars: in every way of partition, each answer of the ranks on Ray by NCCL equals that of the same parts one
after the other in one process, bit for bit; and when the process of a rank is killed in the middle of a run,
each request is answered once, in order, likewise. Ratios of times: by NCCL and through the host, in turns.

With fewer GPUs than ranks all ranks share the GPUs that there are. NCCL refuses that between processes of a
machine, so each process then says that it is a machine of its own (NCCL_HOSTID), and NCCL goes by sockets:
such times say nothing of NVLink, and the row says `shared`. Exit status 1 where a bar fails, 3 without a GPU.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from common import header, write
from gpu import gpu_name

from optc.models.errors import MissingError, OptcError
from optc.models.model import Model
from optc.models.session import Session
from optc.models.zoo.bert import BertSizes, build_bert_encoder
from optc.passes.partition.partition import Partition
from optc.passes.verify.inputs import generate_runnable
from optc.targets.cluster import gpu_tensors
from optc.targets.cluster.check import local_engine
from optc.targets.cluster.partition import partition
from optc.targets.cluster.plan_folder import PlanFolder
from optc.targets.cluster.ray_engine import RayEngine
from optc.targets.cluster.ray_start import import_ray
from optc.targets.cuda.cuda import gpu_capability

PLANS = {
    "fashion-resnet, 2 stages": ("fashion-resnet", "standard", Partition(stages=2)),
    "fashion-resnet int8, 2 stages": ("fashion-resnet", "standard,quantize", Partition(stages=2)),
    "fashion-resnet, 2 tensor ranks": ("fashion-resnet", "standard", Partition(tensor=2)),
    "encoder, 2 tensor ranks": ("encoder", "standard", Partition(tensor=2)),
    "encoder, 2 stages of 2": ("encoder", "standard", Partition(stages=2, tensor=2)),
    "squeezenet1.1, 2 stages": ("squeezenet1.1", "standard", Partition(stages=2)),
    "squeezenet1.1, 4 stages": ("squeezenet1.1", "standard", Partition(stages=4)),
    "squeezenet1.1, 2 stages, 2 replicas": ("squeezenet1.1", "standard", Partition(stages=2, data=2)),
}
"""The network, the passes, and the way."""

ENCODER = BertSizes(layers=2, hidden=128, heads=4, inner=512, vocabulary=500, positions=64)
SEQUENCE = 64

CLUSTER = """[[device]]
name = "gpu"
count = 4
macs_per_second = 30e12
bytes_per_second = 4e12
memory_bytes = 80_000_000_000
[[link]]
between = ["gpu", "gpu"]
latency_s = 1e-9
bytes_per_second = 450e9
"""
"""GPUs between which nothing takes long, so that work is shared wherever it can be."""

ARCHS = "cuda{arch=[sm_80,sm_90]}"
REQUESTS, ROUNDS = 24, 5

Row = dict[str, Any]
Arrays = dict[str, np.ndarray[Any, Any]]


def build(folder: Path) -> None:
    """A plan for each entry of `PLANS`."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "gpus.toml").write_text(CLUSTER)
    for name, (network, passes, how) in PLANS.items():
        print(f"building {name}", file=sys.stderr)
        model, shapes = _network(network)
        cluster, out = folder / "gpus.toml", folder / name
        partition(model, ARCHS, how, cluster, pipeline=passes, out=out, shapes=shapes)


def _network(name: str) -> tuple[Model | str, list[str]]:
    """A network of the zoo, or the encoder with random weights; and how its free dimensions are bound."""
    if name != "encoder":
        return f"zoo:{name}", []
    model = Model(build_bert_encoder(sizes=ENCODER))
    return model, [f"{info}=1,{SEQUENCE}" for info in ("input_ids", "attention_mask", "token_type_ids")]


@contextmanager
def gpus_for(ranks: int, found: int) -> Iterator[bool]:
    """Ray with a GPU for each rank of two engines; yields whether the ranks of an engine share one.

    Ray takes a list of visible devices that names one more than once as so many devices.
    """
    shared, count = found < ranks, 2 * ranks
    ray = import_ray()
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ):
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(str(n % found) for n in range(count))
        if shared:
            # Python runs this file at the start of every process that finds it.
            Path(folder, "sitecustomize.py").write_text(
                "import os\nos.environ['NCCL_HOSTID'] = str(os.getpid())\n"
            )
            path = [folder, *filter(None, [os.environ.get("PYTHONPATH")])]
            os.environ |= {"PYTHONPATH": os.pathsep.join(path), "NCCL_SOCKET_IFNAME": "lo"}
        ray.init(num_cpus=count, num_gpus=count, include_dashboard=False, log_to_driver=False)
        try:
            yield shared
        finally:
            ray.shutdown()


def run(folder: Path, found: int) -> list[Row]:
    """A row for each plan in `folder`."""
    rows = []
    for name in PLANS:
        print(f"running {name}", file=sys.stderr)
        try:
            rows.append({"plan": name} | _row(PlanFolder.load(folder / name), found))
        except (OptcError, OSError) as error:
            rows.append({"plan": name, "failed": str(error)})
        print(rows[-1], file=sys.stderr)
    return rows


def _row(plan: PlanFolder, found: int) -> Row:
    session = Session(plan.model)
    requests = [generate_runnable(plan.model, session, seed) for seed in range(REQUESTS)]
    expected = list(local_engine(plan).run(requests))
    largest = max(float(np.abs(v).max()) for v in session.run(requests[0]).values())
    whole = session.run(requests[0])
    error = max(float(np.abs(whole[n] - expected[0][n]).max()) for n in whole) / largest
    ranks = len(plan.program.ranks) * plan.replicas
    with gpus_for(ranks, found) as shared:
        row: Row = {"ranks": ranks, "shared": shared, "error_to_onnxruntime": error}
        times: dict[str, list[float]] = {}
        with _engine(plan, nccl=True) as nccl, _engine(plan, nccl=False) as host:
            for _ in range(ROUNDS):
                for way, engine in {"nccl": nccl, "host": host}.items():
                    start = time.perf_counter()
                    wrong = _wrong(engine, requests, expected)
                    times.setdefault(way, []).append((time.perf_counter() - start) / REQUESTS)
                    row[f"wrong_by_{way}"] = row.get(f"wrong_by_{way}", 0) + wrong
            row |= _killed(nccl, requests, expected)
            row["ranks_by_nccl"] = sum(m.nccl for m in nccl.metrics().ranks)
        medians = {way: statistics.median(found) for way, found in times.items()}
        return row | {"seconds": medians, "nccl_over_host": medians["nccl"] / medians["host"]}


@contextmanager
def _engine(plan: PlanFolder, nccl: bool) -> Iterator[RayEngine]:
    """The plan on Ray, its GPU tensors by NCCL or through the host."""
    allowed = gpu_tensors.installed() and nccl
    window = plan.schedule.window(plan.program.stages)
    with patch.object(gpu_tensors, "installed", lambda: allowed):
        engine = RayEngine(plan.folder, plan.program, plan.replicas, window)
    with engine:
        yield engine


def _wrong(engine: RayEngine, requests: list[Arrays], expected: list[Arrays]) -> int:
    """How many answers are not the expected ones, bit for bit."""
    answers = list(engine.run(requests))
    assert len(answers) == len(expected)
    return sum(
        isinstance(answer, OptcError) or any(not np.array_equal(answer[n], right[n]) for n in right)
        for answer, right in zip(answers, expected, strict=True)
    )


def _killed(engine: RayEngine, requests: list[Arrays], expected: list[Arrays]) -> Row:
    """Answers that are not as expected where the last rank's process is killed after the fourth."""
    wrong = 0
    for index, answer in enumerate(engine.run(requests)):
        if index == 3:
            os.kill(engine.metrics().ranks[-1].process, signal.SIGKILL)
        right = expected[index]
        wrong += isinstance(answer, OptcError) or any(not np.array_equal(answer[n], right[n]) for n in right)
    restarts = engine.metrics().restarts
    return {"wrong_after_a_kill": wrong, "answered": index + 1, "restarts": restarts}


def main() -> int:
    """Run as the module's docstring says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", type=Path, metavar="FOLDER")
    parser.add_argument("--from", type=Path, metavar="FOLDER", dest="source")
    options = parser.parse_args()
    if options.build:
        build(options.build)
        return 0
    try:
        gpu_capability()
    except MissingError as error:
        print(f"partition_gpu: {error}", file=sys.stderr)
        return error.exit_status
    import torch

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.source or Path(temporary)
        if not options.source:
            build(folder)
        rows = run(folder, torch.cuda.device_count())
    right = all(r.get("wrong_by_nccl") == 0 and r["ranks_by_nccl"] == r["ranks"] for r in rows)
    survived = all(r.get("wrong_after_a_kill") == 0 and r["answered"] == REQUESTS for r in rows)
    bars = {"by NCCL as in one process": right, "killed ranks lose nothing": survived}
    packages = ("optc", "ray", "torch", "cupy-cuda13x", "apache-tvm", "onnxruntime", "numpy")
    write("partition_gpu", header(packages, {"inputs": 0}) | {"gpu": gpu_name()}, rows, bars)
    print(bars)
    return int(not all(bars.values()))


if __name__ == "__main__":
    sys.exit(main())
