"""Which nodes become float16 or bfloat16, where Casts stand, and that what comes out runs and is near."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from optc.models.data import Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.models.zoo import zoo_entry
from optc.passes.base import Context
from optc.passes.convert_floats.convert_floats import ConvertFloats
from optc.passes.pipeline import Pipeline
from optc.passes.registry import parse_passes

HEADER = '<ir_version: 10, opset_import: ["": 21]>\n'
LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("*.onnx"))


def convert(
    text: str, p: ConvertFloats | None = None, calibration: Path | None = None, header: str = HEADER
) -> tuple[onnx.ModelProto, Context]:
    """Run the pass on a model; the result is valid, and a second run leaves it alone."""
    p = p or ConvertFloats()
    model = Model(onnx.parser.parse_model(header + text))
    context = Context(calibration=Samples(calibration) if calibration else None)
    before = model.to_proto()
    changed = p.run(model, context)
    after = model.to_proto()
    check(after)
    assert changed or after == before
    if p.ends == "float32":
        assert not p.run(Model(after), Context(calibration=context.calibration)), "a second run changed more"
    return after, context


def check(proto: onnx.ModelProto) -> None:
    """Valid, types and all, and no Cast reads a Cast."""
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    casts = {o for n in proto.graph.node if n.op_type == "Cast" for o in n.output}
    assert not [n.name for n in proto.graph.node if n.op_type == "Cast" and n.input[0] in casts]


def ops(proto: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in proto.graph.node]


def types(proto: onnx.ModelProto) -> dict[str, str]:
    """The element type of each value."""
    graph = onnx.shape_inference.infer_shapes(proto).graph
    found = {t.name: t.data_type for t in graph.initializer}
    for info in (*graph.value_info, *graph.input, *graph.output):
        found[info.name] = info.type.tensor_type.elem_type
    return {name: TensorProto.DataType.Name(kind) for name, kind in found.items()}


def reasons(context: Context) -> dict[str, str]:
    return {d.where: d.reason for d in context.declined}


def outputs(proto: onnx.ModelProto, **feeds: Any) -> dict[str, np.ndarray]:
    return Session(Model(proto)).run(feeds)


LAYER = "float[2,2] w = {1.5, -2.25, 0.5, 3}"


def test_before_and_after() -> None:
    """Casts stand at the ends only; the weight is small; names of ends and inner values stay."""
    after, context = convert(
        f"g (float[N,2] x) => (float[N,2] y) <{LAYER}> {{ h = MatMul(x, w) r = Relu(h) y = Neg(r) }}"
    )
    assert ops(after) == ["Cast", "MatMul", "Relu", "Neg", "Cast"]
    assert [(n.input[0], n.output[0]) for n in after.graph.node] == [
        ("x", "x_float16"),
        ("x_float16", "h"),
        ("h", "r"),
        ("r", "y_float16"),
        ("y_float16", "y"),
    ]
    assert types(after) == {"x": "FLOAT", "y": "FLOAT"} | dict.fromkeys(
        ("w", "x_float16", "h", "r", "y_float16"), "FLOAT16"
    )
    assert context.facts == {"converted": 3, "casts": 2, "constants": 1, "underflow": {}}
    x = np.array([[1, 2]], np.float32)
    np.testing.assert_array_equal(outputs(after, x=x)["y"], -np.maximum(x @ [[1.5, -2.25], [0.5, 3]], 0))


def test_one_cast_for_all_readers_and_one_constant_a_type() -> None:
    after, _ = convert(
        f"""g (float[2,2] x) => (float[2,2] y, float[2,2] z) <{LAYER}> {{
        h = MatMul(x, w) a = Softplus(h) b = Softplus(w) c = Add(h, x) y = Mul(c, a) z = Mul(h, b) }}"""
    )
    assert sorted(ops(after)) == sorted(
        ["MatMul", "Add", "Mul", "Mul", "Softplus", "Softplus", "Cast", "Cast"] + ["Cast"] * 4
    )  # x; h to float32; a and b back; y and z
    assert types(after)["w"] == "FLOAT" and types(after)["w_float16"] == "FLOAT16"


@pytest.mark.parametrize("to", ["float16", "bfloat16"])
def test_ends_converted(to: Any) -> None:
    after, _ = convert(
        f"g (float[2,2] x) => (float[2,2] y, float[2,2] z) <{LAYER}> {{ y = MatMul(x, w) z = Exp(y) }}",
        ConvertFloats(to=to, ends="converted"),
    )
    kinds = types(after)
    assert {kinds[n] for n in ("x", "w", "y", "z")} == {to.upper()}
    assert ops(after) == ["MatMul", "Cast", "Exp", "Clip", "Cast"], "what Exp makes is cut to the range"


def test_ends_converted_after_the_rest_takes_the_casts_out() -> None:
    once, _ = convert(f"g (float[2,2] x) => (float[2,2] y) <{LAYER}> {{ y = MatMul(x, w) }}")
    model = Model(once)
    assert ConvertFloats(ends="converted").run(model, Context())
    assert ops(model.to_proto()) == ["MatMul"]
    check(model.to_proto())


def test_a_chain_without_a_layer_stays() -> None:
    text = "g (float[2,2] x) => (float[2,2] y) { h = Relu(x) y = Sigmoid(h) }"
    after, context = convert(text)
    assert ops(after) == ["Relu", "Sigmoid"] and "only Casts" in reasons(context)["h (Relu)"]
    assert not context.facts
    after, _ = convert(text, ConvertFloats(ends="converted"))
    assert ops(after) == ["Relu", "Sigmoid"] and set(types(after).values()) == {"FLOAT16"}


def test_an_end_beyond_the_range_stays(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", x=np.float32([[1e5, 1e5], [0, 1]]))
    after, context = convert(
        "g (float[1,2] x) => (float[1,2] y) <float[2,2] w = {1, 2, 1, 2}> { y = MatMul(x, w) }",
        ConvertFloats(ends="converted"),
        calibration=tmp_path / "s.npz",
    )
    found = reasons(context)
    assert found["x (an end of the graph)"] == "it reached 1e+05 on the samples, float16 reaches 65504"
    assert "y (an end of the graph)" in found and set(types(after).values()) == {"FLOAT"}


def test_an_input_that_is_an_output_stays() -> None:
    after, _ = convert(
        f"g (float[1,2] x) => (float[1,2] y, float[1,2] x) <{LAYER}> {{ y = MatMul(x, w) }}",
        ConvertFloats(ends="converted"),
    )
    assert types(after) | {"x": "FLOAT", "y": "FLOAT16"} == types(after)


def test_names_of_new_nodes_are_new() -> None:
    """ONNX Runtime takes no two nodes of one name."""
    after, _ = convert(
        f"""g (float[1,2] x) => (float[1,2] y, float[1,2] z) <{LAYER}>
        {{ [x_float16_Cast] y = MatMul(x, w) [y_Cast] z = Exp(x) }}"""
    )
    names = [n.name for n in after.graph.node]
    assert "Cast" in ops(after) and len(set(names)) == len(names)
    outputs(after, x=np.ones((1, 2), np.float32))


def test_the_end_of_a_float32_node_may_need_a_cast_anyway() -> None:
    after, _ = convert(
        "g (float[2] x) => (float[2] y) { h = Softplus(x) y = Relu(h) }", ConvertFloats(ends="converted")
    )
    assert ops(after) == ["Cast", "Softplus", "Cast", "Relu"]


def test_a_cast_of_an_output_reads_what_the_node_makes() -> None:
    after, _ = convert(
        f"""g (float[2,2] x) => (float[2,2] y, int32[2,2] z) <{LAYER}> {{
        y = MatMul(x, w) z = Cast <to=6> (y) }}"""
    )
    assert [list(n.input) for n in after.graph.node if n.output[0] in "yz"] == [["y_float16"], ["y_float16"]]


def test_keep() -> None:
    text = (
        f"g (float[2,2] x) => (float[2,2] y) <{LAYER}> {{ [first] h = MatMul(x, w) [last] y = MatMul(h, w) }}"
    )
    after, context = convert(text, ConvertFloats(keep=("fir*",)))
    assert ops(after) == ["MatMul", "Cast", "MatMul", "Cast"]
    assert reasons(context) == {"first (MatMul)": "the option keep names it"}
    with pytest.raises(
        InputError, match="convert-floats: no node matches 'third'; the nodes are first, last"
    ):
        convert(text, ConvertFloats(keep=("third",)))


NOT_TAKEN = [
    ("LayerNormalization <axis=-1> (h, one)", "it adds up squares"),
    ("Pow(h, one)", "soon passes the range"),
    ("Add(h, big)", "its constant 'big' reaches 1e+05, float16 65504"),
    ("Add(h, tiny)", "its constant 'tiny' is 1e-12 at most, too small for float16"),
    ("ReduceMean <keepdims=1> (h, last)", "it adds up many values"),
]


@pytest.mark.parametrize(("call", "reason"), NOT_TAKEN)
def test_what_stays_float32(call: str, reason: str) -> None:
    after, context = convert(
        f"""g (float[2,2] x) => (float[2,2] y) <{LAYER}, float[1] big = {{100000}}, float[1] tiny = {{1e-12}},
        float[2] one = {{1, 1}}, int64[1] last = {{-1}}> {{ h = MatMul(x, w) d = {call} y = Mul(d, h) }}"""
    )
    (declined,) = context.declined
    assert declined.where == f"d ({call.split('(')[0].split()[0]})"
    assert reason in declined.reason
    assert types(after)["d"] == "FLOAT" and types(after)["h"] == "FLOAT16"


def test_a_large_result_is_cut_before_its_cast() -> None:
    """A mask of -1e9 stays large in float16, and not infinite."""
    after, _ = convert(
        f"""g (float[2,2] x, float[2,2] m) => (float[2,2] y) <{LAYER}, float[1] big = {{-1e9}}> {{
        h = MatMul(x, w) k = Mul(m, big) y = Add(h, k) }}"""
    )
    assert ops(after) == ["Cast", "MatMul", "Mul", "Clip", "Cast", "Add", "Cast"]
    y = outputs(after, x=np.zeros((2, 2), np.float32), m=np.eye(2, dtype=np.float32))["y"]
    np.testing.assert_array_equal(y, np.eye(2) * -65504)


SOFTMAX = [(2048, 21, "MatMul", -1), (2049, 21, "Softmax", -1), (64, 12, "Softmax", 1), (40, 12, "MatMul", 1)]


@pytest.mark.parametrize(("size", "opset", "last", "axis"), SOFTMAX)
def test_softmax_over_a_long_axis_stays(size: int, opset: int, last: str, axis: int) -> None:
    """Before opset 13 it runs over all axes from `axis` on, here 64 * size or 40 * size."""
    rows = 64 if size == 64 else 40
    after, context = convert(
        f"""g (float[1,{rows},2] x) => (float[1,{rows},{size}] y) <int64[2] s = {{2, {size}}}> {{
        w = ConstantOfShape <value = float[1] {{0.5}}> (s) h = MatMul(x, w)
        y = Softmax <axis={axis}> (h) }}""",
        header=HEADER.replace("21]", f"{opset}]"),
    )
    kinds = types(after)
    assert (kinds["h"], "y (Softmax)" in reasons(context)) == ("FLOAT16", last == "Softmax")
    after, context = convert(
        f"g (float[2,2] x, float[2,N] v) => (float[2,N] y) <{LAYER}> {{ h = MatMul(x, v) y = Softmax(h) }}"
    )
    assert "may be longer than 2048" in reasons(context)["y (Softmax)"]


def test_infinite_constants_are_no_obstacle(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", x=np.eye(2, dtype=np.float32)[None], m=np.eye(2, dtype=bool)[None])
    after, context = convert(
        f"""g (float[1,2,2] x, bool[1,2,2] m) => (float[1,2,2] y) <{LAYER}, float low = {{-inf}}> {{
        h = MatMul(x, w) k = Where(m, h, low) y = Softmax(k) }}""",
        calibration=tmp_path / "s.npz",
    )
    assert not context.declined and ops(after) == ["Cast", "MatMul", "Where", "Softmax", "Cast"]


@pytest.mark.parametrize(("scale", "left"), [(1.0, ""), (1e4, "h"), (3e4, "hk")])
def test_what_was_seen_near_the_end_of_the_range_stays(tmp_path: Path, scale: float, left: str) -> None:
    """h is 4 * scale: 4; 40000, whose node stays; 120000, whose reader stays as well."""
    path = tmp_path / "samples.npz"
    np.savez(path, x=np.float32([[scale, scale], [0, 1]]))
    after, context = convert(
        """g (float[1,2] x) => (float[1,2] y)
        <float[2,2] w = {2, 1, 2, 1}, float[2,2] v = {0.01, 0, 0, 0.01}> {
        h = MatMul(x, w) k = MatMul(h, v) y = MatMul(k, v) }""",
        calibration=path,
    )
    wanted = {
        "h (MatMul)": f"its output reached {4 * scale:.3g} on the samples, float16 65504",
        "k (MatMul)": "its input 'h' reached 1.2e+05 on the samples, float16 65504",
    }
    assert reasons(context) == {where: wanted[where] for where in wanted if where[0] in left}
    assert ops(after).count("Clip") == (left == "h"), "near the end, it is cut before its Cast"
    y = outputs(after, x=np.full((1, 2), scale, np.float32))["y"]
    np.testing.assert_allclose(y, scale * np.array([[4e-4, 2e-4]]), rtol=3e-3)


def test_schema_decides() -> None:
    """Scales of a Resize and statistics of a BatchNormalization stay, the bounds of a Clip do not; Range has
    no float16.
    """
    after, context = convert(
        """g (float[1,1,2,2] x, float a) => (float[1,1,4,4] y, float[M] r)
        <float[4] s = {1, 1, 2, 2}, float[1,1,1,1] w = {2}, float[1] v = {1}, float zero = {0},
        float six = {6}> { c = Conv(x, w) b = BatchNormalization(c, v, v, v, v) k = Clip(b, zero, six)
        y = Resize(k, , s) r = Range(zero, a, six) }"""
    )
    kinds = types(after)
    assert [kinds[n] for n in ("s", "v", "w", "zero", "six")] == [
        "FLOAT",
        "FLOAT",
        "FLOAT16",
        "FLOAT",
        "FLOAT",
    ]
    assert [kinds[n] for n in ("zero_float16", "six_float16", "c", "b", "k")] == ["FLOAT16"] * 5
    assert "Range takes no float16" in reasons(context)["r (Range)"]


def test_bfloat16_has_no_convolution_before_opset_22() -> None:
    text = "g (float[1,1,2,2] x) => (float[1,1,2,2] y) <float[1,1,1,1] w = {2}> { y = Conv(x, w) }"
    after, context = convert(text, ConvertFloats(to="bfloat16"))
    assert ops(after) == ["Conv"]
    assert reasons(context)["y (Conv)"] == "Conv takes no bfloat16 before opset 22; the model has opset 21"
    after, context = convert(text, ConvertFloats(to="bfloat16"), header=HEADER.replace("21", "22"))
    assert ops(after) == ["Cast", "Conv", "Cast"] and not context.declined
    after, context = convert(text, ConvertFloats(to="bfloat16"), header=HEADER.replace("21", "11"))
    assert "Cast takes no bfloat16 before opset 13" in reasons(context)["graph g"]


def test_casts_and_fills_of_the_model_make_the_small_type_themselves() -> None:
    after, _ = convert(
        f"""g (int64[2,2] i, float16[2,2] f, int64[1] n) => (float[2,2] y, int32[2,2] z, float[2,2] u)
        <{LAYER}> {{
        a = Cast <to=1> (i) b = Cast <to=1> (f) c = ConstantOfShape <value = float[1] {{2.5}}> (n)
        h = MatMul(a, w) k = Add(h, b) l = Mul(k, c) d = Constant <value_float = 0.5> () y = Mul(l, d)
        z = Cast <to=6> (k) u = Exp(a) }}"""
    )
    nodes = {n.output[0]: n for n in after.graph.node}
    kinds = types(after)
    assert kinds["c"] == "FLOAT16" and kinds["a"] == "FLOAT" and kinds["a_float16"] == "FLOAT16"
    assert nodes["a_float16"].input[0] == "i", "from the integers at once"
    assert list(nodes["k"].input) == ["h", "f"] and "b" not in nodes
    assert nodes["z"].input[0] == "k" and "Constant" not in ops(after)
    assert ops(after).count("Cast") == 4
    feeds = {"i": np.array([[1, 2], [3, 4]]), "f": np.ones((2, 2), np.float16), "n": np.array([1])}
    np.testing.assert_array_equal(outputs(after, **feeds)["z"], [[3, 4], [7, 6]])


def test_a_cast_of_the_model_to_the_small_type_goes() -> None:
    after, _ = convert(
        f"""g (float[2,2] x) => (float16[2,2] y) <{LAYER}> {{
        h = MatMul(x, w) k = Cast <to=10> (h) y = Neg(k) }}"""
    )
    assert ops(after) == ["Cast", "MatMul", "Neg"]


def test_bodies_stay_float32() -> None:
    after, context = convert(
        f"""g (float[2,2] x, bool c) => (float[2,2] y) <{LAYER}> {{ h = MatMul(x, w)
        k = If (c) <then_branch = t () => (float[2,2] p) {{ p = Add(h, w) }},
        else_branch = e () => (float[2,2] q) {{ q = Neg(h) }}> y = MatMul(k, w) }}"""
    )
    assert ops(after) == ["Cast", "MatMul", "Cast", "If", "Cast", "MatMul", "Cast"]
    assert reasons(context) == {"k (If)": "the graphs inside it stay float32"}
    x = np.ones((2, 2), np.float32)
    for c in (True, False):
        h = x @ [[1.5, -2.25], [0.5, 3]]
        wanted = (h + [[1.5, -2.25], [0.5, 3]] if c else -h) @ [[1.5, -2.25], [0.5, 3]]
        np.testing.assert_allclose(outputs(after, x=x, c=np.array(c))["y"], wanted, rtol=1e-3)


def test_the_quantized_part_stays() -> None:
    after, context = convert(
        f"""g (float[2,2] x) => (float[2,2] y)
        <{LAYER}, float s = {{0.5}}, int8 z = {{0}}, int8[2,2] i = {{1,2,3,4}}> {{
        q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) v = DequantizeLinear(i, s, z)
        h = MatMul(d, v) y = MatMul(h, w) }}"""
    )
    quantized = ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "MatMul"]
    assert ops(after) == [*quantized, "Cast", "MatMul", "Cast"]
    assert set(reasons(context).values()) == {"it belongs to the quantized part, whose scales are float32"}


def test_a_layer_that_quantization_left_float_is_converted() -> None:
    """Mixed precision: the layers that lose most stay in 16 bits of float, between codes."""
    after, _ = convert(
        f"""g (float[2,2] x) => (float[2,2] y) <{LAYER}, float s = {{0.5}}, int8 z = {{0}}> {{
        q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) h = MatMul(d, w) r = Relu(h)
        e = QuantizeLinear(r, s, z) y = DequantizeLinear(e, s, z) }}"""
    )
    codes = ["QuantizeLinear", "DequantizeLinear"]
    assert ops(after) == [*codes, "Cast", "MatMul", "Cast", "Relu", *codes]


def test_other_domains_and_sequences_stay() -> None:
    after, context = convert(
        f"""g (float[2,2] x) => (float[A,B] y) <{LAYER}> {{ h = MatMul(x, w) s = SequenceConstruct(h, h)
        k = ConcatFromSequence <axis=0> (s) y = other.Twice(k) }}""",
        header=HEADER.replace("21]", '21, "other": 1]'),
    )
    assert ops(after)[:3] == ["Cast", "MatMul", "Cast"]
    found = reasons(context)
    assert found["s (SequenceConstruct)"] == "'s' is no tensor of a known type"
    assert (
        found["y (Twice)"] == "'k' is no tensor of a known type"
        or "ONNX does not define" in found["y (Twice)"]
    )


def test_overridable_weights_stay_inputs() -> None:
    proto = onnx.parser.parse_model(
        HEADER + f"g (float[2,2] x, float[2,2] w) => (float[2,2] y) <{LAYER}> {{ y = MatMul(x, w) }}"
    )
    assert [t.name for t in proto.graph.initializer] == ["w"]
    model = Model(proto)
    assert ConvertFloats().run(model, Context())
    after = model.to_proto()
    check(after)
    assert ops(after) == ["Cast", "Cast", "MatMul", "Cast"] and types(after)["w"] == "FLOAT"


def test_sparse_constants_are_cast() -> None:
    proto = onnx.parser.parse_model(
        HEADER + f"g (float[2,2] x) => (float[2,2] y) <{LAYER}> {{ h = MatMul(x, w) y = Add(h, c) }}"
    )
    values, places = np.array([2.0], np.float32), np.array([3])
    sparse = onnx.helper.make_sparse_tensor(
        numpy_helper.from_array(values, "v"), numpy_helper.from_array(places, "i"), [2, 2]
    )
    proto.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["c"], sparse_value=sparse))
    model = Model(proto)
    assert ConvertFloats().run(model, Context())
    after = model.to_proto()
    check(after)
    assert ops(after) == ["Cast", "Constant", "Cast", "MatMul", "Add", "Cast"]
    assert after.graph.node[1].attribute[0].sparse_tensor.values.data_type == TensorProto.FLOAT


def test_what_underflows_is_told() -> None:
    proto = onnx.parser.parse_model(HEADER + "g (float[1,4] x) => (float[1,1] y) { y = MatMul(x, w) }")
    w = np.array([[1], [1e-9], [1e-5], [0]], np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(w, "w"))
    context = Context()
    ConvertFloats().run(Model(proto), context)
    assert context.facts["underflow"] == {"w": {"zero": 1, "subnormal": 1}}


def test_a_graph_that_contradicts_itself() -> None:
    text = f"g (int64[2,2] x) => (float[2,2] y) <{LAYER}> {{ y = MatMul(x, w) }}"
    model, context = Model(onnx.parser.parse_model(HEADER + text)), Context()
    assert not ConvertFloats().run(model, context)
    assert "types cannot be inferred" in context.declined[0].reason


def test_options() -> None:
    (p,) = parse_passes("convert-floats{to=bfloat16,keep=[head],ends=converted,samples=3}")
    assert p == ConvertFloats("bfloat16", ("head",), "converted", 3)
    assert str(Pipeline((p,))) == "convert-floats{to=bfloat16,keep=[head],ends=converted,samples=3}"
    with pytest.raises(InputError, match="samples 0"):
        ConvertFloats(samples=0)


@pytest.mark.parametrize("ends", ["float32", "converted"])
@pytest.mark.parametrize("path", LIGHT, ids=lambda p: p.stem)
def test_light_models(path: Path, ends: Any) -> None:
    model, p = Model.load(path), ConvertFloats(ends=ends)
    assert p.run(model, Context())
    check(model.to_proto())
    assert not p.run(Model(model.to_proto()), Context())


NETWORKS = ["resnet18-v2", "mobilenet-v2", "inception", "gpt-decoder"]


@pytest.mark.parametrize("name", [*NETWORKS, pytest.param("bert-encoder", marks=pytest.mark.slow)])
def test_built_networks(name: str) -> None:
    model = Model(zoo_entry(name).build())
    assert ConvertFloats().run(model, Context())
    proto = model.to_proto()
    check(proto)
    assert not ConvertFloats().run(Model(proto), Context())


@pytest.mark.parametrize(("to", "least"), [("float16", 55), ("bfloat16", 35)])
def test_fashion_resnet(to: Any, least: float) -> None:
    entry = zoo_entry("fashion-resnet")
    model = Model(entry.build())
    passes = parse_passes(f"canonicalize{{opset=22}},convert-floats{{to={to},samples=8}}")
    before = model.copy()
    assert entry.calibration and entry.test
    Pipeline(passes).run(model, Context(calibration=Samples(entry.calibration)))
    check(model.to_proto())
    name = model.view.inputs[0].name
    feeds = next(Samples(entry.test).batches([name], 32))
    (wanted,), (found,) = Session(before).run(feeds).values(), Session(model).run(feeds).values()
    assert 10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum()) > least
    assert model.stored_bytes() < 0.51 * before.stored_bytes()
    assert ops(model.to_proto()).count("Cast") == 2
