"""Whether an artifact computes what ONNX Runtime computes for its model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx_graphsurgeon as gs

from optc.models.errors import InputError, MissingError
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.analysis.counts import count
from optc.passes.base import Contract, Exact, Lossy, Tolerance
from optc.passes.verify.compare import Difference
from optc.passes.verify.feeds import Feeds
from optc.passes.verify.watcher import Row, VerifyError, combine, contract_text
from optc.targets.artifact import Artifact

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

_QUANTIZED = {"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"}


def agreement(model: Model) -> Contract:
    """What an artifact of `model` owes to ONNX Runtime: floats close; quantized models are only reported."""
    if quantized(model.view):
        return Lossy(f"rounding, at least {MIN_SNR_DB:g} dB")
    return FLOAT


def quantized(graph: gs.Graph) -> bool:
    """Whether a node of `graph`, or of a subgraph, rounds to integers."""
    return any(
        node.op in _QUANTIZED or any(quantized(v) for v in node.attrs.values() if isinstance(v, gs.Graph))
        for node in graph.nodes
    )


def check_artifact(artifact: Artifact, rows: list[Row], feeds: Feeds, seconds: float = 0.0) -> Row:
    """Compare `artifact` with ONNX Runtime on its own `model.onnx` and add the row to `rows`.

    `seconds`: what building it took. Where the artifact cannot run on this machine the row says so.
    Raises `VerifyError` where they do not agree.
    """
    model = artifact.model
    contract = agreement(model)
    name = f"artifact ({artifact.target.name})"
    row = Row(name, contract_text(contract), False, count(model), seconds)
    differences: list[Difference] = []
    note, fault = "", None
    try:
        differences = _differences(artifact, model, feeds, contract)
    except MissingError as error:
        note = f"not run here: {error}"
    except InputError as error:
        if feeds.given:
            raise
        note = f"not compared: {error}"
    else:
        fault = breach(differences, contract)
    rows.append(replace(row, outputs=tuple(differences), note=fault or note, broken=fault is not None))
    if fault:
        raise VerifyError(f"the artifact does not agree with ONNX Runtime on its model: {fault}", rows)
    return rows[-1]


def _differences(artifact: Artifact, model: Model, feeds: Feeds, contract: Contract) -> list[Difference]:
    runner = artifact.runner()
    session = Session(model)
    if not feeds.fits(model):
        feeds.fit(model, session)
    return combine(feeds.run(session), [runner.run(arrays) for arrays in feeds.arrays], contract)


def breach(differences: Sequence[Difference], contract: Contract) -> str | None:
    """How the differences break what an artifact owes (or any contract), or None."""
    for difference in differences:
        if difference.broken:
            return f"output '{difference.output}' {difference.broken}"
        if isinstance(contract, Lossy) and difference.snr_db < MIN_SNR_DB:
            return f"output '{difference.output}' has {difference.snr_db:.1f} dB, needs {MIN_SNR_DB:g}"
    return None
