"""The devices of a cluster as replicas × stages × tensor-parallel groups, and the links between those."""

from __future__ import annotations

from collections.abc import Sequence

from optc.models.errors import InputError
from optc.passes.partition.cluster import Cluster, Device, Link


def check_mesh(cluster: Cluster, data: int, stages: int, tensor: int) -> None:
    """`InputError` where a degree is below 1 or the cluster has too few devices."""
    for name, degree in (("data", data), ("stages", stages), ("tensor", tensor)):
        if degree < 1:
            raise InputError(f"partition: {name}={degree}: there must be at least 1")
    need = data * stages * tensor
    if need > len(cluster.devices):
        raise InputError(
            f"partition: data={data} × stages={stages} × tensor={tensor} takes {need} devices, cluster "
            f"'{cluster.name}' has {len(cluster.devices)}; give a smaller degree or a larger cluster"
        )


def stage_cluster(cluster: Cluster, data: int, stages: int, tensor: int) -> Cluster:
    """A device and links for each stage, as slow as the slowest that replicas and groups have there.

    Rank t of a stage talks to rank t of another.
    """
    groups = [_members(cluster, data, stages, tensor, stage) for stage in range(stages)]
    devices = tuple(_slowest(group, f"stage{stage}") for stage, group in enumerate(groups))
    links = {
        (devices[a].name, devices[b].name): _worst(
            [cluster.link(x.name, y.name) for x, y in zip(groups[a], groups[b], strict=True)]
        )
        for a in range(stages)
        for b in range(a + 1, stages)
    }
    return Cluster(cluster.name, devices, links, cluster.caller)


def group_link(cluster: Cluster, data: int, stages: int, tensor: int) -> Link:
    """What the devices of a tensor-parallel group talk over: the worst of all groups' links."""
    firsts = range(0, data * stages * tensor, tensor)
    groups = [cluster.devices[first : first + tensor] for first in firsts]
    found = [cluster.link(a.name, b.name) for g in groups for i, a in enumerate(g) for b in g[i + 1 :]]
    return _worst(found) if found else Link(0.0, float("inf"))


def slowest_device(cluster: Cluster, count: int) -> Device:
    """A device as slow, and as small, as any of the first `count`."""
    return _slowest(cluster.devices[:count], "slowest")


def _members(cluster: Cluster, data: int, stages: int, tensor: int, stage: int) -> list[Device]:
    """The devices of a stage, of replica after replica."""
    starts = [(d * stages + stage) * tensor for d in range(data)]
    return [device for start in starts for device in cluster.devices[start : start + tensor]]


def _slowest(devices: Sequence[Device], name: str) -> Device:
    return Device(
        name,
        min(d.macs_per_second for d in devices),
        min(d.bytes_per_second for d in devices),
        min(d.memory_bytes for d in devices),
    )


def _worst(links: Sequence[Link]) -> Link:
    return Link(max(x.latency_s for x in links), min(x.bytes_per_second for x in links))
