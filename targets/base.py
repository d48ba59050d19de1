"""What a target is: the same shape as a pass, a frozen dataclass with a name, and a verb that builds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.model import Model
from optc.passes.base import Pass, Progress
from optc.passes.cost import Cost

if TYPE_CHECKING:
    from optc.targets.artifact import Artifact


ENDED = "the host ends it: "
"""How the reason of a node begins whose sums an accelerator makes, and the host what becomes of them."""


@dataclass(frozen=True)
class Placement:
    """Where a node of the model runs.

    `where`: the target's name, "host", or "island" for ONNX Runtime on the host; `reason`: why it is not, or
    not quite, on the target;
    `integer`: its work is done in integer arithmetic; `float_reason`: why it computes in float although the
    model is quantized.
    """

    node: str
    op: str
    where: str
    reason: str | None = None
    integer: bool = False
    float_reason: str | None = None


class Runner(Protocol):
    """A loaded artifact, ready to run."""

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs by name; `InputError` where a name, dtype or shape does not fit."""
        ...


@runtime_checkable
class DeviceRunner(Protocol):
    """A runner that can leave what it computes on its `device` (TVM's name: "cuda", "cpu")."""

    device: str

    def run_on_device(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """As `Runner.run`; inputs are arrays, or tensors on the device (DLPack), outputs are such tensors."""
        ...


@runtime_checkable
class Target(Protocol):
    """A device that models are built for. Implementations are frozen dataclasses: fields are options."""

    name: ClassVar[str]

    def passes(self) -> tuple[Pass, ...]:
        """What this target wants after the common pipeline (`optc.passes.standard`), in order."""
        ...

    def accepts(self, node: gs.Node) -> str | None:
        """None if the target runs `node` itself, otherwise the reason why it does not."""
        ...

    def cost(self, model: Model) -> Cost:
        """An estimate of one run's cost, for the guard and for search."""
        ...

    def build(self, model: Model, out: Path) -> Artifact:
        """Compile `model` into the new folder `out` (the caller renames it into place when all is well)."""
        ...

    def runner(self, artifact: Artifact) -> Runner:
        """Load an artifact of this target; `MissingError` where this machine cannot run it."""
        ...


@runtime_checkable
class Finishing(Protocol):
    """A target that adds what takes minutes to an artifact, once it is known to be right."""

    def finish(self, artifact: Artifact, progress: Progress) -> None:
        """Add files to the artifact's folder and `artifact.include()` them."""
        ...
