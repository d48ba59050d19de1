"""Make constants of the initializers that are also listed as inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from optc.models.model import Model
from optc.passes.base import Context, Contract, Exact

CONSTANTS_SINCE = 4
"""IR version since which an initializer need not be an input."""


@dataclass(frozen=True)
class BindInitializers:
    """Drop initializers from the list of graph inputs: callers can no longer override them.

    Models of IR version 3 list every weight that way; no pass may rely on a weight until this ran.
    """

    name: ClassVar[str] = "bind-initializers"
    contract: ClassVar[Contract] = Exact()

    def run(self, model: Model, context: Context) -> bool:
        """Drop the listings; raises the IR version to 4 where it is lower."""
        changed = bool(model.overridable)
        if changed:
            _ = model.graph  # from here on the file is written from the graph, whose inputs are without them
            model.overridable.clear()
        if model.header.ir_version < CONSTANTS_SINCE:
            model.header.ir_version = CONSTANTS_SINCE
            changed = True
        if changed:
            model.changed = True
        return changed
