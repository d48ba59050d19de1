"""What the partition benchmark cuts: seven networks, made graphs of 10,000 nodes, clusters of sixteen."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import onnx

from optc.models.model import Model
from optc.models.zoo.gpt import GptSizes, build_gpt_decoder
from optc.models.zoo.registry import zoo_entry
from optc.passes.base import Context
from optc.passes.bind_shapes import BindShapes
from optc.passes.partition.cluster import Cluster, Device, Link, load_cluster
from optc.passes.partition.problem import Item, Problem, Value, Weight

SEQUENCE = 128


def _gpt() -> onnx.ModelProto:
    return build_gpt_decoder(GptSizes(layers=48, hidden=768, heads=12))


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "resnet50": lambda: zoo_entry("resnet50-v1").build(),
    "mobilenet-v2": lambda: zoo_entry("mobilenet-v2").build(),
    "bert-encoder": lambda: zoo_entry("bert-encoder").build(),
    "gpt-decoder-48x768": _gpt,
    "inception": lambda: zoo_entry("inception").build(),
    "unet": lambda: zoo_entry("unet").build(),
    "squeezenet1.1": lambda: zoo_entry("squeezenet1.1").build(),
}
"""As they come from the zoo, not optimized; squeezenet1.1 must have been fetched."""


def bound_model(proto: onnx.ModelProto, batch: int) -> Model:
    """The model at a batch, and at a sequence of `SEQUENCE` where it has one."""
    model = Model(proto)
    held = {tensor.name for tensor in proto.graph.initializer}
    free = {"N": batch, "batch": batch, "sequence": SEQUENCE}
    shapes = []
    for value in proto.graph.input:
        if value.name not in held:
            dims = [d.dim_value or free[d.dim_param] for d in value.type.tensor_type.shape.dim]
            shapes.append(f"{value.name}={','.join(map(str, dims))}")
    BindShapes(tuple(shapes)).run(model, Context())
    return model


def clusters() -> list[tuple[Cluster, int]]:
    """Sixteen devices each, and the batch they get: boards, sockets, busy GPUs, idle GPUs."""
    gpus = load_cluster("h200-2x8")
    return [(_sixteen("vta-4-boards"), 1), (_sixteen("cpu-2-sockets"), 1), (gpus, 32), (gpus, 1)]


def _sixteen(preset: str) -> Cluster:
    """Sixteen of the preset's devices, each linked to each as its first two are."""
    of = load_cluster(preset)
    link = of.link(of.devices[0].name, of.devices[1].name)
    return _equal(f"{preset}, 16 of them", of.devices[0], link)


def _equal(name: str, device: Device, link: Link) -> Cluster:
    devices = tuple(replace(device, name=f"d{i}") for i in range(16))
    names = [d.name for d in devices]
    return Cluster(name, devices, {(a, b): link for i, a in enumerate(names) for b in names[i + 1 :]})


def unequal() -> Cluster:
    """Eight sockets, and eight that are half as fast: every other one."""
    on = _sixteen("cpu-2-sockets")
    slow = [
        replace(d, macs_per_second=d.macs_per_second / 2, bytes_per_second=d.bytes_per_second / 2)
        for d in on.devices
    ]
    devices = tuple(slow[i] if i % 2 else d for i, d in enumerate(on.devices))
    return Cluster("cpu-2-sockets, 8 of them and 8 half as fast", devices, on.links)


LARGE = {"near": 30, "far": 1000, "tight memory": 30}
"""The made graphs: how far back an edge reaches at most."""


def large_graph(reach: int, seed: int, size: int = 10_000) -> Problem:
    """Items of exponentially distributed seconds (mean 10 us) with one to three inputs from up to `reach`
    items before, values of 1 to 100 kB, and weights of up to 1 MB each.
    """
    draw = random.Random(seed)
    items = tuple(Item(f"i{i}", draw.expovariate(1e5)) for i in range(size))
    readers: list[list[int]] = [[] for _ in range(size)]
    for place in range(1, size):
        inputs = draw.choice((1, 1, 1, 2, 3))
        for source in {draw.randrange(max(0, place - reach), place) for _ in range(inputs)}:
            readers[source].append(place)
    values = tuple(
        Value(f"v{i}", i, tuple(r), draw.randrange(10**3, 10**5), not r) for i, r in enumerate(readers)
    )
    return Problem(items, values, tuple(Weight(f"w{i}", (i,), draw.randrange(10**6)) for i in range(size)))


def large_cluster(memory: int) -> Cluster:
    """Sixteen equal devices, links of 10 us and 10 GB/s."""
    return _equal("sixteen equal devices", Device("", 1e12, 1e12, memory), Link(1e-5, 1e10))
