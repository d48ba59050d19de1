from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from optc.models.errors import InputError
from optc.models.model import Model
from optc.targets.artifact import MANIFEST, Artifact, load, staged
from optc.targets.base import Placement, Target

Fake = Callable[..., Target]


@pytest.fixture
def folder(fake_target: Fake, linear: onnx.ModelProto, tmp_path: Path) -> Path:
    out = tmp_path / "linear.fake"
    with staged(out) as new:
        fake_target().build(Model(linear), new)
    return out


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / MANIFEST
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


def test_what_was_written_is_read(folder: Path, linear: onnx.ModelProto, fake_target: Fake) -> None:
    artifact = load(folder)
    assert artifact.target == fake_target()
    assert artifact.model.to_proto() == linear
    assert artifact.placement[1] == Placement("y (Relu)", "Relu", "island", "Relu is for others")
    assert artifact.manifest["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["N", 4]}]
    assert set(artifact.manifest["files"]) == {"model.onnx", "code.bin"}


def test_options_of_the_target_survive(fake_target: Fake, linear: onnx.ModelProto, tmp_path: Path) -> None:
    target = fake_target(arch=("a", "b"), error=0.25)
    target.build(Model(linear), tmp_path)
    assert load(tmp_path).target == target


def test_it_runs(folder: Path) -> None:
    x = np.ones((2, 4), np.float32)
    assert load(folder).run({"x": x})["y"].shape == (2, 3)


def test_annotations_are_kept(folder: Path) -> None:
    load(folder).annotate(pipeline="prune", verification=[{"snr": 30.0}])
    assert load(folder).manifest["pipeline"] == "prune"
    with pytest.raises(ValueError, match="no field 'files'"):
        load(folder).annotate(files={})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: m.update(schema=99), "schema 99, this optc reads 1"),
        (lambda m: m.pop("placement"), "'placement' is missing"),
        (lambda m: m.update(inputs={}), "'inputs' is missing or no list"),
        (lambda m: m.update(target="nosuch"), "unknown target 'nosuch'"),
        (lambda m: m.update(target=""), "names no target"),
        (lambda m: m["files"].update({"../secret": "0"}), "names '../secret'"),
        (lambda m: m["files"].update({"gone.bin": "0"}), "gone.bin is missing"),
        (lambda m: m["files"].pop("model.onnx"), "does not name model.onnx"),
        (lambda m: m.pop("schema"), "not the manifest of an artifact"),
    ],
)
def test_a_manifest_that_does_not_fit(folder: Path, change: Callable[[Any], object], text: str) -> None:
    edit(folder, change)
    with pytest.raises(InputError, match=text):
        load(folder)


def test_a_changed_byte_is_found(folder: Path) -> None:
    (folder / "code.bin").write_bytes(b"c0de")
    with pytest.raises(InputError, match="code.bin is damaged"):
        load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "\0"])
def test_a_manifest_that_is_no_json(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json"):
        load(folder)


def test_a_folder_that_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an artifact"):
        load(tmp_path)


def test_staged_replaces_an_artifact_whole(folder: Path, fake_target: Fake, linear: onnx.ModelProto) -> None:
    (folder / "stray").write_text("left by someone")
    with staged(folder) as new:
        fake_target(error=1.0).build(Model(linear), new)
    assert load(folder).target == fake_target(error=1.0)
    assert not (folder / "stray").exists()
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("broken"), OSError(28, "No space left")])
def test_staged_leaves_nothing_half_written(folder: Path, error: BaseException) -> None:
    before = (folder / MANIFEST).read_bytes()
    expected = InputError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), staged(folder) as new:
        (new / "half").write_text("half")
        raise error
    assert (folder / MANIFEST).read_bytes() == before
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_staged_refuses_what_is_not_an_artifact(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("notes", "file"):
        with (
            pytest.raises(InputError, match="is not an artifact; it is not overwritten"),
            staged(tmp_path / name),
        ):
            raise AssertionError("the work was begun")
    assert (tmp_path / "notes" / "mine.txt").exists()


def test_a_model_with_external_data(fake_target: Fake, tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[N,64] x) => (float[N,64] y) { y = MatMul(x, w) }'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(weight)
    Model(proto).save(tmp_path / "big.onnx", external=True)
    (tmp_path / "out").mkdir()
    fake_target().build(Model.load(tmp_path / "big.onnx"), tmp_path / "out")
    artifact: Artifact = load(tmp_path / "out")
    assert set(artifact.manifest["files"]) == {"code.bin", "model.onnx", "model.onnx.data"}
    assert artifact.run({"x": np.ones((1, 64), np.float32)})["y"][0, 0] == 64
