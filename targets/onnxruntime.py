"""Target `onnxruntime`: the model itself, run whole by ONNX Runtime on the processor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx_graphsurgeon as gs

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Pass, describe
from optc.passes.cost import Cost
from optc.targets.artifact import Artifact
from optc.targets.base import Placement, Runner
from optc.targets.lowering.vm import WholeIsland


@dataclass(frozen=True)
class OnnxRuntime:
    """ONNX Runtime: on `threads` threads (0: all cores, or OMP_NUM_THREADS); without `optimize` as written.

    With its graph optimizations off, the parts of a model that was cut compute what the whole computes, bit
    for bit.
    """

    name: ClassVar[str] = "onnxruntime"

    threads: int = 0
    optimize: bool = True

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise InputError(f"onnxruntime{{threads={self.threads}}}: give a number of threads, or 0 for all")

    def passes(self) -> tuple[Pass, ...]:
        """Nothing beyond the common pipeline."""
        return ()

    def accepts(self, node: gs.Node) -> str | None:
        """None: it runs all of ONNX, and says so itself where it does not."""
        return None

    def cost(self, model: Model) -> Cost:
        """A roofline estimate of one core."""
        from optc.targets.measure import CPU_CORE

        return CPU_CORE.estimate(model)

    def measure(self, model: Model) -> Cost:
        """What the guard compares: latency in ONNX Runtime."""
        from optc.passes.verify.measure import measure

        return measure(model)

    def build(self, model: Model, out: Path) -> Artifact:
        """Check that ONNX Runtime takes `model` (`InputError`), and save it."""
        WholeIsland(model, (), self.optimize, self.threads)
        placement = [Placement(describe(node), node.op, self.name) for node in model.view.nodes]
        return Artifact.create(out, self, model, {"kind": "island"}, placement)

    def runner(self, artifact: Artifact) -> Runner:
        """The artifact in a session."""
        return WholeIsland(artifact.model, artifact.manifest["inputs"], self.optimize, self.threads)
