"""What a pass is: a frozen dataclass with a name, a contract and one method that edits a model in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.data import Samples
from optc.models.model import Model
from optc.passes.cost import Cost

T = TypeVar("T")


@dataclass(frozen=True)
class Tolerance:
    """How far a float output may move: `|a - b| <= atol * max|a| + rtol * |a|`, elementwise."""

    rtol: float
    atol: float


@dataclass(frozen=True)
class Exact:
    """Outputs equal the input model's: integers, booleans, strings bit for bit, floats within tolerance."""

    tolerance: Mapping[str, Tolerance] = field(
        default_factory=lambda: {
            "float64": Tolerance(1e-9, 1e-10),
            "float32": Tolerance(1e-4, 1e-5),
            "float16": Tolerance(1e-2, 2e-3),
            "bfloat16": Tolerance(5e-2, 1e-2),
        }
    )


@dataclass(frozen=True)
class Lossy:
    """Outputs may change; `loses` says what the pass gives up, such as "weights of small magnitude"."""

    loses: str


Contract = Exact | Lossy


@dataclass(frozen=True)
class Declined:
    """A node that a pass, or a target, left as it was, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class Score:
    """Accuracy on labelled data: `value` in [0, 1] (or the metric's unit), with a 95% interval.

    What paired comparisons need: `values`, of each sample, where the metric is their mean; else `draws`, the
    scores of bootstrap draws, which are the same for the same number of samples.
    """

    metric: str
    value: float
    low: float
    high: float
    samples: int
    values: NDArray[np.float64] | None = field(default=None, compare=False, repr=False)
    draws: NDArray[np.float64] | None = field(default=None, compare=False, repr=False)


class Progress(Protocol):
    """Shows how far a long piece of work is."""

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield `items`, showing their count under `description`."""
        ...


class NoProgress:
    """Shows nothing."""

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield `items`."""
        return iter(items)


@dataclass
class Context:
    """What a pass may need and must not import; whoever runs the pipeline fills it in.

    `calibration`: unlabelled samples; `evaluate`: accuracy of a model; `cost`, `measure`: the target's
    estimate and measurement; `align`: the width that the target's hardware wants channels rounded to.
    """

    calibration: Samples | None = None
    evaluate: Callable[[Model], Score] | None = None
    cost: Callable[[Model], Cost] | None = None
    measure: Callable[[Model], Cost] | None = None
    align: int = 16
    seed: int = 0
    progress: Progress = field(default_factory=NoProgress)
    declined: list[Declined] = field(default_factory=list)
    """Filled by the pass that runs; the pipeline clears it before each pass and keeps it in the step."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the pass reports (JSON types), such as sparsity per layer; kept in the step like `declined`."""
    node: str | None = None
    """The node that the pass is at, for the error message if it fails."""

    def visit(self, nodes: Iterable[gs.Node]) -> Iterator[gs.Node]:
        """Yield a copy of the list of nodes one by one, noting each, so that a failure can name it."""
        for node in list(nodes):
            self.node = describe(node)
            yield node
        self.node = None

    def decline(self, node: gs.Node, reason: str) -> None:
        """Note that `node` was left as it is, and why."""
        self.declined.append(Declined(describe(node), reason))


def describe(node: gs.Node) -> str:
    """How messages name a node: its own name, else its first output's, and its operator."""
    name = node.name or next((t.name for t in node.outputs if t.name), "?")
    return f"{name} ({node.op})"


@runtime_checkable
class Pass(Protocol):
    """A graph transform. Implementations are frozen dataclasses whose fields are the options."""

    name: ClassVar[str]

    @property
    def contract(self) -> Contract:
        """What the pass promises about the outputs; a class variable will do."""
        ...

    def run(self, model: Model, context: Context) -> bool:
        """Edit `model` in place; return True only if something changed."""
        ...
