"""What is compiled for `cuda` runs on a GPU as its reference says; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import Network, networks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optc.models.errors import MissingError
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Exact
from optc.passes.quantize.integer.execute import Reference
from optc.passes.verify.compare import compare
from optc.passes.verify.inputs import generate_runnable
from optc.targets.cuda.cuda import Cuda, gpu_capability

OPTIONS = st.fixed_dictionaries(
    {
        "activations": st.sampled_from(["uint8", "int8"]),
        "scales": st.sampled_from(["any", "pow2"]),
        "rounding": st.sampled_from(["even", "half_up"]),
        "residual": st.sampled_from(["codes", "accumulator"]),
    }
)

FLOAT = {
    "matmul": "float[7,33] x, float[33,5] w) => (float[7,5] y) { a = MatMul(x, w) y = Relu(a) }",
    "conv": """float[2,3,17,13] x, float[8,3,3,3] w) => (float[2,8,9,7] y)
        { y = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w) }""",
    "depthwise": "float[1,6,9,9] x, float[6,1,3,3] w) => (float[1,6,7,7] y) { y = Conv<group=6>(x, w) }",
    "softmax": "float[3,1000] x) => (float[3,1000] y) { y = Softmax<axis=1>(x) }",
    "an island": "float[4,3,3] x) => (float[4] y) { a = Relu(x) b = Det(a) y = Neg(b) }",
    "no kernel": "float[4,6] x) => (float[24] y) <int64[1] s = {24}> { y = Reshape(x, s) }",
}


@pytest.fixture(scope="module")
def cuda() -> Cuda:
    """The target with the GPU's own architecture."""
    try:
        return Cuda((f"sm_{gpu_capability()}",))
    except MissingError:
        pytest.skip("no GPU")


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(network=networks(), options=OPTIONS)
def test_generated_quantized_networks(
    network: Network, options: dict[str, str], cuda: Cuda, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("network")
    model = network.quantized(folder, **options)
    (folder / "a").mkdir()
    found = cuda.build(model, folder / "a").run(network.feeds())
    for name, wanted in Reference(model).run(network.feeds()).items():
        np.testing.assert_array_equal(found[name], wanted)


@pytest.mark.parametrize("name", FLOAT)
def test_float_operators(name: str, cuda: Cuda, tmp_path: Path) -> None:
    header = '<ir_version: 10, opset_import: ["": 21]> g ('
    model = Model(onnx.parser.parse_model(header + FLOAT[name]))
    session = Session(model)
    feeds = generate_runnable(model, session, 0)
    found = cuda.build(model, tmp_path).run(feeds)
    assert not [d for d in compare(session.run(feeds), found, Exact()) if d.broken]
