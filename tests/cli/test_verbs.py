"""Each verb, with a target that needs no compiler."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
from click.testing import Result

from optc.models.model import Model
from optc.passes.base import Context, Contract, Exact, Lossy
from optc.passes.cost import Cost
from optc.passes.registry import PASSES, pass_class

pytestmark = pytest.mark.usefixtures("fake_target", "shrink")
Optc = Callable[..., Result]


@dataclass(frozen=True)
class Shrink:
    """Makes every weight smaller, and may lie about it."""

    name: ClassVar[str] = "shrink"
    factor: float = 0.99
    exact: bool = False

    @property
    def contract(self) -> Contract:
        return Exact() if self.exact else Lossy("scale")

    def run(self, model: Model, context: Context) -> bool:
        node = model.graph.nodes[0]
        node.inputs[1].values = np.array(node.inputs[1].values) * np.float32(self.factor)
        context.facts |= {"factor": self.factor, "layers": {"h": self.factor}}
        context.decline(model.view.nodes[1], "it has no weights")
        return True


@pytest.fixture
def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "optc.passes.registry.pass_class", lambda n: Shrink if n == "shrink" else pass_class(n)
    )
    monkeypatch.setitem(PASSES, "shrink", "")


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    np.savez(tmp_path / "in.npz", x=np.ones((2, 4), np.float32), label=np.array([0, 1]))
    return tmp_path / "in.npz"


@pytest.fixture
def artifact(optc: Optc, linear_file: Path) -> Path:
    assert optc("compile", linear_file, "--target", "fake", "-p", "shrink").exit_code == 0
    return Path("linear.fake")


def test_compile_prints_a_summary_and_writes_beside(optc: Optc, linear_file: Path) -> None:
    result = optc("compile", linear_file, "--target", "fake", "-p", "shrink", "--verify", "--run")
    assert result.exit_code == 0 and result.stderr == ""
    for text in (
        "shrink: factor 0.99",
        "shrink left 1 nodes as they were",
        "y (Relu): it has no weights",
        "lossy",
        "artifact (fake)",
        "exact",
        "1 of 2 nodes run in ONNX Runtime",
        "y (Relu): Relu is for others",
        "output name y, dtype float32, shape [1, 3]",
        "wrote linear.fake for fake",
    ):
        assert text in result.stdout
    assert Path("linear.fake/manifest.json").is_file()


def test_compile_as_json(optc: Optc, linear_file: Path, inputs: Path) -> None:
    result = optc(
        "compile",
        linear_file,
        "-t",
        "fake",
        "-p",
        "shrink",
        "--verify",
        "--eval",
        inputs,
        "--run",
        "--json",
        "-v",
    )
    found = json.loads(result.stdout)
    assert found["target"] == "fake" and found["pipeline"] == "shrink"
    assert found["before"]["score"]["samples"] == 2
    assert [r["pass"] for r in found["verification"]] == ["(input)", "shrink", "artifact (fake)"]
    assert found["verification"][2]["snr_db"] == "inf"
    assert found["steps"][0]["declined"][0]["reason"] == "it has no weights"
    assert found["outputs"][0]["shape"] == [1, 3]


def test_a_broken_contract_prints_the_table_and_exits_1(optc: Optc, linear_file: Path) -> None:
    args = ("compile", linear_file, "--target", "fake", "-p", "shrink{exact=true}", "--verify")
    result = optc(*args)
    assert result.exit_code == 1
    assert "BROKEN: output 'y' moved by" in result.stdout
    assert result.stderr.startswith("optc: pass 'shrink' breaks its contract (exact): output 'y' moved by")
    assert not Path("linear.fake").exists()
    found = json.loads(optc(*args, "--json").stdout)
    assert found["exit_status"] == 1 and found["verification"][1]["broken"]


def test_quiet_says_nothing(optc: Optc, linear_file: Path) -> None:
    result = optc("-q", "compile", linear_file, "--target", "fake", "-p", "shrink", "--verify")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_arch_is_an_option_of_the_target(optc: Optc, linear_file: Path) -> None:
    result = optc("compile", linear_file, "-t", "fake", "-p", "", "--arch", "a1, b2", "--json")
    assert json.loads(result.stdout)["target"] == "fake{arch=[a1,b2]}"
    result = optc("compile", linear_file, "-t", "cpu", "--arch", "a1")
    assert (result.exit_code, result.stderr) == (2, "optc: --arch: target 'cpu' takes none\n")


def test_a_recipe(optc: Optc, linear_file: Path) -> None:
    Path("recipe").write_text("# smaller, twice\nshrink,   # once\nshrink{factor=0.5}\n")
    result = optc("compile", linear_file, "-t", "fake", "--recipe", "recipe", "--json")
    assert json.loads(result.stdout)["pipeline"] == "shrink,shrink{factor=0.5}"


def test_the_guard_takes_back(optc: Optc, linear_file: Path) -> None:
    result = optc("compile", linear_file, "-t", "fake", "-p", "shrink", "--guard", "--verify")
    assert result.exit_code == 0
    assert (
        "shrink: rolled back, not faster: 2 cycles after, 2 cycles before (estimated: nodes)" in result.stdout
    )


def test_opt(optc: Optc, linear_file: Path) -> None:
    result = optc("opt", linear_file, "-p", "shrink", "-o", "out.onnx", "--print-after-all", "--time-passes")
    assert result.exit_code == 0 and "wrote out.onnx" in result.stdout
    assert "# after shrink" in result.stderr and "y = Relu (h)" in result.stderr
    assert " ms 100.0%  shrink" in result.stderr
    before, after = (Model.load(p).view.nodes[0].inputs[1].values for p in (linear_file, Path("out.onnx")))
    assert np.allclose(after, before * np.float32(0.99))


@pytest.mark.parametrize("share, kept", [(0.5, True), (2.0, False)])
def test_opt_takes_back_what_is_not_faster(
    optc: Optc, linear_file: Path, monkeypatch: pytest.MonkeyPatch, share: float, kept: bool
) -> None:
    weights = Model.load(linear_file).view.nodes[0].inputs[1].values

    def cost(model: Model) -> Cost:
        changed = not np.array_equal(model.view.nodes[0].inputs[1].values, weights)
        return Cost("measured: test", seconds=1e-3 * (share if changed else 1))

    monkeypatch.setattr("optc.passes.verify.measure.measure", cost)
    result = optc("opt", linear_file, "-p", "shrink", "--guard", "-o", "out.onnx")
    text = "shrink: rolled back, not faster beyond noise: 2 ms after, 1 ms before (measured: test)"
    assert result.exit_code == 0 and (text in result.stdout) is not kept
    written = Model.load("out.onnx").view.nodes[0].inputs[1].values
    assert np.array_equal(written, weights) is not kept


def test_opt_with_calibration_of_its_own_and_accuracy(optc: Optc, linear_file: Path, inputs: Path) -> None:
    result = optc("opt", linear_file, "-p", "shrink", "-o", "o.onnx", "--calib", inputs, "--eval", inputs)
    assert result.exit_code == 0 and "accuracy on 2 samples" in result.stdout
    lines = [line.split() for line in result.stdout.splitlines() if "[" in line]
    assert [line[:2] for line in lines] == [["(input)", "0.0000"], ["shrink", "0.0000"]]
    assert lines[1][4:] == ["+0.0000", "[+0.0000,", "+0.0000]", "1"]


def test_accuracy_stands_in_the_manifest_and_is_the_same_again(
    optc: Optc, linear_file: Path, inputs: Path
) -> None:
    call = ("compile", linear_file, "-t", "fake", "-p", "shrink,shrink{factor=0.5}", "--eval", inputs)
    found = json.loads(optc(*call, "--json").stdout)
    file = Path("linear.fake/manifest.json")
    text = file.read_text()
    assert json.loads(text)["scores"] == found["scores"]
    assert [s["pass"] for s in found["scores"]] == ["(input)", "shrink", "shrink{factor=0.5}"]
    assert found["scores"][2]["since_input"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    assert found["scores"][0]["since_last"] is None and found["scores"][0]["score"]["samples"] == 2
    assert optc(*call).exit_code == 0 and file.read_text() == text


def test_printed_graphs_leave_large_weights_out(linear: onnx.ModelProto) -> None:
    from optc.cli.print_graph import graph_text

    linear.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(np.ones((4, 30), np.float32), linear.graph.initializer[0].name)
    )
    assert "float[4,30] w" in graph_text(Model(linear)) and len(graph_text(Model(linear))) < 400


def test_run(optc: Optc, artifact: Path, inputs: Path) -> None:
    result = optc("run", artifact, "-i", inputs, "-o", "out.npz")
    assert result.exit_code == 0 and "name y, dtype float32, shape [2, 3]" in result.stdout
    first = Path("out.npz").read_bytes()
    with np.load("out.npz") as outputs:
        assert outputs["y"].shape == (2, 3)
    assert optc("run", artifact, "-i", inputs, "-o", "out.npz", "-q").stdout == ""
    assert Path("out.npz").read_bytes() == first
    assert json.loads(optc("run", artifact, "--json").stdout)["outputs"][0]["shape"] == [1, 3]


def test_bench(optc: Optc, artifact: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optc.targets.bench._SECONDS", 0.0)
    text = optc("bench", artifact, "-i", inputs).stdout
    assert "optc (fake)" in text and "onnxruntime" in text and "1.00" in text
    rows = json.loads(optc("bench", artifact, "--json").stdout)["rows"]
    assert rows["onnxruntime"]["ratio"] == 1 and rows["optc (fake)"]["low"] > 0


def test_inspect_a_model(optc: Optc, linear_file: Path) -> None:
    text = optc("inspect", linear_file).stdout
    for part in ("linear", "ai.onnx 17", "12*", "[N, 4]", "float32", "MatMul"):
        assert part in text
    found = json.loads(optc("inspect", linear_file, "--json").stdout)
    assert found["operators"] == {"MatMul": 1, "Relu": 1} and found["counts"]["parameters"] == 12


def test_inspect_an_artifact(optc: Optc, artifact: Path) -> None:
    text = optc("inspect", artifact).stdout
    assert "fake" in text and "sha256" in text and "Relu is for others" in text
    found = json.loads(optc("inspect", artifact, "--json").stdout)
    assert found["manifest"]["pipeline"] == "shrink"


def test_inspect_the_zoo(optc: Optc) -> None:
    found = json.loads(optc("inspect", "zoo:fashion-resnet", "--json").stdout)
    assert found["inputs"][0]["shape"] == ["N", 1, 28, 28]


def test_list(optc: Optc, monkeypatch: pytest.MonkeyPatch) -> None:
    found = json.loads(optc("list", "passes", "--json").stdout)["passes"]
    bind = next(e for e in found if e["name"] == "bind-shapes")
    assert bind["options"] == [{"name": "shapes", "type": "tuple[str, ...]", "default": "needed"}]
    targets = json.loads(optc("list", "targets", "--json").stdout)["targets"]
    assert {"cpu", "cuda", "fake"} <= {e["name"] for e in targets}
    assert "zoo:fashion-resnet" in optc("list", "zoo").stdout
    assert "Makes every weight smaller" in optc("list", "passes").stdout


def test_a_pass_that_cannot_be_loaded_is_listed(optc: Optc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PASSES, "lost", "optc_no_such_module:Lost")
    result = optc("list", "passes")
    assert (
        result.exit_code == 0 and "cannot be loaded: No module named 'optc_no_such_module'" in result.stdout
    )


def test_verify(optc: Optc, linear_file: Path, artifact: Path, inputs: Path) -> None:
    same = optc("verify", linear_file, linear_file)
    assert same.exit_code == 0 and "inf" in same.stdout
    assert optc("verify", artifact, artifact / "model.onnx", "-i", inputs).exit_code == 0
    differ = optc("verify", linear_file, artifact, "-i", inputs)
    assert differ.exit_code == 1 and "moved by" in differ.stdout
    assert differ.stderr.startswith(f"optc: {linear_file} and linear.fake differ: output 'y' moved by")
    found = json.loads(optc("verify", linear_file, linear_file, "--json").stdout)
    assert found["outputs"] == [{"output": "y", "max_error": 0.0, "snr_db": "inf", "broken": None}]


def test_cache(optc: Optc, tmp_path: Path) -> None:
    empty = json.loads(optc("cache", "--json").stdout)
    folder = Path(empty["folder"])
    assert empty["files"] == 0 and "cache" in str(folder)
    (folder / "zoo").mkdir(parents=True)
    (folder / "zoo" / "a.onnx").write_bytes(b"12345")
    assert f"{folder}: 1 files, 5 B" in optc("cache").stdout
    assert optc("cache", "clear").exit_code == 0
    assert not folder.exists()
    assert optc("cache", "clear").exit_code == 0


def test_cache_follows_no_link(optc: Optc, tmp_path: Path) -> None:
    folder = Path(json.loads(optc("cache", "--json").stdout)["folder"])
    (tmp_path / "precious").mkdir()
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(tmp_path / "precious")
    assert optc("cache", "clear").exit_code == 2
    assert (tmp_path / "precious").is_dir()


def test_codes_at_the_ends_from_the_command_line(optc: Optc, tmp_path: Path) -> None:
    """Samples stay floats throughout, also for a file whose inputs are codes already."""
    text = """<ir_version: 10, opset_import: ["" : 21]> g (float[N,2] x) => (float[N,2] y)
    <float[2,2] w = {1.5, -2.25, 0.5, 3}> { h = MatMul (x, w) y = Relu (h) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((16, 2)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x, label=np.zeros(16, np.int64))
    data = ("--calib", "x.npz", "--eval", "x.npz", "--verify")
    done = optc("opt", "m.onnx", "-p", "quantize,integer-ends", *data, "-o", "q.onnx")
    assert done.exit_code == 0, done.stderr
    assert onnx.load(tmp_path / "q.onnx").graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    again = optc("--json", "opt", "q.onnx", "-p", "canonicalize", *data, "-i", "x.npz", "-o", "r.onnx")
    assert again.exit_code == 0, again.stderr
    assert optc("compile", "q.onnx", "-p", "canonicalize", *data, "--target", "fake").exit_code == 0
    ran = optc("--json", "run", "q.fake", "-i", "x.npz")
    assert json.loads(ran.stdout)["outputs"][0]["dtype"] == "uint8", ran.stderr
