"""Whether an artifact computes what its model means: in ONNX Runtime, and by the integer reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx_graphsurgeon as gs
from onnx import TensorProto

from optc.models.errors import InputError, MissingError
from optc.models.export import element_type
from optc.models.model import Model
from optc.models.session import Arrays, Session
from optc.passes.analysis.counts import count
from optc.passes.base import Contract, Exact, Lossy, Tolerance
from optc.passes.quantize.integer.execute import Reference
from optc.passes.quantize.integer.recognize import model_rounding
from optc.passes.verify.compare import Difference
from optc.passes.verify.feeds import Feeds
from optc.passes.verify.watcher import Row, VerifyError, combine, contract_text
from optc.targets.artifact import Artifact
from optc.targets.owed import ROUNDS, contracts

FLOAT = Exact(
    {
        "float64": Tolerance(1e-6, 1e-7),
        "float32": Tolerance(1e-3, 1e-4),
        "float16": Tolerance(2e-2, 5e-3),
        "bfloat16": Tolerance(1e-1, 2e-2),
    }
)
"""A compiler sums in another order and approximates exp, erf and tanh: ten times a pass's tolerance."""

MIN_SNR_DB = 20.0
"""dB: a quantized model's codes may differ by a few units, more with depth; below this it is wrong."""

_APART = Lossy(f"rounding, at least {MIN_SNR_DB:g} dB")


_REPORTED = Lossy("another rounding than ONNX's, reported only")


def agreement(model: Model) -> Contract:
    """What an artifact of `model` owes to ONNX Runtime: floats close; quantized models are only reported.

    Floats are as close as the smallest float type inside the model allows.
    """
    if quantized(model.view):
        return _APART
    inside = {element_type(t.dtype) for t in model.view.tensors().values() if t.dtype is not None}
    for name in ("bfloat16", "float16"):
        if TensorProto.DataType.Value(name.upper()) in inside:
            return Exact(dict.fromkeys(FLOAT.tolerance, FLOAT.tolerance[name]))
    return FLOAT


def quantized(graph: gs.Graph) -> bool:
    """Whether a node of `graph`, or of a subgraph, rounds to integers."""
    return any(
        node.op in ROUNDS or any(quantized(v) for v in node.attrs.values() if isinstance(v, gs.Graph))
        for node in graph.nodes
    )


def check_artifact(artifact: Artifact, rows: list[Row], feeds: Feeds, seconds: float = 0.0) -> Row:
    """Compare `artifact` with what its own `model.onnx` means, and add a row for each comparison to `rows`.

    With ONNX Runtime (only reported where the model rounds otherwise than ONNX); where part of it was lowered
    to integers, first with the integer reference: equal where
    nothing but integers led to an output. `seconds`: what building it took. Where the artifact cannot run on
    this machine the row says so. Raises `VerifyError` where they do not agree. Returns the last row.
    """
    model = artifact.model
    name = f"artifact ({artifact.target.name})"
    row = Row(name, "", False, count(model), seconds)
    contract = agreement(model)
    try:
        ours, theirs = _outputs(artifact, model, feeds)
    except MissingError as error:
        rows.append(replace(row, contract=contract_text(contract), note=f"not run here: {error}"))
        return rows[-1]
    except InputError as error:
        if feeds.given:
            raise
        rows.append(replace(row, contract=contract_text(contract), note=f"not compared: {error}"))
        return rows[-1]
    if any(p.integer for p in artifact.placement):
        reference = Reference(model)
        wanted = [reference.run(arrays) for arrays in feeds.arrays]
        owed = contracts(artifact, FLOAT, _APART)
        text = " / ".join(dict.fromkeys(_owed_text(c) for c in owed.values()))
        row = replace(row, name=f"{name} / reference", contract=text)
        judge(row, wanted, ours, owed, rows, "its integer reference")
        row = replace(row, name=f"{name} / ONNX Runtime", seconds=0.0)
        if model_rounding(model) != "even":
            contract = _REPORTED
    owed = dict.fromkeys((o.name for o in model.view.outputs), contract)
    return judge(
        replace(row, contract=contract_text(contract)), theirs, ours, owed, rows, "ONNX Runtime on its model"
    )


def _outputs(artifact: Artifact, model: Model, feeds: Feeds) -> tuple[list[Arrays], list[Arrays]]:
    """The outputs of the artifact and of ONNX Runtime, run by run."""
    runner = artifact.runner()
    session = Session(model)
    if not feeds.fits(model):
        feeds.fit(model, session)
    return [runner.run(arrays) for arrays in feeds.arrays], feeds.run(session)


def _owed_text(contract: Contract) -> str:
    return "equal" if isinstance(contract, Exact) and not contract.tolerance else contract_text(contract)


def judge(
    row: Row,
    wanted: list[Arrays],
    ours: list[Arrays],
    owed: Mapping[str, Contract],
    rows: list[Row],
    what: str,
) -> Row:
    """Add the row of one comparison of outputs, run by run, to `rows`; `VerifyError` where an output
    breaks what it owes.
    """
    names = dict.fromkeys([*owed, *(n for run in ours for n in run)])
    differences = [
        difference
        for name in names
        for difference in combine(_only(wanted, name), _only(ours, name), owed.get(name, FLOAT))
    ]
    faults = (breach([d], owed.get(d.output, FLOAT)) for d in differences)
    fault = next((f for f in faults if f is not None), None)
    rows.append(replace(row, outputs=tuple(differences), note=fault or "", broken=fault is not None))
    if fault:
        raise VerifyError(f"the artifact does not agree with {what}: {fault}", rows)
    return rows[-1]


def _only(runs: list[Arrays], name: str) -> list[Arrays]:
    return [{name: run[name]} if name in run else {} for run in runs]


def breach(differences: Sequence[Difference], contract: Contract) -> str | None:
    """How the differences break what an artifact owes (or any contract), or None."""
    for difference in differences:
        if difference.broken:
            return f"output '{difference.output}' {difference.broken}"
        if isinstance(contract, Lossy) and contract != _REPORTED and difference.snr_db < MIN_SNR_DB:
            return f"output '{difference.output}' has {difference.snr_db:.1f} dB, needs {MIN_SNR_DB:g}"
    return None
