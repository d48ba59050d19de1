"""Load and save lose nothing: what GraphSurgeon would drop is carried along."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from optc.models.errors import InputError
from optc.models.model import Model

LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("*.onnx"))


def _model(nodes: list[onnx.NodeProto], **graph: object) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])
    made = helper.make_graph(nodes, "g", [x], [y], **graph)  # type: ignore[arg-type]
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=11)


def metadata() -> onnx.ModelProto:
    node = helper.make_node("Relu", ["x"], ["y"], name="r", doc_string="a node")
    node.metadata_props.add(key="origin", value="layer 3")
    model = _model([node], doc_string="a graph")
    model.doc_string, model.producer_name, model.domain, model.model_version = "a model", "tests", "org.x", 7
    model.metadata_props.add(key="k", value="v")
    model.graph.metadata_props.add(key="gk", value="gv")
    model.graph.input[0].doc_string = "an input"
    model.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    model.graph.quantization_annotation.add(tensor_name="x")
    return model


def functions() -> onnx.ModelProto:
    relu = helper.make_node("LeakyRelu", ["a"], ["b"])
    relu.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=1))
    made = helper.make_function("local", "F", ["a"], ["b"], [relu], [helper.make_opsetid("", 21)], ["slope"])
    model = _model([helper.make_node("F", ["x"], ["y"], domain="local", slope=0.5)])
    model.functions.append(made)
    model.opset_import.append(helper.make_opsetid("local", 1))
    return model


def _branch(name: str, value: float) -> onnx.GraphProto:
    out = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, ["N", 4])
    constant = numpy_helper.from_array(np.full(4, value, np.float32), "c")
    add = helper.make_node("Add", ["x", "c"], [f"{name}_sum"])
    outer = helper.make_node("Mul", [f"{name}_sum", "outer"], [f"{name}_out"])
    return helper.make_graph([add, outer], name, [], [out], [constant])


def branches() -> onnx.ModelProto:
    node = helper.make_node("If", ["cond"], ["y"], then_branch=_branch("t", 1), else_branch=_branch("e", 2))
    initializers = [
        numpy_helper.from_array(np.array(True), "cond"),
        numpy_helper.from_array(np.ones(4, np.float32), "outer"),
    ]
    return _model([node], initializer=initializers)


def loop() -> onnx.ModelProto:
    scalar = TensorProto.BOOL
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["keep_in"], ["keep_out"]),
            helper.make_node("Add", ["v", "v"], ["v_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("keep_in", scalar, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, ["N", 4]),
        ],
        [
            helper.make_tensor_value_info("keep_out", scalar, []),
            helper.make_tensor_value_info("v_out", TensorProto.FLOAT, ["N", 4]),
        ],
    )
    trips = numpy_helper.from_array(np.array(3, np.int64), "trips")
    return _model([helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body)], initializer=[trips])


def sparse() -> onnx.ModelProto:
    values = helper.make_tensor("w", TensorProto.FLOAT, [2], [3.0, 5.0])
    indices = helper.make_tensor("w_indices", TensorProto.INT64, [2], [0, 5])
    model = _model([helper.make_node("MatMul", ["x", "w"], ["y"])])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4, 4]))
    return model


def _typed(dtype: type) -> onnx.ModelProto:
    tensor = numpy_helper.from_array(np.array([1, 2, -3, 1]).astype(dtype), "w")
    nodes = [
        helper.make_node("Cast", ["w"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "f"], ["y"]),
    ]
    return _model(nodes, initializer=[tensor])


def bfloat16() -> onnx.ModelProto:
    return _typed(ml_dtypes.bfloat16)


def float8() -> onnx.ModelProto:
    return _typed(ml_dtypes.float8_e4m3fn)


def int4() -> onnx.ModelProto:
    return _typed(ml_dtypes.int4)


def unknown_domain() -> onnx.ModelProto:
    model = _model([helper.make_node("Fancy", ["x"], ["y"], domain="com.example", strength=3)])
    model.opset_import.append(helper.make_opsetid("com.example", 4))
    return model


def devices() -> onnx.ModelProto:
    model = _model([helper.make_node("Relu", ["x"], ["y"], name="r")])
    model.configuration.add(name="pair", num_devices=2, device=["a", "b"])
    model.graph.node[0].device_configurations.add(configuration_id="pair", pipeline_stage=1)
    return model


def sequences() -> onnx.ModelProto:
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["s"]),
        helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0),
    ]
    info = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, ["N", 4])
    return _model(nodes, value_info=[info])


def type_attribute() -> onnx.ModelProto:
    wanted = helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", 4])
    return _model(
        [
            helper.make_node("Optional", ["x"], ["o"], type=wanted),
            helper.make_node("OptionalGetElement", ["o"], ["y"]),
        ]
    )


HAND_MADE = [
    metadata, functions, branches, loop, sparse, bfloat16, float8, int4, unknown_domain, devices, sequences,
    type_attribute,
]  # fmt: skip


def normal(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with what has no order in ONNX in one order, and tensors' data in one form."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    _normal_graph(made.graph)
    return made


def _normal_graph(graph: onnx.GraphProto) -> None:
    for field in (graph.initializer, graph.value_info):
        items = sorted(field, key=lambda t: t.name)
        del field[:]
        field.extend(items)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _normal_graph(attribute.g)


@pytest.mark.parametrize("make", HAND_MADE)
def test_load_and_save_gives_back_the_file(make: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    source = make()
    onnx.save(source, tmp_path / "a.onnx")
    Model.load(tmp_path / "a.onnx").save(tmp_path / "b.onnx")
    assert onnx.load(tmp_path / "b.onnx") == source


@pytest.mark.parametrize("make", HAND_MADE)
def test_a_trip_through_the_graph_loses_nothing(make: Callable[[], onnx.ModelProto]) -> None:
    source = make()
    model = Model(source)
    assert model.graph.nodes  # from here on the model counts as changed
    assert normal(model.to_proto()) == normal(source)


@pytest.mark.parametrize("path", LIGHT, ids=lambda p: p.stem)
def test_light_models_survive_the_graph(path: Path) -> None:
    source = onnx.load(path)
    model = Model.load(path)
    assert model.to_proto() == source
    assert model.graph.nodes
    again = model.to_proto()
    onnx.checker.check_model(again)
    assert list(again.graph.node) == list(source.graph.node)
    assert {t.name: t for t in again.graph.initializer} == {t.name: t for t in source.graph.initializer}
    assert {t.name: t for t in again.graph.input} == {t.name: t for t in source.graph.input}


def test_every_node_test_of_onnx_survives_the_graph() -> None:
    cases = collect_testcases(None)
    assert len(cases) > 1500
    for case in cases:
        model = Model(case.model)
        assert model.graph is not None
        assert normal(model.to_proto()) == normal(case.model), case.name


def test_an_edit_is_saved_and_the_rest_kept() -> None:
    model = Model(metadata())
    model.graph.nodes[0].op = "Sigmoid"
    proto = model.to_proto()
    assert proto.graph.node[0].op_type == "Sigmoid"
    assert proto.metadata_props[0].value == "v"
    assert proto.graph.input[0].doc_string == "an input"


def test_an_initializer_that_is_an_input_stays_one() -> None:
    source = _model([helper.make_node("Add", ["x", "w"], ["y"])])
    source.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "w"))
    source.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4]))
    model = Model(source)
    assert model.overridable == ["w"]
    assert model.graph.nodes
    assert [i.name for i in model.to_proto().graph.input] == ["x", "w"]


def _external(folder: Path) -> Path:
    source = _model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        initializer=[numpy_helper.from_array(np.arange(2048, dtype=np.float32).reshape(4, 512), "w")],
    )
    onnx.save(source, folder / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    return folder / "m.onnx"


def test_external_data_is_mapped_not_read(tmp_path: Path) -> None:
    model = Model.load(_external(tmp_path))
    values = model.graph.nodes[0].inputs[1].values
    assert isinstance(values.base, np.memmap) or isinstance(values, np.memmap)
    np.testing.assert_array_equal(values.ravel(), np.arange(2048))


@pytest.mark.parametrize("edit", [False, True])
@pytest.mark.parametrize("external", [None, False, True])
def test_external_data_is_written_and_read_again(tmp_path: Path, edit: bool, external: bool | None) -> None:
    model = Model.load(_external(tmp_path))
    assert not edit or model.graph.nodes
    out = tmp_path / "other"
    model.save(out / "n.onnx", external)
    assert (out / "n.onnx.data").exists() == (external is not False)
    again = Model.load(out / "n.onnx")
    np.testing.assert_array_equal(again.graph.nodes[0].inputs[1].values.ravel(), np.arange(2048))


def test_a_model_can_be_saved_over_its_own_external_data(tmp_path: Path) -> None:
    path = _external(tmp_path)
    Model.load(path).save(tmp_path / "m.onnx", external=True)
    model = Model.load(path)
    model.graph.nodes[0].name = "renamed"
    model.save(path)
    np.testing.assert_array_equal(Model.load(path).graph.nodes[0].inputs[1].values.ravel(), np.arange(2048))


def _entry(proto: onnx.ModelProto, key: str, value: str) -> None:
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == key:
            entry.value = value


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("location", "gone.bin", "missing"),
        ("location", "../m.bin", "outside the model's folder"),
        ("offset", "4096", "past the end"),
        ("length", "12", "has 12 bytes where its shape"),
    ],
)
def test_bad_external_data_is_refused(tmp_path: Path, key: str, value: str, message: str) -> None:
    path = _external(tmp_path)
    proto = onnx.load(path, load_external_data=False)
    _entry(proto, key, value)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match=message):
        Model.load(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "empty"), (b"no model", "not an ONNX file"), (b"\x08\x0a", "holds no ONNX graph")],
)
def test_files_that_are_no_models(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message):
        Model.load(path)


@pytest.mark.parametrize(("field", "message"), [("ir", "IR version 99"), ("opset", "opset 999 is unknown")])
def test_versions_that_are_unknown(field: str, message: str) -> None:
    proto = metadata()
    if field == "ir":
        proto.ir_version = 99
    else:
        proto.opset_import[0].version = 999
    with pytest.raises(InputError, match=message):
        Model(proto)


def test_saving_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        Model(metadata()).save(tmp_path / "file" / "m.onnx")


@pytest.mark.slow
def test_a_model_over_two_gigabytes(tmp_path: Path) -> None:
    """Loads lazily (no 2 GB in memory), writes again, and the bytes are those of the source."""
    size = 2**29 + 1024  # float32: just over 2 GB
    info = {"location": "big.bin", "offset": "0", "length": str(size * 4)}
    with (tmp_path / "big.bin").open("wb") as stream:
        stream.truncate(size * 4)
        stream.seek(size * 4 - 4)
        stream.write(np.float32(7).tobytes())
    tensor = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=[size], data_location=TensorProto.EXTERNAL
    )
    for key, value in info.items():
        tensor.external_data.add(key=key, value=value)
    nodes = [
        helper.make_node("ReduceMax", ["w"], ["m"], keepdims=0),
        helper.make_node("Add", ["x", "m"], ["y"]),
    ]
    (tmp_path / "big.onnx").write_bytes(_model(nodes, initializer=[tensor]).SerializeToString())
    model = Model.load(tmp_path / "big.onnx")
    model.graph.nodes[1].name = "edited"
    model.save(tmp_path / "out" / "big.onnx")
    again = Model.load(tmp_path / "out" / "big.onnx")
    assert again.stored_bytes() == size * 4
    assert again.view.nodes[0].inputs[0].values[-1] == 7


def test_a_negative_size_is_a_free_dimension() -> None:
    """Some exporters write -1."""
    text = '<ir_version: 10, opset_import: ["": 21]> g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }'
    source = onnx.parser.parse_model(text)
    for info in (source.graph.input[0], source.graph.output[0]):
        info.type.tensor_type.shape.dim[0].dim_value = -1
    model = Model(source)
    assert model.to_proto() == source
    assert model.view.inputs[0].shape == [None, 4] and model.view.outputs[0].shape == [None, 4]
    assert model.graph.nodes
    assert normal(model.to_proto()) == normal(source)
