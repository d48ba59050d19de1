"""The networks with random weights: valid, alive, of the known sizes, the same bytes every time."""

import math

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from optc.models.zoo import zoo_entry
from optc.models.zoo.bert import BertSizes, build_bert_encoder
from optc.models.zoo.builder import BATCH, GivenParameters, GraphBuilder, RandomParameters
from optc.models.zoo.gpt import GptSizes, build_gpt_decoder
from optc.models.zoo.unet import build_unet

# Gluon counts running statistics as parameters, torchvision and Transformers do not.
GLUON = {
    "resnet18-v1": 11_699_112,
    "resnet34-v1": 21_814_696,
    "resnet50-v1": 25_629_032,
    "resnet18-v2": 11_695_796,
    "resnet34-v2": 21_811_380,
    "resnet50-v2": 25_595_060,
    "resnet101-v2": 44_639_412,
}
TRAINABLE = {
    "mobilenet-v2": 3_504_872,  # torchvision
    "inception": 6_998_552
    + 7_280,  # BVLC GoogLeNet without LRN; BatchNormalization has beta for bias, plus gamma
    "unet": 7_763_041,  # Buda's network
    "bert-encoder": 22_713_216 - 147_840,  # MiniLM-L6 without its pooler
}
LIGHT = ["resnet18-v1", "resnet18-v2", "mobilenet-v2", "inception", "bert-encoder", "gpt-decoder"]
HEAVY = ["resnet34-v1", "resnet50-v1", "resnet34-v2", "resnet50-v2", "resnet101-v2", "unet"]
TRAINED = {"weight", "kernel", "bias", "gamma", "beta"}
STATISTICS = {"running_mean", "running_var"}


def count(model: onnx.ModelProto, kinds: set[str]) -> int:
    tensors = model.graph.initializer
    return sum(math.prod(tensor.dims) for tensor in tensors if tensor.name.rsplit(".", 1)[-1] in kinds)


def feed(model: onnx.ModelProto, batch: int = 1, sequence: int = 12) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {}
    for value in model.graph.input:
        named = {"N": batch, "batch": batch, "sequence": sequence}
        dims = [d.dim_value or named[d.dim_param] for d in value.type.tensor_type.shape.dim]
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            arrays[value.name] = rng.standard_normal(dims, dtype=np.float32)
        else:
            arrays[value.name] = (
                rng.integers(0, 1000, dims) if value.name == "input_ids" else np.ones(dims, int)
            )
    return arrays


def run(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def check_alive(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    inputs = feed(model)
    output = run(model, inputs)
    assert np.isfinite(output).all()
    assert output.std() > 0.1
    other = run(model, {name: array[..., ::-1].copy() for name, array in inputs.items()})
    assert np.abs(output - other).max() > 1e-2, "the output does not depend on the input"


@pytest.mark.parametrize("name", LIGHT)
def test_is_valid_and_runs(name: str) -> None:
    check_alive(zoo_entry(name).build())


@pytest.mark.slow
@pytest.mark.parametrize("name", HEAVY)
def test_is_valid_and_runs_heavy(name: str) -> None:
    check_alive(zoo_entry(name).build())


def test_small_unet_runs() -> None:
    check_alive(build_unet(base=4, size=32))


@pytest.mark.parametrize("name", GLUON)
def test_parameters_of_resnets(name: str) -> None:
    assert count(zoo_entry(name).build(), TRAINED | STATISTICS) == GLUON[name]


@pytest.mark.parametrize("name", TRAINABLE)
def test_parameters(name: str) -> None:
    assert count(zoo_entry(name).build(), TRAINED) == TRAINABLE[name]


@pytest.mark.parametrize("layers", [1, 3])
def test_parameters_of_gpt_of_any_depth(layers: int) -> None:
    """GPT-2's formula, tied embeddings: a layer has 12 h^2 + 13 h."""
    model = build_gpt_decoder(GptSizes(layers, 32, 4, 100, 16))
    assert count(model, TRAINED) == layers * (12 * 32**2 + 13 * 32) + (100 + 16) * 32 + 2 * 32


def test_gpt_refuses_heads_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="5 heads do not divide a hidden size of 32"):
        build_gpt_decoder(GptSizes(1, 32, 5, 100, 16))


def test_gpt_is_causal() -> None:
    model = build_gpt_decoder(GptSizes(2, 32, 4, 100, 16))
    ids = np.arange(12).reshape(1, 12)
    changed = ids.copy()
    changed[0, 7] = 99
    difference = np.abs(run(model, {"input_ids": ids}) - run(model, {"input_ids": changed})).max(axis=(0, 2))
    assert difference[:7].max() == 0
    assert difference[7:].min() > 1e-3


def test_bert_does_not_see_padding() -> None:
    model = build_bert_encoder(sizes=BertSizes(2, 32, 4, 64, 100, 16))
    ids = np.arange(8).reshape(1, 8)
    padded = np.pad(ids, ((0, 0), (0, 3)), constant_values=55)
    short = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    mask = (np.arange(11) < 8).astype(np.int64)[None]
    long = {"input_ids": padded, "attention_mask": mask, "token_type_ids": np.zeros_like(padded)}
    np.testing.assert_allclose(run(model, long)[:, :8], run(model, short), atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18-v2", "mobilenet-v2", "gpt-decoder"])
def test_two_builds_are_the_same_bytes(name: str) -> None:
    first, second = (zoo_entry(name).build().SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", ["resnet18-v1", "mobilenet-v2"])
def test_batch_is_free(name: str) -> None:
    model = zoo_entry(name).build()
    inputs = feed(model, batch=2)
    both = run(model, inputs)
    assert both.shape == (2, 1000)
    np.testing.assert_allclose(both[1:], run(model, {"image": inputs["image"][1:]}), rtol=1e-3, atol=1e-3)


def strides_of_first_convolutions(model: onnx.ModelProto, kernel: int) -> list[int]:
    """Strides of the convolutions that open stages 2 to 4 and have this kernel."""
    found = []
    for node in model.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        opens = any(node.name.startswith(f"stage{stage}.0.conv") for stage in (2, 3, 4))
        if node.op_type == "Conv" and opens and attributes["kernel_shape"] == [kernel] * 2:
            found.append(attributes["strides"][0])
    return found


def test_resnet50_v1_strides_in_its_first_1x1_and_v2_in_its_3x3() -> None:
    v1, v2 = (zoo_entry(f"resnet50-v{version}").build() for version in (1, 2))
    assert strides_of_first_convolutions(v1, 1) == [2, 1] * 3
    assert strides_of_first_convolutions(v1, 3) == [1] * 3
    assert strides_of_first_convolutions(v2, 1) == [1, 1] * 3
    assert strides_of_first_convolutions(v2, 3) == [2] * 3


def test_batch_normalization_is_left_and_not_trivial() -> None:
    model = zoo_entry("resnet18-v1").build()
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert len(norms) == 20
    for node in norms:
        assert all(tensors[name].std() > 0.01 for name in node.input[1:])


def test_given_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="parameter c.weight is missing"):
        _one_convolution(GivenParameters({}))
    with pytest.raises(ValueError, match=r"c.weight has shape \(1,\), the network wants \(4, 3, 1, 1\)"):
        _one_convolution(GivenParameters({"c.weight": np.ones(1)}))
    parameters = GivenParameters({"c.weight": np.ones((4, 3, 1, 1)), "more": np.ones(1)})
    _one_convolution(parameters)
    assert parameters.unused() == ["more"]


def test_random_parameters_follow_the_seed() -> None:
    a, b, c = (RandomParameters(seed)("x.weight", (8, 8)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def _one_convolution(parameters: GivenParameters) -> onnx.ModelProto:
    b = GraphBuilder("one", parameters)
    x = b.conv(b.input("x", (BATCH, 3, 4, 4)), "c", 4, 1)
    b.output(x, (BATCH, 4, 4, 4))
    return b.model("one convolution")
