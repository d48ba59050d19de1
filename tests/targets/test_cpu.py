from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optc.models.errors import MissingError
from optc.models.model import Model
from optc.models.session import Session
from optc.models.zoo import zoo_entry
from optc.passes.base import Exact
from optc.passes.verify.compare import compare
from optc.targets import cpu
from optc.targets.artifact import Artifact, load
from optc.targets.cpu import LEVELS, Cpu, check_processor, native_level


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("fashion")
    return Cpu().build(Model(zoo_entry("fashion-resnet").build()), folder)


def test_the_bundled_network_agrees_with_onnx_runtime(artifact: Artifact) -> None:
    assert {p.where for p in artifact.placement} == {"cpu"}
    images = np.random.default_rng(0).random((3, 1, 28, 28)).astype(np.float32)
    wanted = Session(artifact.model).run({"image": images})
    assert not [d for d in compare(wanted, artifact.run({"image": images}), Exact()) if d.broken]


def test_runs_do_not_disturb_each_other(artifact: Artifact) -> None:
    images = np.random.default_rng(0).random((2, 1, 28, 28)).astype(np.float32)
    runner, other = artifact.runner(), artifact.runner()
    first = runner.run({"image": images})["logits"].copy()
    runner.run({"image": images[:1] * 2})
    other.run({"image": images * 3})
    np.testing.assert_array_equal(runner.run({"image": images})["logits"], first)


def test_the_manifest_says_what_it_needs(artifact: Artifact) -> None:
    program = artifact.manifest["program"]
    assert program["mcpu"] == native_level()
    assert set(artifact.manifest["files"]) == {"model.onnx", "program.vm", "program.bc"}


def test_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    """Addresses and hash seeds differ from process to process; the artifact must not."""
    code = """if True:
        import sys, onnx
        from pathlib import Path
        from optc.models.model import Model
        from optc.targets.cpu import Cpu
        text = '''<ir_version: 8, opset_import: ["": 17]>
        g (float[N,3,H,W] x, float[2,4,4] q) => (float[N,3,A,B] y, float[2] d, int64[4] s) {
          a = AveragePool <kernel_shape = [2,2], strides = [2,2]>(x)
          b = Softmax(a) y = Concat <axis = 2>(b, a) e = Det(q) d = Erf(e) s = Shape(y) }'''
        Cpu().build(Model(onnx.parser.parse_model(text)), Path(sys.argv[1]))"""
    manifests = []
    for seed in ("1", "2"):
        (folder := tmp_path / seed).mkdir()
        env = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, str(folder)], check=True, env=env)
        manifests.append(load(folder).manifest)
    assert manifests[0] == manifests[1]
    assert "program.bc" in manifests[0]["files"]


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        (set(), "x86-64"),
        (set(LEVELS["x86-64-v2"]), "x86-64-v2"),
        (set(LEVELS["x86-64-v4"]) - {"avx512vl"}, "x86-64-v3"),
        (set(LEVELS["x86-64-v4"]) | {"sse"}, "x86-64-v4"),
    ],
)
def test_levels(flags: set[str], level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "processor_flags", lambda: frozenset(flags))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert native_level() == level


def test_a_processor_without_the_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    program: dict[str, Any] = {"machine": "x86_64", "mcpu": "x86-64-v4"}
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(cpu, "processor_flags", lambda: frozenset(LEVELS["x86-64-v3"]) | {"avx512f"})
    with pytest.raises(MissingError, match=r"lacks avx512bw, avx512cd, .*mcpu=x86-64-v3"):
        check_processor(program)
    check_processor(program | {"mcpu": "x86-64-v3"})


def test_another_kind_of_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert native_level() == "generic"
    with pytest.raises(MissingError, match="built for x86_64, this machine is aarch64"):
        check_processor({"machine": "x86_64", "mcpu": "x86-64-v3"})


def test_a_lower_level_runs_here_too(tmp_path: Path, linear: Any) -> None:
    if not native_level().startswith("x86-64"):
        pytest.skip("needs an x86-64 processor")
    artifact = Cpu(mcpu="x86-64").build(Model(linear), tmp_path)
    x = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(
        artifact.run({"x": x})["y"], Session(artifact.model).run({"x": x})["y"], rtol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet1.1", "efficientnet-lite0"])
def test_networks_with_real_weights(name: str, tmp_path: Path) -> None:
    artifact = Cpu().build(Model(zoo_entry(name).build()), tmp_path)
    assert {p.where for p in artifact.placement} == {"cpu"}
    session = Session(artifact.model)
    shape = [d if isinstance(d, int) else 1 for d in session.inputs["image"].shape]
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    wanted = session.run({"image": image})
    assert not [d for d in compare(wanted, artifact.run({"image": image}), Exact()) if d.broken]
