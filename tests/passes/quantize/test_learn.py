"""Learnt weights: nearer to the float model, the same integers everywhere, the same form of graph."""

import numpy as np
import pytest

from optc.models.model import Model
from optc.models.session import Arrays, Session
from optc.models.source import open_source
from optc.passes.base import Context
from optc.passes.pipeline import Pipeline
from optc.passes.quantize.integer.execute import run_reference
from optc.passes.registry import parse_passes


def quantized(options: str, samples: int = 200) -> tuple[Model, Arrays, np.ndarray]:
    """The bundled model quantized, test images, and the float model's outputs for them."""
    source = open_source("zoo:fashion-resnet")
    assert source.evaluation is not None
    Pipeline(parse_passes("canonicalize")).run(source.model, Context())
    (name,) = (t.name for t in source.model.view.inputs)
    feeds = {name: next(source.evaluation.batches([name], 100, 100))[name]}
    wanted = next(iter(Session(source.model).run(feeds).values()))
    passes = parse_passes(f"quantize{{samples={samples}{options}}}")
    Pipeline(passes).run(source.model, Context(calibration=source.calibration))
    return source.model, feeds, wanted


def noise(model: Model, feeds: Arrays, wanted: np.ndarray) -> float:
    return float(np.mean((next(iter(Session(model).run(feeds).values())) - wanted) ** 2))


VTA = ",scales=pow2,activations=int8,rounding=half_up,residual=accumulator,per_channel=false"


@pytest.mark.parametrize("options", ["", ",scales=pow2", ",activations=int8", VTA])
def test_learnt_weights_make_less_noise(options: str) -> None:
    nearest, learnt = (noise(*quantized(options + more)) for more in ("", ",weights=learnt"))
    assert learnt < (0.5 if "pow2" in options else 1.0) * nearest


def test_the_form_of_the_graph_is_the_same() -> None:
    nearest, learnt = (quantized(more, 8)[0] for more in ("", ",weights=learnt"))
    assert [(n.op, n.name) for n in nearest.view.nodes] == [(n.op, n.name) for n in learnt.view.nodes]


def test_onnx_runtime_equals_the_integer_reference() -> None:
    model, feeds, _ = quantized(",weights=learnt,scales=pow2", 16)
    one = {k: v[:1] for k, v in feeds.items()}
    wanted, found = Session(model).run(one), run_reference(model, one)
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)


def test_same_bytes_twice_and_a_second_run_changes_nothing() -> None:
    first, second = (quantized(",weights=learnt", 8)[0] for _ in range(2))
    assert first.to_proto().SerializeToString() == second.to_proto().SerializeToString()
    source = open_source("zoo:fashion-resnet")
    (step,) = Pipeline(parse_passes("quantize{weights=learnt}")).run(
        first, Context(calibration=source.calibration)
    )
    assert not step.changed
