"""Running passes in order, with watchers that see the model before and after each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx

from optc.models.errors import OptcError
from optc.models.model import Model
from optc.passes.base import Context, Declined, Pass
from optc.passes.text import to_text


class PassError(OptcError):
    """A pass failed; the text names the pass, the node, and the passes before it."""

    def __init__(self, p: Pass, done: Sequence[Pass], node: str | None, cause: Exception) -> None:
        after = f" (after {to_text(done)})" if done else " (the first pass)"
        at = f" at node {node}" if node else ""
        kind = "" if isinstance(cause, OptcError) else f"{type(cause).__name__}: "
        super().__init__(f"pass '{p.name}' failed{at}{after}: {kind}{cause}", node)
        self.exit_status = cause.exit_status if isinstance(cause, OptcError) else 1


class Snapshot:
    """The model as it was before a pass; taken only for watchers that say they look at it."""

    def __init__(self, model: Model, taken: bool) -> None:
        self._proto = model.to_proto(embed=False) if taken else None
        self._folder = model.folder
        self._model: Model | None = None

    @property
    def proto(self) -> onnx.ModelProto:
        """The model's proto, tensors in external files still pointing there."""
        if self._proto is None:
            raise RuntimeError("a watcher that looks at 'before' must set needs_before = True")
        return self._proto

    @property
    def model(self) -> Model:
        """The model before the pass, to read."""
        if self._model is None:
            self._model = Model(self.proto, self._folder)
        return self._model


class Watcher:
    """Sees every pass go by. Printing, timing, dumping, verifying and guarding are watchers."""

    needs_before: bool = False
    """Whether `watch` reads `before`; where no watcher does, no copy is made."""

    def start(self, p: Pass, model: Model) -> None:
        """Called before a pass runs; `model` is to be read only."""

    def watch(self, p: Pass, before: Snapshot, after: Model, step: Step) -> None:
        """Called after a pass ran. May raise `CheckError`, or put `after` back with `after.replace`."""


@dataclass
class Step:
    """What one pass did."""

    name: str
    text: str
    changed: bool
    seconds: float
    declined: list[Declined] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    rolled_back: str | None = None
    """Why a guard took the pass's change back, or None."""


@dataclass(frozen=True)
class Pipeline:
    """An ordered tuple of passes."""

    passes: tuple[Pass, ...]

    def __str__(self) -> str:
        return to_text(self.passes)

    def run(
        self, model: Model, context: Context | None = None, watchers: Sequence[Watcher] = ()
    ) -> list[Step]:
        """Run every pass on `model` in place; returns what each did.

        Raises `PassError` if a pass fails, and whatever a watcher raises.
        """
        context = context or Context()
        steps: list[Step] = []
        for index, p in enumerate(self.passes):
            before = Snapshot(model, any(w.needs_before for w in watchers))
            for watcher in watchers:
                watcher.start(p, model)
            step = self._step(p, index, model, context)
            steps.append(step)
            for watcher in watchers:
                watcher.watch(p, before, model, step)
        return steps

    def _step(self, p: Pass, index: int, model: Model, context: Context) -> Step:
        context.declined, context.facts, context.node = [], {}, None
        was_changed = model.changed
        start = time.perf_counter()
        try:
            changed = p.run(model, context)
        except Exception as error:
            node = getattr(error, "node", None) or context.node
            raise PassError(p, self.passes[:index], node, error) from error
        seconds = time.perf_counter() - start
        model.changed = was_changed or changed
        return Step(p.name, to_text([p]), changed, seconds, context.declined, context.facts)
