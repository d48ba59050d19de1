"""The watcher behind `--verify`: every pass is checked against its contract in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import onnx_graphsurgeon as gs

from optc.models.errors import CheckError, InputError
from optc.models.model import Model
from optc.models.session import Arrays, Session
from optc.passes.analysis.counts import Counts, count
from optc.passes.base import Contract, Exact, Lossy, Pass, Score
from optc.passes.float_ends import with_float_ends
from optc.passes.pipeline import Snapshot, Step, Watcher
from optc.passes.verify.compare import Difference, compare
from optc.passes.verify.feeds import Feeds
from optc.passes.verify.fingerprint import fingerprint
from optc.passes.verify.inputs import input_tensors

RANDOM = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
}
"""Operators that give something else each time."""


@dataclass(frozen=True)
class Row:
    """One line of the verification table: a pass, or the artifact at the end.

    `seconds`: time of the pass itself; `outputs`: how far each moved, empty where nothing was compared;
    `note`: why it was not compared, was rolled back, or how the contract was broken.
    """

    name: str
    contract: str
    changed: bool
    counts: Counts
    seconds: float
    outputs: tuple[Difference, ...] = ()
    note: str = ""
    broken: bool = False
    score: Score | None = None

    @property
    def max_error(self) -> float | None:
        """The largest absolute error over the outputs, or None where nothing was compared."""
        return max((d.max_error for d in self.outputs), default=None)

    @property
    def snr_db(self) -> float | None:
        """The lowest signal-to-noise ratio over the outputs in dB, or None where nothing was compared."""
        return min((d.snr_db for d in self.outputs), default=None)


class VerifyError(CheckError):
    """A broken contract; `rows` is the table up to and including the guilty pass."""

    def __init__(self, message: str, rows: list[Row]) -> None:
        super().__init__(message)
        self.rows = rows


class VerifyWatcher(Watcher):
    """Runs the model before and after every pass in ONNX Runtime and holds the pass to its contract.

    `rows` fills as the passes go by, beginning with the model as given. Raises `VerifyError` after the
    row is recorded. A pass that says it changed nothing, while it did, breaks its contract too.
    """

    needs_before = True

    def __init__(self, feeds: Feeds | None = None, evaluate: Callable[[Model], Score] | None = None) -> None:
        """`feeds`: what the models run on; `evaluate`: accuracy, told for the input and each lossy pass."""
        self.rows: list[Row] = []
        self._feeds = feeds or Feeds()
        self._evaluate = evaluate
        self._fingerprint = ""
        self._current: list[Arrays] | None = None

    def start(self, p: Pass, model: Model) -> None:
        """Note what the model is before the pass."""
        self._fingerprint = fingerprint(model)

    def watch(self, p: Pass, before: Snapshot, after: Model, step: Step) -> None:
        """Record the pass's row; raise `VerifyError` where its contract is broken."""
        if not self.rows:
            self.rows.append(self._input_row(before.model))
        outputs: list[Difference] = []
        note = f"rolled back: {step.rolled_back}" if step.rolled_back else ""
        breach = None
        if step.changed:
            outputs, note, breach = self._compare(before.model, after, p.contract)
        elif not step.rolled_back and fingerprint(after) != self._fingerprint:
            breach = "says it changed nothing, but the model differs"
        wants_score = self._evaluate and step.changed and not breach and isinstance(p.contract, Lossy)
        score = self._evaluate(after) if self._evaluate and wants_score else None
        contract = contract_text(p.contract)
        row = Row(step.text, contract, step.changed, count(after), step.seconds, tuple(outputs))
        self.rows.append(replace(row, note=breach or note, broken=breach is not None, score=score))
        if breach:
            raise VerifyError(f"pass '{p.name}' breaks its contract ({contract}): {breach}", self.rows)

    def _input_row(self, model: Model) -> Row:
        score = self._evaluate(model) if self._evaluate else None
        return Row("(input)", "", False, count(model), 0.0, score=score)

    def _compare(
        self, before: Model, after: Model, contract: Contract
    ) -> tuple[list[Difference], str, str | None]:
        """The outputs' differences, else why nothing was compared, and how the contract is broken."""
        before, after = with_float_ends(before), with_float_ends(after)
        old_names, new_names = (sorted(t.name for t in input_tensors(m)) for m in (before, after))
        if old_names != new_names:
            return [], "", f"the inputs were {', '.join(old_names)}, now {', '.join(new_names)}"
        random = next((n.op for n in _nodes(before.view) if n.op in RANDOM), None)
        if random:
            return [], f"not compared: {random} gives other values on every run", None
        try:
            old = self._outputs_before(before, after)
        except InputError as error:
            if self._feeds.given:
                raise
            return [], f"not compared: {error}", None
        try:
            self._current = self._feeds.run(Session(after))
        except InputError as error:
            return [], "", f"the model no longer runs: {error}"
        differences = combine(old, self._current, contract)
        breach = next((f"output '{d.output}' {d.broken}" for d in differences if d.broken), None)
        return differences, "", breach

    def _outputs_before(self, before: Model, after: Model) -> list[Arrays]:
        """The outputs of `before`, kept from the last pass where the same inputs fit `after` too."""
        if self._current is not None and self._feeds.fits(after):
            return self._current
        self._current = None
        session = Session(before)
        self._feeds.fit(after, session)
        return self._feeds.run(session)


def combine(old: list[Arrays], new: list[Arrays], contract: Contract) -> list[Difference]:
    """The differences of all outputs over several runs."""
    total: dict[str, Difference] = {}
    for before, after in zip(old, new, strict=True):
        for difference in compare(before, after, contract):
            total.setdefault(difference.output, Difference(difference.output)).add(difference)
    return list(total.values())


def contract_text(contract: Contract) -> str:
    """A contract in a word or two: "exact", or what a lossy pass loses."""
    return "exact" if isinstance(contract, Exact) else f"lossy: {contract.loses}"


def _nodes(graph: gs.Graph) -> Iterator[gs.Node]:
    for node in graph.nodes:
        yield node
        for value in node.attrs.values():
            if isinstance(value, gs.Graph):
                yield from _nodes(value)
