"""The integer part of a quantized model as a model of its own, and calibration data for zoo networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from optc.models.data import Samples
from optc.models.model import Model
from optc.models.session import Arrays, Session
from optc.models.zoo import zoo_entry
from optc.passes.base import Context
from optc.passes.quantize.integer.execute import Reference
from optc.passes.quantize.quantize import Quantize
from optc.passes.registry import parse_passes
from optc.passes.verify.inputs import generate_runnable


def quantized(name: str, folder: Path, samples: int = 2, **options: object) -> tuple[Model, Arrays]:
    """A zoo network, quantized over generated samples, and one more of them."""
    model = Model(zoo_entry(name).build())
    for step in parse_passes("canonicalize"):
        step.run(model, Context())
    session = Session(model)
    drawn = [generate_runnable(model, session, seed, None) for seed in range(samples + 1)]
    np.savez(folder / "calibration.npz", **{k: np.concatenate([d[k] for d in drawn[1:]]) for k in drawn[0]})
    Quantize(**options).run(model, Context(calibration=Samples(folder / "calibration.npz")))  # type: ignore[arg-type]
    return model, drawn[0]


def integer_part(model: Model, feeds: Arrays) -> tuple[Model, Arrays, Arrays]:
    """The nodes of `model` that are integer, what they read for `feeds`, and every code that they make.

    Float results of integer operations are outputs too; accumulators are not, they are no tensors of ONNX.
    """
    reference = Reference(model)
    values = reference.trace(feeds)
    ops = reference.program.ops
    proto = model.to_proto()
    mine = {n for op in ops for n in op.nodes}
    nodes = [n for n in proto.graph.node if n.output[0] in mine]
    made = {o for n in nodes for o in n.output}
    constants = {t.name: t for t in proto.graph.initializer}
    read = dict.fromkeys(i for n in nodes for i in n.input if i and i not in made)
    accumulators = reference.program.accumulators()
    outputs = [op.output for op in ops if op.output not in accumulators]
    graph = helper.make_graph(
        nodes,
        "integers",
        [_info(n, values) for n in read if n not in constants],
        [_info(n, values) for n in outputs],
        [constants[n] for n in read if n in constants],
    )
    part = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    part.metadata_props.extend(proto.metadata_props)
    given = {n: values[n] for n in read if n not in constants}
    return Model(part), given, {n: values[n] for n in outputs}


def _info(name: str, values: Mapping[str, np.ndarray]) -> onnx.ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(values[name].dtype)
    return helper.make_tensor_value_info(name, element, values[name].shape)
