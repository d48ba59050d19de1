from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from click.testing import Result
from onnx import numpy_helper, parser

from optc.models.errors import InputError

Optc = Callable[..., Result]

CLUSTER = """[[device]]
name = "board"
count = 8
macs_per_second = 1e6
bytes_per_second = 1e6
memory_bytes = {memory}
[[link]]
between = ["board", "board"]
latency_s = {latency}
bytes_per_second = 1e12
"""


def write_cluster(memory: int = 10**9, latency: float = 1e-9) -> str:
    Path("cluster.toml").write_text(CLUSTER.format(memory=memory, latency=latency))
    return "cluster.toml"


@pytest.fixture
def mlp(tmp_path: Path) -> str:
    """Three layers of 16 features, a batch of any size."""
    text = """<ir_version: 8, opset_import: ["": 17]>
    mlp (float[N,16] x) => (float[N,16] y) {
        a = MatMul(x, w0) b = Relu(a) c = MatMul(b, w1) d = Relu(c) y = MatMul(d, w2)
    }"""
    proto = parser.parse_model(
        text.replace("float[N,16] x", "float[N,16] x, float[16,16] w0, float[16,16] w1, float[16,16] w2")
    )
    rng = np.random.default_rng(0)
    for i in range(3):
        array = rng.normal(size=(16, 16)).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, f"w{i}"))
    del proto.graph.input[1:]
    path = tmp_path / "mlp.onnx"
    onnx.save(proto, path)
    return str(path)


def partition(optc: Optc, model: str, *more: str | int) -> dict[str, Any]:
    result = optc("partition", model, "-t", "onnxruntime", "--cluster", write_cluster(), "--json", *more)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_plan_and_its_folder(optc: Optc, mlp: str) -> None:
    found = partition(optc, mlp, "--stages", 3, "--verify", "-o", "out")
    assert (found["data"], found["stages"], found["tensor"], found["plan"]) == (1, 3, 1, "out")
    assert len(found["compute"]) == 3 and found["gap"] >= 0
    names = sorted(p.name for p in Path("out").iterdir())
    assert names == ["model.onnx", "plan.json", "plan.svg", "rank0", "rank1", "rank2"]
    texts = [e.text for e in ElementTree.parse("out/plan.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert {"stage 0", "stage 2", "rank 1", "schedule"}.issubset({str(t).split(":")[0] for t in texts})
    for name in ("model.onnx", "rank0/model.onnx"):
        onnx.checker.check_model(onnx.load(Path("out") / name), full_check=True)


def test_a_part_that_refuses_what_the_whole_model_takes(
    optc: Optc, mlp: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optc.targets.cluster import local

    def refuse(self: object, feeds: object) -> None:
        raise InputError("rank 1 has other shapes")

    monkeypatch.setattr(local.LocalEngine, "run_one", refuse)
    result = optc("partition", mlp, "-t", "onnxruntime", "--stages", 2, "--verify", "-o", "out")
    assert result.exit_code == 2 and "rank 1 has other shapes" in result.stderr
    assert not Path("out").exists()


def test_the_same_again_byte_for_byte(optc: Optc, mlp: str) -> None:
    for out in ("one", "two"):
        partition(optc, mlp, "--stages", 2, "--tensor", 2, "-o", out)
    files = sorted(p.relative_to("one") for p in Path("one").rglob("*") if p.is_file())
    assert files == sorted(p.relative_to("two") for p in Path("two").rglob("*") if p.is_file())
    for file in files:
        assert (Path("one") / file).read_bytes() == (Path("two") / file).read_bytes(), file


@pytest.mark.parametrize(
    "degrees", [{"stages": 2}, {"tensor": 2}, {"data": 2}, {"data": 2, "stages": 2, "tensor": 2}]
)
def test_run_gives_what_the_whole_model_does(optc: Optc, mlp: str, degrees: dict[str, int]) -> None:
    options = [text for name, n in degrees.items() for text in (f"--{name}", n)]
    found = partition(optc, mlp, *options, "-o", "plan")
    assert {n: found[n] for n in degrees} == degrees
    x = np.random.default_rng(1).normal(size=(11, 16)).astype(np.float32)
    np.savez("in.npz", x=x)
    result = optc("run", "plan", "-i", "in.npz", "-o", "out.npz", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["micro_batches"] == 8
    whole = onnx.load(mlp)
    w = [numpy_helper.to_array(t) for t in whole.graph.initializer]
    want = np.maximum(np.maximum(x @ w[0], 0) @ w[1], 0) @ w[2]
    np.testing.assert_allclose(np.load("out.npz")["y"], want, rtol=1e-4, atol=1e-4)


def test_annotations_say_how(optc: Optc, mlp: str) -> None:
    partition(optc, mlp, "--stages", 2, "--tensor", 2, "-o", "first")
    found = partition(optc, "first/model.onnx", "-o", "second")
    assert (found["stages"], found["tensor"], found["gap"]) == (2, 2, pytest.approx(0))
    plans = [json.loads((Path(p) / "plan.json").read_text())["program"] for p in ("first", "second")]
    assert plans[0] == plans[1]


def test_the_pass_and_the_command_agree(optc: Optc, mlp: str) -> None:
    text = f"partition{{stages=3,cluster={write_cluster()}}}"
    assert optc("opt", mlp, "-p", f"standard,{text}", "-o", "annotated.onnx").exit_code == 0
    partition(optc, "annotated.onnx", "-o", "by-annotations")
    partition(optc, mlp, "--stages", 3, "-o", "by-options")
    plans = [
        json.loads((Path(p) / "plan.json").read_text())["program"] for p in ("by-annotations", "by-options")
    ]
    assert plans[0] == plans[1]


def test_what_does_not_pay_is_said(optc: Optc, mlp: str) -> None:
    slow = write_cluster(latency=1.0)
    result = optc("partition", mlp, "-t", "onnxruntime", "--tensor", 2, "--cluster", slow, "-o", "plan")
    assert (
        result.exit_code == 0 and "tensor=2: by the model no way to share the work is faster" in result.stdout
    )
    assert not Path("plan/rank1").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "has no device annotations to go by; say how: --stages"),
        (["--stages", "9"], "takes 9 devices, cluster 'cluster' has 8"),
        (["--stages", "6"], "stages=6: the model has only 5 nodes"),
        (["--stages", "2", "--devices", "4"], "give devices, or data, stages and tensor, not both"),
        (["--objective", "latency"], "--objective goes with --devices"),
        (["--measure"], "--measure goes with --stages or --data"),
        (["--measure", "--tensor", "2"], "measure goes with stages and data only"),
        (["--stages", "2", "--cluster", "h300"], "there is no such preset"),
        (["--stages", "2", "--schedule", "zigzag"], "'zigzag' is not one of"),
        (["--stages", "2", "--micro-batches", "0"], "0 is not in the range x>=1"),
        (["--stages", "2", "-o", "mlp.onnx"], "exists and is not an artifact"),
    ],
)
def test_bad_options(optc: Optc, mlp: str, options: list[str], message: str) -> None:
    result = optc("partition", mlp, "-t", "onnxruntime", "--cluster", write_cluster(), *options)
    assert result.exit_code == 2 and message in result.stderr and result.stderr.count("\n") == 1
    assert not list(Path().glob("*.plan")) and not list(Path().glob(".*"))


def test_too_little_memory(optc: Optc, mlp: str) -> None:
    small = write_cluster(memory=2000)
    result = optc("partition", mlp, "-t", "onnxruntime", "--stages", 2, "--cluster", small)
    assert result.exit_code == 2 and "does not fit" in result.stderr and "fewest stages" in result.stderr
    gpipe = ["--schedule", "gpipe", "--micro-batches", "64"]
    result = optc("partition", mlp, "-t", "onnxruntime", "--stages", 3, "--cluster", small, *gpipe)
    assert result.exit_code == 2 and "for 64 micro-batches at once (schedule gpipe)" in result.stderr


def test_contradictory_annotations(optc: Optc, mlp: str) -> None:
    partition(optc, mlp, "--stages", 2, "-o", "plan")
    proto = onnx.load("plan/model.onnx")
    proto.graph.node[0].device_configurations[0].pipeline_stage = 1
    proto.graph.node[1].device_configurations[0].pipeline_stage = 0
    onnx.save(proto, "odd.onnx")
    result = optc("partition", "odd.onnx", "-t", "onnxruntime", "--cluster", write_cluster())
    assert result.exit_code == 2 and "reads from node" in result.stderr and "later stage 1" in result.stderr


Damage = Callable[[Path], object]


def swap(plan: Path) -> None:
    (plan / "rank0").rename(plan / "held")
    (plan / "rank1").rename(plan / "rank0")
    (plan / "held").rename(plan / "rank1")


def edit(**fields: Any) -> Damage:
    def change(plan: Path) -> None:
        data = json.loads((plan / "plan.json").read_text())
        (plan / "plan.json").write_text(json.dumps(data | fields))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (swap, "rank0/manifest.json is another rank's or damaged"),
        (lambda p: shutil.rmtree(p / "rank1"), "the file rank1/manifest.json is missing"),
        (lambda p: (p / "rank1" / "model.onnx").write_bytes(b"x"), "model.onnx is damaged"),
        (lambda p: (p / "model.onnx").write_bytes(b"x"), "model.onnx is damaged"),
        (lambda p: (p / "plan.json").write_text("{"), "damaged, not JSON"),
        (edit(schema=7), "a plan of schema 7, this optc reads 1"),
        (edit(program={}), "its program lacks 'ranks'"),
        (edit(files={"../x": "0"}), "names '../x', which is no file of it"),
        (edit(files={}), "names no files of rank0"),
        (edit(schedule={"kind": "zigzag", "micro_batches": 1}), "its schedule is damaged"),
        (edit(schedule={"kind": "1f1b", "micro_batches": 0}), "its schedule is damaged"),
        (edit(data="two"), "'data' is missing or no int"),
        (edit(cluster=None), "'cluster' is missing or no dict"),
        (edit(data=0), "its plan has 0 replicas"),
    ],
)
def test_damaged_plans(optc: Optc, mlp: str, damage: Damage, message: str) -> None:
    partition(optc, mlp, "--stages", 2, "-o", "plan")
    damage(Path("plan"))
    result = optc("run", "plan")
    assert result.exit_code == 2 and message in result.stderr and result.stderr.count("\n") == 1, (
        result.stderr
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edit(cluster={}), "its cluster lacks 'links'"),
        (edit(cluster=7), "'cluster' is missing or no dict"),
        (edit(plan={}), "its values are damaged"),
        (edit(cluster={"name": "c", "devices": [], "links": [{"between": ["a"]}]}), "its cluster is damaged"),
        (edit(cluster={"name": "c", "links": [], "devices": [{"name": "a", "macs_per_second": "1"}]}), "'1'"),
        (edit(plan={"values": [{"name": "x"}]}), "its values are damaged"),
    ],
)
def test_plans_that_cannot_be_simulated(optc: Optc, mlp: str, damage: Damage, message: str) -> None:
    partition(optc, mlp, "--stages", 2, "-o", "plan")
    damage(Path("plan"))
    result = optc("simulate", "plan")
    assert result.exit_code == 2 and message in result.stderr and result.stderr.count("\n") == 1, (
        result.stderr
    )


def test_bad_runs(optc: Optc, mlp: str) -> None:
    partition(optc, mlp, "--stages", 2, "-o", "plan")
    for options, message in (
        (["--device", "fsim"], "--device and --profile go with an artifact"),
        (["--address", "here:1"], "--address goes with --engine ray"),
    ):
        result = optc("run", "plan", *options)
        assert result.exit_code == 2 and message in result.stderr
    optc("compile", mlp, "-t", "onnxruntime", "-o", "artifact")
    result = optc("run", "artifact", "--engine", "local")
    assert result.exit_code == 2 and "--engine goes with a plan" in result.stderr
    np.savez("in.npz", z=np.zeros((2, 16), np.float32))
    result = optc("run", "plan", "-i", "in.npz")
    assert result.exit_code == 2 and "no input 'z'; it takes x" in result.stderr


def test_without_ray(optc: Optc, mlp: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    partition(optc, mlp, "--stages", 2, "-o", "plan")
    monkeypatch.setitem(sys.modules, "ray", None)
    result = optc("run", "plan", "--engine", "ray")
    assert result.exit_code == 3 and "pip install 'optc[cluster]'" in result.stderr


def test_simulated_plans(optc: Optc, mlp: str) -> None:
    found = partition(optc, mlp, "--stages", 2, "--data", 2, "-o", "plan")
    result = optc("simulate", "plan", "--scale", "1,2,500", "--plot", "scale.svg", "--json")
    assert result.exit_code == 0, result.stderr
    runs = json.loads(result.stdout)["runs"]
    assert [r["devices"] for r in runs] == [2, 4, 1000]
    for run in runs:
        assert run["throughput"] == pytest.approx(run["replicas"] * found["throughput"] / 2, rel=0.01)
    texts = [e.text for e in ElementTree.parse("scale.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert "devices" in texts and "simulated" in texts
    plain = optc("simulate", "plan", "--micro-batches", 5)
    assert plain.exit_code == 0 and "replicas" in plain.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scale", "0"], "give numbers of replicas above 0"),
        (["--scale", "many"], "give numbers of replicas above 0"),
        (["--plot", "x.png"], "give it a file name that ends in .svg"),
        (["--cluster", "small.toml"], "the plan has 3 ranks, cluster 'small' only 1 devices"),
        (["--cluster", "h300"], "there is no such preset"),
    ],
)
def test_bad_simulations(optc: Optc, mlp: str, options: list[str], message: str) -> None:
    partition(optc, mlp, "--stages", 3, "-o", "plan")
    Path("small.toml").write_text(CLUSTER.partition("[[link]]")[0].format(memory=1).replace("= 8", "= 1"))
    result = optc("simulate", "plan", *options)
    assert result.exit_code == 2 and message in result.stderr
    assert not Path("x.png").exists()


def test_a_link_that_is_missing(optc: Optc, mlp: str) -> None:
    text = CLUSTER.partition("[[link]]")[0].format(memory=10**9)
    Path("lonely.toml").write_text(text)
    result = optc("partition", mlp, "-t", "onnxruntime", "--stages", 2, "--cluster", "lonely.toml")
    assert result.exit_code == 2 and "no link between 'board0' and 'board1'; add a [[link]]" in result.stderr


@pytest.mark.parametrize("degrees", [{"stages": 3}, {"tensor": 2}, {"data": 2, "stages": 2, "tensor": 2}])
def test_plans_hold_before_a_checker_that_knows_nothing_of_optc(
    optc: Optc, mlp: str, degrees: dict[str, int]
) -> None:
    partition(optc, mlp, *(text for name, n in degrees.items() for text in (f"--{name}", n)), "-o", "plan")
    checker = Path(__file__).parents[2] / "benchmarks/partition_check.py"

    def check() -> str:
        ran = subprocess.run([sys.executable, checker, "plan/plan.json"], capture_output=True, text=True)
        return ran.stdout + ran.stderr

    assert check() == ""
    whole = json.loads(Path("plan/plan.json").read_text())
    edits: list[tuple[Callable[[Any], object], str]] = [
        (lambda d: d["predicted"].update(throughput=1.0), "throughput is"),
        (lambda d: d["cost"].update(seconds=9.0), "the cost is 9.0 s"),
        (lambda d: d["plan"].update(bottleneck=9.0), "the bottleneck is"),
        (lambda d: d["files"].update({"model.onnx": "0"}), "model.onnx is another"),
        (
            lambda d: d["program"]["ranks"][-1]["parts"][0]["inputs"].append("lost"),
            "'lost' comes from 0 places",
        ),
        (lambda d: d["program"]["ranks"][0].update(stage=1), "in order"),
    ]
    if degrees == {"stages": 3}:
        edits.append((lambda d: d["program"]["messages"][0].update(bytes=1), "messages from stage to stage"))
        edits.append((lambda d: d["program"]["messages"][0].update(to=0), "goes from stage 0 to 0"))
    for edit, message in edits:
        data = copy.deepcopy(whole)
        edit(data)
        Path("plan/plan.json").write_text(json.dumps(data))
        assert message in check()


def test_without_inputs_as_many_are_made_as_the_plan_says(optc: Optc, mlp: str) -> None:
    partition(optc, mlp, "--stages", 2, "--micro-batches", 3, "-o", "plan")
    result = optc("run", "plan", "-o", "out.npz", "--json")
    assert json.loads(result.stdout)["micro_batches"] == 3 and len(np.load("out.npz")["y"]) == 3


def test_random_models_are_not_compared(optc: Optc) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
    noisy (float[4] x) => (float[4] y) { n = RandomNormalLike(x) h = Abs(n) y = Add(h, x) }"""
    onnx.save(parser.parse_model(text), "noisy.onnx")
    options = ["-t", "onnxruntime", "--stages", "2", "--cluster", write_cluster(), "--verify"]
    result = optc("partition", "noisy.onnx", *options)
    assert result.exit_code == 0 and "not compared" in result.stdout


def test_a_latency_beside_which_nothing_counts(optc: Optc, mlp: str) -> None:
    slow = write_cluster(latency=1e25)
    result = optc("partition", mlp, "-t", "onnxruntime", "--stages", 2, "--cluster", slow)
    assert result.exit_code == 2 and "are lost in rounding; give times that go together" in result.stderr


def test_no_samples_give_no_results(optc: Optc, mlp: str) -> None:
    partition(optc, mlp, "--stages", 2, "-o", "plan")
    np.savez("in.npz", x=np.zeros((0, 16), np.float32))
    result = optc("run", "plan", "-i", "in.npz", "-o", "out.npz")
    assert result.exit_code == 0 and np.load("out.npz")["y"].shape == (0, 16)


def test_a_plan_is_no_artifact_and_nothing_is_written_into_it(optc: Optc, mlp: str) -> None:
    partition(optc, mlp, "--stages", 2, "-o", "plan")
    folder = Path("plan")
    inspected = optc("inspect", folder)
    assert inspected.exit_code == 2 and "a plan of optc partition, not an artifact" in inspected.stderr
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for verb, more in (("partition", ["--stages", "2"]), ("compile", [])):
        for out in (folder / "rank0", folder / "rank0" / "deeper"):
            written = optc(verb, mlp, "--target", "onnxruntime", *more, "-o", out)
            assert written.exit_code == 2 and "lies in the plan" in written.stderr
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_model_without_nodes(optc: Optc, tmp_path: Path) -> None:
    empty = '<ir_version: 8, opset_import: ["": 17]> g (float[4] x) => (float[4] x) {}'
    onnx.save(parser.parse_model(empty), tmp_path / "empty.onnx")
    result = optc("partition", tmp_path / "empty.onnx", "--target", "onnxruntime", "--tensor", 2)
    assert result.exit_code == 2 and "the model has no nodes to share out" in result.stderr


def test_a_simulation_of_more_devices_than_anyone_waits_for(optc: Optc, mlp: str) -> None:
    partition(optc, mlp, "--stages", 2, "-o", "plan")
    result = optc("simulate", "plan", "--scale", 100_000)
    assert result.exit_code == 2 and "100000 replicas are 200000 devices; at most 100000" in result.stderr


def test_a_model_of_unknown_sizes_takes_no_time_that_json_can_hold(optc: Optc, tmp_path: Path) -> None:
    index = onnx.helper.make_tensor_value_info("index", onnx.TensorProto.INT64, None)
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    tables = [numpy_helper.from_array(np.ones((4, 8), np.float32), f"t{i}") for i in range(2)]
    nodes = [onnx.helper.make_node("Gather", [f"t{i}", "index"], [f"g{i}"]) for i in range(2)]
    nodes.append(onnx.helper.make_node("Add", ["g0", "g1"], ["y"]))
    graph = onnx.helper.make_graph(nodes, "tables", [index], [result], tables)
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "tables.onnx")
    partition(optc, str(tmp_path / "tables.onnx"), "--stages", 2, "-o", "plan")

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    plan = json.loads(Path("plan/plan.json").read_text(), parse_constant=refuse)
    assert plan["predicted"]["throughput"] is None
