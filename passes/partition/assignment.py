"""Which node runs where: a partition of a model over replicas, pipeline stages and tensor-parallel groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from optc.passes.partition.sharding.layout import Sharding


@dataclass(frozen=True)
class Assignment:
    """`data` replicas of `stages` stages of `tensor` devices each.

    Replica d's stage s has the devices number (d × stages + s) × tensor + t: neighbours are in one group.
    `stage` is by the node's name (`optc.models.wiring.node_name`).
    """

    data: int
    stage: Mapping[str, int]
    sharding: Sharding

    @property
    def stages(self) -> int:
        """How many stages there are."""
        return max(self.stage.values(), default=0) + 1

    @property
    def tensor(self) -> int:
        """How many devices share the work of a stage."""
        return self.sharding.devices

    @property
    def devices(self) -> int:
        """How many devices there are in all."""
        return self.data * self.stages * self.tensor
