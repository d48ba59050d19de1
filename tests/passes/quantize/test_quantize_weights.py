import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from optimized import fused

from optc.models.data import Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.models.zoo import zoo_entry
from optc.passes.base import Context
from optc.passes.pipeline import PassError, Pipeline, Step
from optc.passes.quantize.quantize_weights import QuantizeWeights
from optc.passes.registry import parse_passes
from optc.passes.text import to_text

LAYER = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[N,2] x) => (float[N,2] y)
<float[2,2] w = {1.27, 0.5, -0.635, 1}, float[2] b = {0.5, -1}>
{
    [fc] y = Gemm <transB=1> (x, w, b)
}
"""

AFTER = """{
   w_dequantized = DequantizeLinear <axis: int = 1> (w_quantized, w_scale)
   y = Gemm <transB: int = 0> (x, w_dequantized, b)
}"""

LAYERS = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[N,8,6,6] x) => (float[N,25,7] y)
{
    [conv] a = Conv <pads=[1,1,1,1]> (x, w_conv, b_conv)
    [depthwise] b = Conv <group=12, pads=[1,1,1,1]> (a, w_depth)
    [up] c = ConvTranspose <group=2> (b, w_up)
    [flat] d = Reshape (c, shape)
    [fc] e = Gemm <transB=1> (d, w_fc, b_fc)
    [fc2] f = Gemm (e, w_fc2)
    s = Constant <value_ints=[-1,25,2]> ()
    g = Reshape (f, s)
    [mm] h = MatMul (g, w_mm)
    [batched] y = MatMul (h, w_batched)
}
"""

SHAPES = {
    "w_conv": (12, 8, 3, 3),
    "b_conv": (12,),
    "w_depth": (12, 1, 3, 3),
    "w_up": (12, 5, 1, 1),
    "w_fc": (40, 360),
    "b_fc": (40,),
    "w_fc2": (40, 50),
    "w_mm": (2, 70),
    "w_batched": (1, 70, 7),
}

OPTIONS = [
    {"bits": bits, "block": block, "symmetric": symmetric}
    for bits in (8, 4)
    for block in (None, 4, 16)
    for symmetric in (True, False)
]


def model_of(text: str, **arrays: np.ndarray) -> Model:
    proto = onnx.parser.parse_model(text)
    for name in arrays:
        proto.graph.initializer.append(onnx.numpy_helper.from_array(arrays[name], name))
    onnx.checker.check_model(proto)
    return Model(proto)


def layers_model(seed: int = 0) -> Model:
    rng = np.random.default_rng(seed)
    arrays = {
        name: (rng.standard_normal(shape) / np.sqrt(max(np.prod(shape[1:]), 1))).astype(np.float32)
        for name, shape in SHAPES.items()
    }
    return model_of(LAYERS, shape=np.array([-1, 360], np.int64), **arrays)


def run(model: Model, context: Context | None = None, **options: object) -> Step:
    (step,) = Pipeline((QuantizeWeights(**options),)).run(model, context)
    return step


def body(model: Model) -> str:
    text = onnx.printer.to_text(model.to_proto().graph)
    return re.sub(r"\[[^ ]*\] ", "", text[text.index("{\n") :])


def constants(model: Model) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.to_proto().graph.initializer}


def by_hand(model: Model) -> Model:
    """The model with each DequantizeLinear of constants replaced by the floats that its formula gives."""
    proto, values = model.to_proto(), constants(model)
    for node in [n for n in proto.graph.node if n.op_type == "DequantizeLinear"]:
        attrs = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        codes = values[node.input[0]].astype(np.int32)
        scale = values[node.input[1]]
        zero = values[node.input[2]].astype(np.int32) if len(node.input) > 2 else np.zeros(scale.shape, int)
        if "block_size" in attrs:
            places = np.arange(codes.shape[attrs["axis"]]) // attrs["block_size"]
            scale, zero = (v.take(places, axis=attrs["axis"]) for v in (scale, zero))
        else:
            shape = [-1 if a == attrs["axis"] else 1 for a in range(codes.ndim)]
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        floats = (codes - zero).astype(np.float32) * scale
        proto.graph.initializer.append(
            onnx.numpy_helper.from_array(floats.astype(np.float32), node.output[0])
        )
        proto.graph.node.remove(node)
    return Model(proto)


def feeds(count: int = 3, seed: int = 1) -> dict[str, np.ndarray]:
    """Pictures whose channels and places depend on each other, as those of real ones do."""
    noise = np.random.default_rng(seed).standard_normal((count, 8, 6, 6))
    return {"x": (noise.cumsum(axis=1).cumsum(axis=2).cumsum(axis=3) / 8).astype(np.float32)}


def snr(wanted: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum()))


def test_before_and_after() -> None:
    model = model_of(LAYER)
    step = run(model)
    assert step.changed
    assert body(model) == AFTER
    found = constants(model)
    assert found["w_quantized"].dtype == np.int8
    assert found["w_quantized"].tolist() == [[127, -81], [50, 127]]  # stored untransposed
    assert found["w_scale"].tolist() == pytest.approx([0.01, 1 / 127])
    assert "w" not in found
    assert step.facts == {"quantized": {"Gemm": 1}, "bytes_before": 16, "bytes_after": 12}


def test_again_changes_nothing() -> None:
    model = model_of(LAYER)
    run(model)
    before = model.to_proto()
    step = run(model)
    assert not step.changed
    assert model.to_proto() == before
    assert step.declined[0].reason == "it is quantized already"


def test_names_of_what_is_quantized_already_match() -> None:
    model = layers_model()
    options = {"layers": ("fc*", "conv"), "skip": ("*2",)}
    assert run(model, **options).changed and not run(model, **options).changed


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_runs_as_its_formula_says(options: dict[str, object]) -> None:
    original = layers_model()
    model = original.copy()
    assert run(model, **options).facts["quantized"] == {"Conv": 2, "ConvTranspose": 1, "Gemm": 2, "MatMul": 2}
    onnx.checker.check_model(model.to_proto(), full_check=True)
    wanted = Session(by_hand(model)).run(feeds())["y"]
    found = Session(model).run(feeds())["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert snr(Session(original).run(feeds())["y"], found) > (30 if options["bits"] == 8 else 8)


def test_shapes_of_scales() -> None:
    model = layers_model()
    run(model, bits=4, block=4)
    found = {name: v.shape for name, v in constants(model).items() if name.endswith("_scale")}
    assert found == {
        "w_conv_scale": (12, 2, 3, 3),
        "w_depth_scale": (12,),  # a block would hold one weight
        "w_up_scale": (3, 5, 1, 1),
        "w_fc_scale": (90, 40),
        "w_fc2_scale": (10, 50),
        "w_mm_scale": (70,),
        "w_batched_scale": (1, 18, 7),  # the last block is of 2
    }


def test_four_bits_pack_two_a_byte(tmp_path: Path) -> None:
    model = layers_model()
    step = run(model, bits=4, block=16, symmetric=False)
    model.save(tmp_path / "a.onnx")
    stored = {t.name: t for t in onnx.load(tmp_path / "a.onnx").graph.initializer}
    assert stored["w_fc_quantized"].data_type == onnx.TensorProto.UINT4
    assert len(stored["w_fc_quantized"].raw_data) == 360 * 40 // 2
    names = [n for n in stored if n.endswith(("_quantized", "_scale", "_zero_point"))]
    assert step.facts["bytes_after"] == sum(len(stored[n].raw_data) for n in names)
    again = Model.load(tmp_path / "a.onnx")
    np.testing.assert_array_equal(Session(again).run(feeds())["y"], Session(model).run(feeds())["y"])


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("block", [None, 16, 32, 64])
@pytest.mark.parametrize("layer", ["y = MatMul (x, w)", "y = Gemm <transB=1> (x, w)"])
def test_onnx_runtime_fuses(bits: int, block: int | None, layer: str, tmp_path: Path) -> None:
    text = f'<ir_version: 10, opset_import: ["" : 21]> g (float[N,72] x) => (float[N,72] y) {{ {layer} }}'
    weight = np.random.default_rng(0).standard_normal((72, 72)).astype(np.float32)
    model = model_of(text, w=weight)
    run(model, bits=bits, block=block)
    assert fused(model, tmp_path) == {"MatMulNBits": 1}


def test_layers_and_skip() -> None:
    model = layers_model()
    step = run(model, layers=("fc*", "conv"), skip=("*2",))
    assert step.facts["quantized"] == {"Conv": 1, "Gemm": 1}
    with pytest.raises(PassError, match=r"quantize-weights: no layer matches 'conv9'; the layers are conv, "):
        run(layers_model(), skip=("conv9",))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("y = MatMul (x, x)", "both its operands are computed"),
        ("y = MatMul (w, x)", "its left operand is a constant"),
        ("v = Abs (x) y = Gemm (x, v)", "both its operands are computed"),
        ("y = MatMul (x, w) z = Relu (w)", "its weight is also read by z (Relu)"),
        ("y = Gemm (x, w, w)", "its weight is also read by y (Gemm)"),
        ("y = Gemm (x, w) z = Gemm <transB=1> (x, w)", "its weight is also read by z (Gemm)"),
        ("v = Abs (w) y = MatMul (x, v)", "its weight is computed at run time"),
        ("d = Cast <to=11> (x) y = MatMul (d, d64)", "its weight is not float32"),
        ("y = MatMul (x, vector)", "its weight is a vector, or empty"),
    ],
)
def test_declines(text: str, reason: str) -> None:
    head = '<ir_version: 10, opset_import: ["" : 21]> g (float[2,2] x) => (y) '
    values = "<float[2,2] w = {1, 2, 3, 4}, float[2] vector = {1, 2}, double[2,2] d64 = {1, 2, 3, 4}>"
    model = Model(onnx.parser.parse_model(f"{head}{values} {{ {text} }}"))
    step = run(model)
    assert not step.changed
    assert step.declined[0].reason.startswith(reason)


def test_declines_what_a_caller_may_override() -> None:
    text = LAYER.replace("(float[N,2] x)", "(float[N,2] x, float[2,2] w)")
    step = run(model_of(text))
    assert not step.changed
    assert "a caller may override" in step.declined[0].reason


def test_layers_that_share_a_weight_share_its_integers() -> None:
    text = LAYER.replace("[fc] y = Gemm <transB=1> (x, w, b)", "h = MatMul (x, w) y = MatMul (h, w)")
    model = model_of(text)
    assert run(model, weights="nearest").facts["quantized"] == {"MatMul": 2}
    assert [n.op_type for n in model.to_proto().graph.node] == ["DequantizeLinear", "MatMul", "MatMul"]


def test_errors() -> None:
    text = LAYER.replace("1.27", "NaN")
    weight = np.array([[np.nan, 1], [2, 3]], np.float32)
    text = LAYER.replace("float[2,2] w = {1.27, 0.5, -0.635, 1}, ", "")
    with pytest.raises(PassError, match="at node fc .*constant 'w' holds NaN or infinity"):
        run(model_of(text, w=weight))
    old = LAYER.replace('"" : 21', '"" : 13')
    with pytest.raises(PassError, match="needs opset 21 or later, the model has 13; run upgrade-opset first"):
        run(model_of(old), bits=4)
    assert run(model_of(old)).changed
    with pytest.raises(PassError, match="needs calibration samples"):
        run(model_of(LAYER), weights="learnt")
    with pytest.raises(InputError, match="block 1 is not at least 2"):
        QuantizeWeights(block=1)
    with pytest.raises(InputError, match="it takes 8, 4"):
        parse_passes("quantize-weights{bits=5}")


def test_text() -> None:
    text = "quantize-weights{bits=4,block=32,symmetric=false,skip=[a,b*]}"
    (found,) = parse_passes(text)
    assert found == QuantizeWeights(4, 32, False, skip=("a", "b*"))
    assert to_text([found]) == text


TABLES = """
<ir_version: 10, opset_import: ["" : 21]>
g (int64[N,3] i) => (float[N,3,4] y, float[3] z)
<float[3] vector = {1, 2, 3}>
{
    [words] y = Gather (table, i)
    j = Constant <value_ints=[0,1,2]> ()
    [other] z = Gather (vector, j)
}
"""


def test_embeddings() -> None:
    table = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    model = model_of(TABLES, table=table)
    assert not run(model).changed
    step = run(model, embeddings=True)
    assert step.facts == {"quantized": {"Gather": 1}, "bytes_before": 320, "bytes_after": 160}
    assert [d.where for d in step.declined] == ["other (Gather)"]
    onnx.checker.check_model(model.to_proto(), full_check=True)
    ids = np.array([[0, 19, 7], [-1, 3, 3]])
    found = Session(model).run({"i": ids})["y"]
    step_size = np.abs(table).max(axis=1, keepdims=True) / 127
    assert (np.abs(found - table[ids]) <= step_size[ids] * 0.501).all()
    assert not run(model, embeddings=True).changed


def learnt(model: Model, folder: Path, **options: object) -> Model:
    np.savez(folder / "calibration.npz", **feeds(32, seed=2))
    found = model.copy()
    run(found, Context(calibration=Samples(folder / "calibration.npz")), weights="learnt", **options)
    return found


@pytest.mark.parametrize("options", OPTIONS[2:], ids=str)
def test_learnt_weights_are_nearer(options: dict[str, object], tmp_path: Path) -> None:
    original = layers_model()
    wanted = Session(original).run(feeds(20))["y"]
    near = original.copy()
    run(near, **options)
    better = learnt(original, tmp_path, **options)
    onnx.checker.check_model(better.to_proto(), full_check=True)
    assert [n.op_type for n in better.to_proto().graph.node] == [
        n.op_type for n in near.to_proto().graph.node
    ]
    gain = snr(wanted, Session(better).run(feeds(20))["y"]) - snr(wanted, Session(near).run(feeds(20))["y"])
    assert gain > 1
    np.testing.assert_allclose(
        Session(better).run(feeds())["y"], Session(by_hand(better)).run(feeds())["y"], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("bias", ["x", "rows", "column"])
def test_a_layer_whose_bias_is_no_constant_vector_keeps_the_nearest(bias: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 21]>
    g (float[4,16] x) => (float[4,16] y) {{ [fc] y = Gemm (x, w, {bias}) }}""")
    for name, shape in (("w", (16, 16)), ("rows", (4, 16)), ("column", (4, 1))):
        values = rng.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    np.savez(tmp_path / "calibration.npz", x=rng.standard_normal((32, 16)).astype(np.float32))
    nearest = Model(onnx.ModelProto.FromString(proto.SerializeToString()))
    run(nearest, Context())
    found = Model(proto)
    run(found, Context(calibration=Samples(tmp_path / "calibration.npz")), weights="learnt")
    assert found.to_proto().SerializeToString() == nearest.to_proto().SerializeToString()


def test_learnt_is_the_same_each_time(tmp_path: Path) -> None:
    first, second = (learnt(layers_model(), tmp_path, bits=4, block=16) for _ in range(2))
    assert first.to_proto().SerializeToString(True) == second.to_proto().SerializeToString(True)


def test_bundled_network(tmp_path: Path) -> None:
    entry = zoo_entry("fashion-resnet")
    original = Model(entry.build())
    Pipeline(parse_passes("canonicalize")).run(original)
    assert entry.calibration is not None
    samples = Samples(entry.calibration)
    name = original.view.inputs[0].name
    (batch,) = samples.batches([name], 100, 100)
    wanted = next(iter(Session(original).run(batch).values()))
    found = {}
    for weights in ("nearest", "learnt"):
        model = original.copy()
        run(model, Context(calibration=samples), bits=4, block=32, weights=weights, samples=64)
        found[weights] = snr(wanted, next(iter(Session(model).run(batch).values())))
    assert found["nearest"] > 12
    assert found["learnt"] > found["nearest"] + 5
