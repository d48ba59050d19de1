"""Target `vta` from model to artifact to result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qdq import Qdq, codes, feeds
from regions_of import SMALL, TINY

from optc.models.errors import InputError, OptcError
from optc.models.model import Model
from optc.passes.quantize.integer.execute import Reference
from optc.targets.artifact import Artifact
from optc.targets.compiler import compile
from optc.targets.vta.compiler.search import forget
from optc.targets.vta.vta import Vta


def network(shape: tuple[int | str, ...] = ("N", 20, 6, 6)) -> Model:
    """A layer, a float node, a layer."""
    rng = np.random.default_rng(0)
    net = Qdq()
    x = net.input(shape)
    value = net.code(net.layer("Conv", x, codes(rng, (20, 20, 3, 3), 20), -9, pads=[1] * 4), 0)
    value = net.code(net.node("Erf", [value]), -6)
    return net.model(net.code(net.layer("Conv", value, codes(rng, (8, 20, 1, 1)), -7), -6))


def build(model: Model, folder: Path, target: Vta | None = None) -> Artifact:
    folder.mkdir()
    return (target or Vta()).build(model, folder)


def assert_equal(artifact: Artifact, given: dict[str, np.ndarray]) -> None:
    wanted = Reference(artifact.model).run(given)
    for name, found in artifact.run(given).items():
        np.testing.assert_array_equal(found, wanted[name])


def test_the_bundled_model_is_equal(tmp_path: Path) -> None:
    """From float: quantized for VTA, compiled, verified, the same as the reference for other inputs."""
    found = compile("zoo:fashion-resnet", "vta", out=tmp_path / "a", verify=True)
    artifact = found.artifact
    where = [p.where for p in artifact.placement if p.op == "Conv"]
    assert where and set(where) == {"vta"}
    rng = np.random.default_rng(1)
    shapes = {t.name: [2, *(t.shape or [])[1:]] for t in artifact.model.view.inputs}
    assert_equal(artifact, {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()})


@pytest.mark.parametrize("batch", [1, 4])
def test_samples_of_a_batch(batch: int, tmp_path: Path) -> None:
    model = network()
    assert_equal(build(model, tmp_path / "a"), feeds(model, batch=batch))


def test_a_batch_and_a_single_sample_added(tmp_path: Path) -> None:
    """One operand has a free batch dimension, the other always one sample."""
    net = Qdq()
    rng = np.random.default_rng(0)
    one, other = net.input(("N", 20, 4, 4)), net.input((1, 20, 4, 4))
    layer = net.code(net.layer("Conv", one, codes(rng, (20, 20, 1, 1)), -9), 0)
    model = net.model(net.code(net.node("Add", [layer, other]), 0))
    assert_equal(build(model, tmp_path / "a"), feeds(model, batch=3))


def test_where_and_why(tmp_path: Path) -> None:
    placement = build(network(), tmp_path / "a").placement
    assert [p.where for p in placement if p.op == "Conv"] == ["vta", "vta"]
    assert all(p.reason for p in placement if p.where == "host")
    assert [p.where for p in placement if p.op == "Erf"] == ["host"]


@pytest.mark.parametrize("device", ["fsim", "timed"])
def test_devices(device: str, tmp_path: Path) -> None:
    model = network()
    assert_equal(build(model, tmp_path / "a", Vta(device=device)), feeds(model))  # type: ignore[arg-type]


def test_another_machine(tmp_path: Path) -> None:
    (tmp_path / "machine.json").write_text(SMALL.to_json())
    model = network()
    artifact = build(model, tmp_path / "a", Vta(config=str(tmp_path / "machine.json")))
    (tmp_path / "machine.json").unlink()
    assert_equal(artifact, feeds(model, batch=2))


def test_a_machine_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none.json: cannot read it"):
        build(network(), tmp_path / "a", Vta(config=str(tmp_path / "none.json")))


def test_free_dimensions_besides_the_batch(tmp_path: Path) -> None:
    wanted = r"input 'x0' has the free dimensions H.*--shape x0=1,20,1,6"
    with pytest.raises(InputError, match=wanted) as error:
        build(network(("N", 20, "H", 6)), tmp_path / "a")
    assert "\n" not in str(error.value)


def test_a_float_model_without_calibration_data(linear_file: Path, tmp_path: Path) -> None:
    with pytest.raises(OptcError, match="give them with --calib"):
        compile(linear_file, "vta", out=tmp_path / "a")


def test_two_builds_are_the_same_bytes(tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        forget()
        folder = build(network(), tmp_path / name).folder
        files.append({p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()})
    assert files[0].keys() == files[1].keys()
    assert not [n for n in files[0] if files[0][n] != files[1][n]]


def test_two_runs_are_the_same(tmp_path: Path) -> None:
    """What the first call leaves in memory does not matter to the second."""
    model = network()
    artifact = build(model, tmp_path / "a")
    first, other = feeds(model, 0), feeds(model, 1)
    wanted = artifact.run(first)
    artifact.run(other)
    for name, found in artifact.run(first).items():
        np.testing.assert_array_equal(found, wanted[name])


@pytest.mark.parametrize("rounding", ["half_up", "even"])
@pytest.mark.parametrize("ending", ["float", "free scale", "free bias", "uint8", "shift"])
def test_endings_on_the_host(ending: str, rounding: str, tmp_path: Path) -> None:
    """VTA multiplies, the host makes of the sums what the reference does."""
    net = Qdq(rounding)
    x = net.input(("N", 20, 6, 6))
    rng = np.random.default_rng(0)
    inputs = [x, net.weight(codes(rng, (20, 20, 3, 3), 20), -33 if ending == "shift" else -9)]
    if ending == "free bias":
        inputs.append(net.constant(rng.normal(size=20), np.float32))
    value = net.node("Conv", inputs, pads=[1] * 4)
    if ending != "float":
        scale = net.constant({"free scale": 0.7, "uint8": 0.25}.get(ending, 1.0), np.float32)
        zero = net.constant(3 if ending == "uint8" else 0, np.uint8 if ending == "uint8" else np.int8)
        value = net.node("DequantizeLinear", [net.node("QuantizeLinear", [value, scale, zero]), scale, zero])
    artifact = build(net.model(value), tmp_path / "a")
    (found,) = [p for p in artifact.placement if p.where == "vta" and p.reason]
    assert found.reason and found.reason.startswith("the host ends it: ")
    assert_equal(artifact, feeds(artifact.model, batch=2))


def test_attention(tmp_path: Path) -> None:
    """All of it that multiplies is on VTA; softmax is the host's."""
    net = Qdq()
    rng = np.random.default_rng(1)
    x = net.input(("N", 9, 32))
    query, key, value = (net.code(net.layer("MatMul", x, codes(rng, (32, 24)), -11), 0) for _ in range(3))
    turned = net.code(net.node("Transpose", [key], perm=[0, 2, 1]), 0)
    scores = net.node("Softmax", [net.node("MatMul", [query, turned])], axis=-1)
    mixed = net.code(net.node("MatMul", [net.code(scores, -7), value]), 0)
    model = net.model(net.layer("MatMul", mixed, codes(rng, (24, 32)), -9))
    artifact = build(model, tmp_path / "a")
    assert [p.where for p in artifact.placement if p.op == "MatMul"] == ["vta"] * 6
    assert_equal(artifact, feeds(model, batch=2))


def test_more_micro_ops_than_a_machine_holds(tmp_path: Path) -> None:
    """A machine of 512 in all: the layers' micro-ops take each other's places."""
    (tmp_path / "machine.json").write_text(TINY.to_json())
    rng = np.random.default_rng(0)
    net = Qdq()
    value = net.input((1, 8, 9, 9))
    for _ in range(4):
        value = net.code(net.layer("Conv", value, codes(rng, (8, 8, 3, 3), 20), -8, pads=[1] * 4), 0)
    artifact = build(net.model(value), tmp_path / "a", Vta(config=str(tmp_path / "machine.json")))
    assert_equal(artifact, feeds(artifact.model))
