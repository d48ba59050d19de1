from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from sharded import Moved, check_sharded, random_feeds

from optc.models.model import Model
from optc.models.zoo import inception, mobilenet, resnet, squeezenet
from optc.models.zoo.bert import BertSizes, build_bert_encoder
from optc.models.zoo.builder import RandomParameters
from optc.models.zoo.gpt import GptSizes, build_gpt_decoder
from optc.models.zoo.unet import build_unet
from optc.passes.partition.cluster import Device, Link
from optc.passes.partition.problem import Problem
from optc.passes.partition.sharding.collectives import move_seconds, received, reduce_seconds
from optc.passes.partition.sharding.layout import Layout, Sharding, Spec, Split
from optc.passes.partition.sharding.problem import sharded_problem
from optc.passes.partition.sharding.search import shard
from optc.passes.partition.sharding.work import Work

DEVICE = Device("d", macs_per_second=1e9, bytes_per_second=1e9, memory_bytes=10**9)
LINK = Link(1e-7, 1e10)
SLOW = Link(1.0, 1e3)


def parse(text: str, **shapes: tuple[int, ...]) -> Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g {text}')
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        array = rng.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return Model(proto)


def seconds(model: Model, sharding: Sharding, link: Link = LINK) -> float:
    return sharded_problem(model, sharding, DEVICE, link).seconds


def check_needed(model: Model, sharding: Sharding, moved: list[Moved]) -> None:
    """Each collective is one that a value needs, and there is none twice."""
    assert len(moved) == len(set(moved))
    have: dict[str, Spec] = {}
    summed = set()
    for node in model.view.nodes:
        layout = sharding.layouts.get(node.outputs[0].name)
        if layout is not None:
            have |= {t.name: spec for t, spec in zip(node.outputs, layout.outputs, strict=True)}
            summed |= {node.outputs[0].name} if layout.reduce else set()
    for move in moved:
        if move.kind in ("all_reduce", "reduce_scatter"):
            assert move.value in summed
        else:
            assert have[move.value] not in (None, move.to)
    gathered = {move.value for move in moved if move.kind == "all_gather"}
    others = {move.value for move in moved if move.kind in ("all_to_all", "halo")}
    assert not gathered & others, "what is whole everywhere needs no other collective"
    assert summed <= {move.value for move in moved}


def layer(hidden: int = 64, heads: int = 4) -> Model:
    return Model(build_gpt_decoder(GptSizes(2, hidden, heads, 40, 16)))


@pytest.mark.parametrize(("count", "heads"), [(2, 4), (3, 6), (4, 4), (8, 8)])
def test_the_layout_of_megatron_comes_out_for_a_transformer(count: int, heads: int) -> None:
    model = layer(16 * heads, heads)
    sharding = shard(model, DEVICE, Link(2e-6, 1e10), count)
    moved = check_sharded(model, sharding, random_feeds(model, batch=2, sequence=5))
    inner = [move for move in moved if move.value.startswith("layer")]
    assert inner == [
        Moved("all_reduce", f"layer{i}.{part}.matmul", None)
        for i in range(2)
        for part in ("attention.output", "outer")
    ]
    assert {move.value for move in moved if move not in inner} <= {"logits"}
    for layout in (sharding.layouts[f"layer{i}.attention.scores"] for i in range(2)):
        assert layout.outputs[0] is not None and layout.outputs[0].axis == 1


def test_uneven_heads_are_cut_between_heads() -> None:
    model = layer(hidden=60, heads=5)
    sharding = shard(model, DEVICE, Link(1e-6, 1e10), 3)
    features = sharding.layouts["layer0.attention.query.matmul"].outputs[0]
    assert features == Split(2, ((0, 12), (12, 36), (36, 60)))
    assert sharding.layouts["layer0.attention.scores"].outputs[0] == Split(1, ((0, 1), (1, 3), (3, 5)))
    check_sharded(model, sharding, random_feeds(model, batch=1, sequence=7))


def test_nothing_is_sharded_where_the_link_is_slow() -> None:
    for count in (2, 8):
        assert shard(layer(), DEVICE, SLOW, count) == Sharding(count, {})
    assert shard(layer(), DEVICE, LINK, 1) == Sharding(1, {})


def test_a_narrow_beam_is_never_slower_than_all_whole() -> None:
    model = parse(
        "(float[4,64] x) => (float[4,64] y) { a = MatMul(x, u) b = Softmax(a) y = MatMul(b, v) }",
        u=(64, 64),
        v=(64, 64),
    )
    assert shard(model, DEVICE, SLOW, 2, beam=1) == Sharding(2, {})


def test_heads_that_are_too_few_do_not_keep_others_from_being_cut() -> None:
    model = parse(
        "(float[1,12,3,3] x) => (float[1,12,3,3] y) { a = Conv(x, k) s = Constant<value_ints = [1,2,6,3,3]>()"
        " b = Reshape(a, s) c = Transpose<perm = [0,2,1,3,4]>(b) t = Constant<value_ints = [1,12,3,3]>()"
        " d = Reshape(c, t) y = Conv(d, k) }",
        k=(12, 12, 1, 1),
    )
    work = Work(model, DEVICE, LINK, 3)
    channels = Split(1, ((0, 4), (4, 8), (8, 12)))
    by_name = dict(zip(work.names, work.layouts(), strict=True))
    assert channels in {layout.outputs[0] for layout in by_name["a"]}
    assert channels not in {layout.inputs[0] for layout in by_name["b"]}
    check_sharded(model, shard(model, DEVICE, LINK, 3), random_feeds(model))


def weights(problem: Problem) -> int:
    return sum(weight.bytes for weight in problem.weights)


def test_layouts_keep_to_the_bytes_of_weights_that_a_device_has_room_for() -> None:
    model = layer()
    whole = weights(Problem.of(model, DEVICE))
    times = []
    for part in (1.0, 0.8, 0.5, 0.3):
        sharding = shard(model, DEVICE, SLOW, 4, weights=int(part * whole))
        problem = sharded_problem(model, sharding, DEVICE, SLOW)
        assert weights(problem) <= part * whole
        times.append(problem.seconds)
    assert times == sorted(times) and times[0] < times[-1]
    least = sharded_problem(model, shard(model, DEVICE, SLOW, 4, weights=0), DEVICE, SLOW)
    assert whole / 4 <= weights(least) < 0.3 * whole and times[1] < least.seconds


def test_what_is_gathered_for_one_reader_is_there_for_all() -> None:
    have, other = Split(0, ((0, 2), (2, 4))), Split(1, ((0, 1), (1, 3)))
    halo, inner = Split(0, ((0, 3), (1, 4))), Split(0, ((0, 1), (2, 4)))
    assert received(have, [have, inner]) == set()
    assert received(have, [other, halo, other]) == {other, halo}
    assert received(have, [other, None, halo]) == {None}
    assert received(None, [other, None]) == set()


def test_only_that_part_is_sharded_that_is_worth_it() -> None:
    model = parse(
        "(float[N,8] x) => (float[N,2] y) { a = MatMul(x, u) b = Relu(a) c = MatMul(b, v) y = MatMul(c, w) }",
        u=(8, 4000),
        v=(4000, 2),
        w=(2, 2),
    )
    sharding = shard(model, DEVICE, Link(1e-6, 1e9), 2)
    assert set(sharding.layouts) == {"a", "b", "c"} and sharding.layouts["c"].reduce


def test_all_whole_is_the_problem_of_the_model() -> None:
    model = layer()
    assert sharded_problem(model, Sharding(4, {}), DEVICE, LINK) == Problem.of(model, DEVICE)


def test_a_sharded_problem_has_the_shares_of_one_device() -> None:
    model = parse(
        "(float[2,8] x) => (float[2,3] y) { a = MatMul(x, u) b = Relu(a) y = MatMul(b, v) }",
        u=(8, 6),
        v=(6, 3),
    )
    cuts = ((0, 2), (2, 6))
    column = Layout((None, Split(1, cuts)), (Split(1, cuts),))
    middle = Layout((Split(1, cuts),), (Split(1, cuts),))
    row = Layout((Split(1, cuts), Split(0, cuts)), (None,), reduce=True)
    problem = sharded_problem(model, Sharding(2, {"a": column, "b": middle, "y": row}), DEVICE, LINK)
    assert [i.seconds for i in problem.items] == pytest.approx(
        [
            4 * (16 + 8 * 4 + 2 * 4) / 1e9,
            4 * (2 * 4 + 2 * 4) / 1e9,
            4 * (2 * 4 + 4 * 3 + 6) / 1e9 + LINK.seconds(24),
        ]
    )
    assert {v.name: v.bytes for v in problem.values} == {"x": 64, "a": 32, "b": 32, "y": 24}
    assert [(w.name, w.bytes) for w in problem.weights] == [("u", 128), ("v", 48)]
    gathering = sharded_problem(model, Sharding(2, {"a": column}), DEVICE, LINK)
    extra = LINK.seconds(2 * 4 * 4)
    assert gathering.items[1].seconds == pytest.approx(4 * (12 + 12) / 1e9 + extra)
    assert gathering.values[-1].bytes == 48 and gathering.values[-1].producer == 1


def test_terms_that_are_scattered_take_memory_while_they_are_made() -> None:
    model = parse("(float[2,8] x) => (float[2,6] y) { a = MatMul(x, u) y = Relu(a) }", u=(8, 6))
    halves, thirds = Split(1, ((0, 4), (4, 8))), Split(1, ((0, 2), (2, 6)))
    scattered = Layout((halves, Split(0, halves.ranges)), (thirds,), reduce=True)
    after = Layout((thirds,), (thirds,))
    problem = sharded_problem(model, Sharding(2, {"a": scattered, "y": after}), DEVICE, LINK)
    sizes = {v.name: (v.producer, v.bytes, v.kept) for v in problem.values}
    assert sizes["a"] == (0, 32, False) and sizes["a: terms"] == (0, 48, False)
    assert sizes["y"] == (1, 32, False) and sizes["y: whole"] == (1, 48, True)
    assert problem.items[0].seconds == pytest.approx(4 * (12 + 8 + 24) / 1e9 + LINK.seconds(32))


def test_collectives_take_as_long_as_the_busiest_device() -> None:
    link = Link(1.0, 10.0)
    have = Split(0, ((0, 1), (1, 4), (4, 6)))
    assert move_seconds(have, None, (6, 4), 240.0, link) == pytest.approx(2 + 2 * 12)
    halo = Split(0, ((0, 2), (0, 5), (3, 6)))
    assert move_seconds(have, halo, (6, 4), 240.0, link) == pytest.approx(2 + 2 * 4)
    other = Split(1, ((0, 1), (1, 2), (2, 4)))
    assert move_seconds(have, other, (6, 4), 240.0, link) == pytest.approx(2 + (6 + 3))
    assert reduce_seconds(None, (6, 4), 240.0, link, 3) == pytest.approx(2 * (1 + 24))
    assert reduce_seconds(have, (6, 4), 240.0, link, 3) == pytest.approx(2 + 2 * 12)


def test_subgraphs_read_values_whole() -> None:
    model = parse(
        "(bool q, float[2,64] x) => (float[2,64] y) { a = MatMul(x, w) y = If(q) <"
        "then_branch = t () => (float[2,64] u) { u = Neg(a) },"
        "else_branch = e () => (float[2,64] v) { v = Identity(x) }> }",
        w=(64, 64),
    )
    sharding = shard(model, DEVICE, LINK, 2)
    assert set(sharding.layouts) == {"a"}
    work = Work(model, DEVICE, LINK, 2)
    assert list(work.reads(1, work.whole(1))) == [("q", None), ("a", None), ("x", None)]
    local = sum(work.seconds(*pair) for pair in enumerate([sharding.layouts["a"], work.whole(1)]))
    assert seconds(model, sharding) == pytest.approx(local + LINK.seconds(2 * 32 * 4))


def every_sharding(model: Model, count: int) -> list[Sharding]:
    work = Work(model, DEVICE, LINK, count)
    return [
        Sharding(count, dict(zip(work.names, chosen, strict=True)))
        for chosen in itertools.product(*work.layouts())
    ]


@pytest.mark.parametrize("link", [LINK, Link(1e-5, 1e9), Link(0.0, 1e8)])
@pytest.mark.parametrize(
    "text",
    [
        "(float[4,8] x) => (float[4,8] y) { a = MatMul(x, u) b = Add(a, x) c = MatMul(b, v) y = Sub(c, b) }",
        "(float[1,8,6,6] x) => (float[1,8,6,6] y)"
        " { a = Conv<pads = [1,1,1,1]>(x, k) b = Relu(a) c = Conv(a, p) y = Mul(b, c) }",
    ],
)
def test_the_search_finds_the_fastest_of_all_shardings(text: str, link: Link) -> None:
    model = parse(text, u=(8, 8), v=(8, 8), k=(8, 8, 3, 3), p=(8, 8, 1, 1))
    least = min(seconds(model, one, link) for one in every_sharding(model, 2))
    assert seconds(model, shard(model, DEVICE, link, 2), link) == pytest.approx(least, rel=1e-12)


# Networks of the zoo, narrow or short, and their inputs.


def small(name: str, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setattr(resnet, "_BOTTLENECK", (16, 24, 40, 48))
    monkeypatch.setattr(resnet, "_LAYERS", {50: (2, 2, 1, 1)})
    monkeypatch.setattr(mobilenet, "_STAGES", ((1, 8, 1, 1), (6, 12, 2, 2), (6, 16, 2, 2), (6, 20, 1, 1)))
    modules = (("3a", (8, 6, 10, 4, 6, 4)), ("pool3", None), ("4a", (9, 6, 7, 4, 6, 5)))
    monkeypatch.setattr(inception, "_MODULES", modules)
    monkeypatch.setattr(squeezenet, "_FIRES", ((4, 8), (4, 10), (6, 12)))
    build = {
        "resnet50": lambda: resnet.build_resnet_v1(50),
        "mobilenet": mobilenet.build_mobilenet_v2,
        "bert": lambda: build_bert_encoder(sizes=BertSizes(2, 24, 6, 40, 50, 16)),
        "gpt": lambda: build_gpt_decoder(GptSizes(2, 40, 5, 30, 16)),
        "inception": inception.build_inception,
        "unet": lambda: build_unet(base=4, size=48),
        "squeezenet": lambda: squeezenet.build_squeezenet(RandomParameters()),
    }[name]
    return Model(build())


NETWORKS = ("resnet50", "mobilenet", "bert", "gpt", "inception", "unet", "squeezenet")


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_give_the_same_in_the_layouts_found(
    name: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small(name, monkeypatch)
    sharding = shard(model, DEVICE, LINK, count)
    assert len(sharding.layouts) > len(model.view.nodes) / 2
    assert seconds(model, sharding) < Problem.of(model, DEVICE).seconds
    moved = check_sharded(model, sharding, random_feeds(model, batch=2, sequence=7))
    check_needed(model, sharding, moved)
    assert set(Counter(move.kind for move in moved)) <= {
        "all_reduce",
        "all_gather",
        "reduce_scatter",
        "all_to_all",
        "halo",
    }


FULL = {
    "resnet50": lambda: resnet.build_resnet_v1(50),
    "mobilenet": mobilenet.build_mobilenet_v2,
    "bert": build_bert_encoder,
    "gpt": lambda: build_gpt_decoder(GptSizes(48, 768, 12, 50257, 1024)),
    "inception": inception.build_inception,
    "unet": build_unet,
    "squeezenet": lambda: squeezenet.build_squeezenet(RandomParameters()),
}


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 7])
@pytest.mark.parametrize("name", FULL)
def test_full_networks_give_the_same_in_the_layouts_found(name: str, count: int) -> None:
    model = Model(FULL[name]())
    device = Device("d", 1e11, 1e10, 10**10)
    sharding = shard(model, device, LINK, count)
    assert len(sharding.layouts) > len(model.view.nodes) / 2
    moved = check_sharded(model, sharding, random_feeds(model, batch=1, sequence=16), 1e-4)
    check_needed(model, sharding, moved)


@st.composite
def networks(draw: st.DrawFn) -> Model:
    """A drawn DAG of convolutions, pools and sums, or of products and attention."""
    graph = _Drawn(draw)
    return graph.images() if draw(st.booleans()) else graph.vectors()


class _Drawn:
    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(draw(st.integers(0, 99)))

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.constants)}"
        array = (self.rng.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def ints(self, *values: int) -> str:
        name = f"w{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def node(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def model(self, shape: list[int | str]) -> Model:
        outputs = [onnx.ValueInfoProto(name=self.nodes[-1].output[0])]
        middle = self.draw(st.sampled_from(self.nodes)).output[0]
        if middle != outputs[0].name:
            outputs.append(onnx.ValueInfoProto(name=middle))
        x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "drawn", [x], outputs, self.constants)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        return Model(onnx.shape_inference.infer_shapes(proto))

    def images(self) -> Model:
        """Values of one size and 6 or 8 channels, at the end reduced."""
        have = [("x", 6)]
        for _ in range(self.draw(st.integers(2, 6))):
            x, channels = self.draw(st.sampled_from(have))
            kind = self.draw(
                st.sampled_from(["conv", "conv", "depthwise", "pool", "relu", "bn", "add", "cat"])
            )
            out = channels
            if kind == "conv":
                out = self.draw(st.sampled_from([6, 8]))
                k = self.draw(st.sampled_from([1, 3, 5]))
                bias = [self.weight(out)] if self.draw(st.booleans()) else []
                y = self.node("Conv", x, self.weight(out, channels, k, k), *bias, pads=[k // 2] * 4)
            elif kind == "depthwise":
                weight = self.weight(channels, 1, 3, 3)
                y = self.node("Conv", x, weight, group=channels, pads=[2] * 4, dilations=[2, 2])
            elif kind == "pool":
                op = self.draw(st.sampled_from(["MaxPool", "AveragePool"]))
                y = self.node(op, x, kernel_shape=[3, 3], pads=[1] * 4)
            elif kind == "bn":
                means = [self.weight(channels) for _ in range(3)]
                y = self.node("BatchNormalization", x, *means, self.node("Abs", means[0]))
            elif kind == "cat":
                y, out = self.node("Concat", x, x, axis=1), 2 * channels
            elif kind == "add":
                other = self.draw(st.sampled_from([name for name, c in have if c == channels]))
                y = self.node("Add", x, other)
            else:
                y = self.node("Relu", x)
            have.append((y, out))
        x, channels = have[-1]
        if self.draw(st.booleans()):
            x = self.node("Conv", x, self.weight(4, channels, 3, 3), strides=[2, 2])
            x = self.node("Flatten", self.node("GlobalAveragePool", x))
            self.node("Gemm", x, self.weight(4, 9), self.weight(9))
        return self.model([1, 6, 11, 10])

    def vectors(self) -> Model:
        """Sequences of 24 features: attention of 2 to 6 heads, perceptrons, normalization, sums."""
        have = ["x"]
        for _ in range(self.draw(st.integers(1, 4))):
            x = self.draw(st.sampled_from(have))
            kind = self.draw(st.sampled_from(["attention", "perceptron", "norm", "add", "slice"]))
            if kind == "attention":
                x = self._attention(x, self.draw(st.sampled_from([2, 3, 4, 6])))
            elif kind == "perceptron":
                x = self.node("Add", self.node("MatMul", x, self.weight(24, 40)), self.weight(40))
                x = self.node("MatMul", self.node("Gelu", x), self.weight(40, 24))
            elif kind == "norm":
                x = self.node("LayerNormalization", x, self.weight(24), self.weight(24))
            elif kind == "slice":
                x = self.node("Concat", *self._halves(x), axis=2)
            else:
                x = self.node("Add", x, self.draw(st.sampled_from(have)))
            have.append(x)
        return self.model([2, 5, 24])

    def _halves(self, x: str) -> list[str]:
        axis = self.ints(2)
        return [self.node("Slice", x, self.ints(a), self.ints(a + 12), axis) for a in (12, 0)]

    def _attention(self, x: str, heads: int) -> str:
        shape = self.ints(0, 0, heads, 24 // heads)
        parts = []
        for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
            y = self.node("Add", self.node("MatMul", x, self.weight(24, 24)), self.weight(24))
            parts.append(self.node("Transpose", self.node("Reshape", y, shape), perm=perm))
        weights = self.node("Softmax", self.node("MatMul", parts[0], parts[1]))
        y = self.node("Transpose", self.node("MatMul", weights, parts[2]), perm=[0, 2, 1, 3])
        return self.node("MatMul", self.node("Reshape", y, self.ints(0, 0, 24)), self.weight(24, 24))


@settings(max_examples=60, deadline=None)
@given(networks(), st.integers(2, 8))
def test_drawn_networks_give_the_same_in_the_layouts_found(model: Model, count: int) -> None:
    sharding = shard(model, DEVICE, LINK, count)
    assert seconds(model, sharding) <= Problem.of(model, DEVICE).seconds
    check_needed(model, sharding, check_sharded(model, sharding, random_feeds(model)))


@settings(max_examples=150, deadline=None)
@given(networks(), st.integers(2, 8), st.data())
def test_drawn_networks_give_the_same_in_any_layouts(model: Model, count: int, data: st.DataObject) -> None:
    work = Work(model, DEVICE, LINK, count)
    every = [layouts[1:] or layouts for layouts in work.layouts()]
    layouts = {name: data.draw(st.sampled_from(found)) for name, found in zip(work.names, every, strict=True)}
    sharding = Sharding(count, layouts)
    check_needed(model, sharding, check_sharded(model, sharding, random_feeds(model)))
