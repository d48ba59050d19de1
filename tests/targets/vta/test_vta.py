"""Target `vta` on the bundled network: equal to the reference, timed, profiled, exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.zoo import zoo_entry
from optc.passes.quantize.integer.execute import Reference
from optc.targets.artifact import Artifact
from optc.targets.compiler import compile
from optc.targets.cpu import Cpu
from optc.targets.vta.check import check
from optc.targets.vta.config import Config
from optc.targets.vta.export import export_launches
from optc.targets.vta.isa import decode
from optc.targets.vta.profile import profile, roofline
from optc.targets.vta.program import Program
from optc.targets.vta.sim import Fsim
from optc.targets.vta.vta import Vta, VtaRunner


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The bundled network, compiled."""
    out = tmp_path_factory.mktemp("vta") / "fashion-resnet.vta"
    return compile("zoo:fashion-resnet", "vta", out=out).artifact


@pytest.fixture(scope="module")
def images() -> dict[str, np.ndarray]:
    """Three images of the test data."""
    path = zoo_entry("fashion-resnet").test
    assert path is not None
    return {"image": np.load(path)["image"][:3]}


def test_all_but_the_border_runs_on_vta(artifact: Artifact) -> None:
    hosted = [p for p in artifact.placement if p.where != "vta"]
    assert {p.op for p in hosted} == {"QuantizeLinear", "DequantizeLinear"}
    assert all(p.reason for p in hosted) and len(hosted) == 2


def test_outputs_equal_the_reference(artifact: Artifact, images: dict[str, np.ndarray]) -> None:
    wanted = Reference(artifact.model).run(images)
    for device in ("fsim", "timed"):
        got = Vta(device=device).runner(artifact).run(images)  # type: ignore[arg-type]
        np.testing.assert_array_equal(got["logits"], wanted["logits"])


def test_layers_account_for_the_cycles(artifact: Artifact, images: dict[str, np.ndarray]) -> None:
    runner = VtaRunner(artifact, Vta(device="timed").simulator)
    runner.run({"image": images["image"][:1]})
    ((region, report),) = runner.reports.values()
    layers = profile(region, report, runner.config)
    assert 0 < sum(layer.cycles for layer in layers) <= report.cycles == runner.cycles
    assert all(layer.cycles > 0 and layer.read and layer.written for layer in layers)
    assert sum(layer.macs for layer in layers) == 14_075_008
    assert all(layer.utilisation(runner.config) <= 1 for layer in layers)
    drawing = roofline(layers, runner.config)
    assert "MAC/byte" in drawing and "·" in drawing and "a" in drawing


def test_exported_programs_stand_by_themselves(
    artifact: Artifact, images: dict[str, np.ndarray], tmp_path: Path
) -> None:
    files = export_launches(artifact, images, tmp_path / "programs")
    assert [f.name for f in files] == ["launch_0.npz", "launch_1.npz", "launch_2.npz"]
    for file in files:
        program = Program.load(file)
        config = Config()
        check(decode(program.instructions, config), config, program.memory_image())
        at, device = program.place(), Fsim(config)
        for address, data in program.inputs:
            device.write(address, data)
        device.write(at, program.instructions.reshape(-1))
        device.run(at, len(program.instructions))
        for address, data in program.expected:
            assert data.any()
            np.testing.assert_array_equal(device.read(address, data.size), data)


def test_export_keeps_what_is_there(
    artifact: Artifact, images: dict[str, np.ndarray], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        export_launches(artifact, images, tmp_path)


def test_only_artifacts_of_vta_are_exported(tmp_path: Path, images: dict[str, np.ndarray]) -> None:
    built = compile("zoo:fashion-resnet", Cpu(), "canonicalize", out=tmp_path / "a.cpu").artifact
    with pytest.raises(InputError, match="no VTA programs"):
        export_launches(built, images, tmp_path / "programs")


def test_same_files_each_time(artifact: Artifact, tmp_path: Path) -> None:
    again = compile("zoo:fashion-resnet", "vta", out=tmp_path / "again.vta").artifact
    assert again.manifest["files"] == artifact.manifest["files"]


def test_free_dimensions_are_named() -> None:
    from onnx import parser

    model = Model(
        parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> '
            "g (float[1,3,H,8] x) => (float[1,3,H,8] y) { y = Relu(x) }"
        )
    )
    with pytest.raises(InputError, match=r"'x' has the free dimensions H.*--shape x=1,3,1,8"):
        Vta().build(model, Path("unused"))


def test_float_models_need_calibration() -> None:
    from optc.passes.pipeline import PassError

    with pytest.raises(PassError, match="--calib"):
        compile("zoo:resnet18-v1", "vta", out="unused")
