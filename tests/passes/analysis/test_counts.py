import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optc.models.model import Model
from optc.passes.analysis.counts import count


def parse(text: str) -> Model:
    return Model(onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>' + text))


def with_weights(text: str, **shapes: tuple[int, ...]) -> Model:
    proto = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>' + text)
    for name, shape in shapes.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    return Model(proto)


def test_convolution() -> None:
    model = with_weights(
        "g (float[1,3,8,8] x) => (float[1,6,8,8] y) { y = Conv<pads=[1,1,1,1]>(x, w, b) }",
        w=(6, 3, 3, 3),
        b=(6,),
    )
    got = count(model)
    assert (got.nodes, got.parameters, got.bytes) == (1, 6 * 3 * 9 + 6, 4 * (6 * 3 * 9 + 6))
    assert got.macs == 6 * 8 * 8 * 3 * 9
    assert not got.free and got.unknown == 0


def test_grouped_convolution() -> None:
    model = with_weights(
        "g (float[1,4,8,8] x) => (float[1,4,6,6] y) { y = Conv<group=4>(x, w) }", w=(4, 1, 3, 3)
    )
    assert count(model).macs == 4 * 36 * 9


def test_transposed_convolution_counts_input_elements() -> None:
    model = with_weights(
        "g (float[1,4,5,5] x) => (float[1,6,n,m] y) { y = ConvTranspose<group=2, strides=[2,2]>(x, w) }",
        w=(4, 3, 2, 2),
    )
    # 4 x 25 input elements, each into 6 / 2 outputs at 4 positions.
    assert count(model).macs == 4 * 25 * 3 * 4
    assert not count(model).free


@pytest.mark.parametrize("attributes, a", [("", (2, 7)), ("<transA=1>", (7, 2))])
def test_gemm(attributes: str, a: tuple[int, int]) -> None:
    model = with_weights(f"g (float{list(a)} x) => (float[2,5] y) {{ y = Gemm{attributes}(x, w) }}", w=(7, 5))
    assert count(model).macs == 2 * 5 * 7


def test_matmul_of_two_inputs_with_a_free_batch() -> None:
    model = parse("g (float[N,4,7] x, float[N,7,3] y) => (float[N,4,3] z) { z = MatMul(x, y) }")
    got = count(model)
    assert got.macs == 4 * 3 * 7
    assert got.free and got.parameters == 0


def test_unknown_shapes_are_said() -> None:
    model = parse("g (float x, float y) => (float z) { z = MatMul(x, y) }")
    assert (count(model).macs, count(model).unknown) == (0, 1)


def test_shapes_are_inferred_through_reshapes_of_computed_shapes() -> None:
    model = with_weights(
        """g (float[2,3,4] x) => (float[n,5] y) {
            s = Shape<start=2>(x) k = Constant<value=int64[1] {-1}>() t = Concat<axis=0>(k, s)
            r = Reshape(x, t) y = MatMul(r, w) }""",
        w=(4, 5),
    )
    assert count(model).macs == 6 * 5 * 4


def qdq_model() -> Model:
    text = """g (float[1,3,8,8] x) => (float[1,6,8,8] y) {
        q = QuantizeLinear(x, sx, zx) d = DequantizeLinear(q, sx, zx)
        wd = DequantizeLinear<axis=0>(w, sw, zw) bd = DequantizeLinear<axis=0>(b, sb)
        y = Conv<pads=[1,1,1,1]>(d, wd, bd) }"""
    proto = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>' + text)
    arrays = {
        "sx": np.float32(0.1),
        "zx": np.uint8(3),
        "w": np.ones((6, 3, 3, 3), np.int8),
        "sw": np.ones(6, np.float32),
        "zw": np.zeros(6, np.int8),
        "b": np.zeros(6, np.int32),
        "sb": np.ones(6, np.float32),
    }
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items())
    return Model(proto)


def test_quantized_model_keeps_its_parameters_and_macs() -> None:
    got = count(qdq_model())
    assert got.macs == 6 * 8 * 8 * 3 * 9
    assert got.parameters == 6 * 3 * 9 + 6
    assert got.bytes == 162 + 6 * 4 + 6 * 4 + 6 * 4 + 6 + 4 + 1


def test_subgraphs_count_once_and_see_outer_shapes() -> None:
    then = onnx.parser.parse_graph("t () => (float[2,5] a) { a = MatMul(x, w) }")
    other = onnx.parser.parse_graph("e () => (float[2,5] b) { b = MatMul(x, w) }")
    node = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5])],
        [numpy_helper.from_array(np.ones((3, 5), np.float32), "w")],
    )
    model = Model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    assert count(model) == count(model)
    assert (count(model).nodes, count(model).macs, count(model).parameters) == (3, 2 * 2 * 5 * 3, 15)


def test_counting_does_not_touch_the_model() -> None:
    model = with_weights("g (float[1,9000] x) => (float[1,2] y) { y = MatMul(x, w) }", w=(9000, 2))
    before = model.to_proto().SerializeToString(deterministic=True)
    assert count(model).macs == 18000
    assert model.to_proto().SerializeToString(deterministic=True) == before
    assert not model.changed


def test_constant_nodes_are_parameters_but_no_nodes() -> None:
    model = parse(
        "g (float[2] x) => (float[2] y) { c = Constant<value=float[2] {1.0, 2.0}>() y = Add(x, c) }"
    )
    assert (count(model).nodes, count(model).parameters, count(model).bytes) == (1, 2, 8)


def test_a_negative_size_counts_as_a_free_one() -> None:
    model = with_weights("g (float[N,4] x) => (float[N,3] y) { y = MatMul(x, w) }", w=(4, 3))
    proto = model.to_proto()
    for info in (proto.graph.input[0], proto.graph.output[0]):
        info.type.tensor_type.shape.dim[0].dim_value = -1
    got = count(Model(proto))
    assert got.macs == 12 and got.free
