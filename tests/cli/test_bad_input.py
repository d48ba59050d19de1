"""Bad input: one clear line on stderr, exit status 2, no traceback, no half-written output."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import Result
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.usefixtures("fake_target")
Optc = Callable[..., Result]
Proto = onnx.ModelProto


def refused(result: Result, *texts: str) -> None:
    """Exit status 2 and one line that holds `texts`."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("optc: ") and result.stderr.count("\n") == 1
    for text in texts:
        assert text in result.stderr


def tree(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def saved(proto: Proto, path: Path) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


# Files that are no usable model, for every verb that takes one.

FILES: dict[str, tuple[Callable[[Proto], bytes], str]] = {
    "truncated": (lambda p: p.SerializeToString()[:-30], "not an ONNX file, or cut short"),
    "empty": (lambda p: b"", "the file is empty"),
    "text": (lambda p: b"This is a README.\n", "not an ONNX file, or cut short"),
    "picture": (lambda p: b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not an ONNX file, or cut short"),
    "zeros": (lambda p: bytes(64), "not an ONNX file, or cut short"),
    "another protobuf": (lambda p: p.graph.node[0].SerializeToString(), "ONNX"),
    "no graph": (lambda p: Proto(ir_version=8).SerializeToString(), "holds no ONNX graph"),
    "IR version 0": (lambda p: edited(p, ir_version=0), "IR version 0 is not one of 1 to"),
    "IR version 99": (lambda p: edited(p, ir_version=99), "IR version 99 is not one of 1 to"),
    "unknown opset": (lambda p: with_opset(p, 999), "opset 999 is unknown to onnx"),
    "opset 0": (lambda p: with_opset(p, 0), "opset 0 is unknown to onnx"),
    "no opset": (lambda p: with_opset(p), "names no opset"),
    "cycle": (lambda p: with_cycle(p), "the graph has a cycle at node"),
    "a value from nowhere": (lambda p: with_gap(p), "reads 'nowhere', which nothing gives"),
}


def edited(proto: Proto, **fields: Any) -> bytes:
    for name, value in fields.items():
        setattr(proto, name, value)
    return proto.SerializeToString()


def with_opset(proto: Proto, *versions: int) -> bytes:
    del proto.opset_import[:]
    proto.opset_import.extend(helper.make_opsetid("", v) for v in versions)
    return proto.SerializeToString()


def with_cycle(proto: Proto) -> bytes:
    proto.graph.node[0].input[0] = "back"
    proto.graph.node.append(helper.make_node("Neg", ["y"], ["back"]))
    return proto.SerializeToString()


def with_gap(proto: Proto) -> bytes:
    proto.graph.node[0].input[0] = "nowhere"
    return proto.SerializeToString()


VERBS = {
    "opt": ("opt", "{}", "-p", "canonicalize", "-o", "out.onnx"),
    "compile": ("compile", "{}", "--target", "fake"),
    "inspect": ("inspect", "{}"),
    "verify": ("verify", "{}", "{}"),
}


def call(optc: Optc, verb: str, path: Path) -> Result:
    return optc(*(part.format(path) for part in VERBS[verb]))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", FILES)
def test_files_that_are_no_model(optc: Optc, tmp_path: Path, linear: Proto, kind: str, verb: str) -> None:
    make, text = FILES[kind]
    (tmp_path / "bad.onnx").write_bytes(make(linear))
    refused(call(optc, verb, tmp_path / "bad.onnx"), "bad.onnx", text)
    assert tree(tmp_path) == {"bad.onnx"}


@pytest.mark.parametrize("verb", VERBS)
def test_no_such_file(optc: Optc, tmp_path: Path, verb: str) -> None:
    refused(call(optc, verb, tmp_path / "none.onnx"), "none.onnx: cannot be read (No such file or directory)")


def test_a_folder_for_a_model(optc: Optc, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    refused(optc("opt", "folder", "-o", "o.onnx"), "folder: cannot be read (Is a directory)")
    refused(optc("inspect", "folder"), "folder: not an artifact")


def test_no_such_network(optc: Optc) -> None:
    refused(optc("compile", "zoo:fashion", "-t", "fake"), "zoo:fashion: no such network; the zoo has")


def test_unknown_domains_pass_through_opt_and_are_refused_by_compile(optc: Optc, tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "com.acme": 1]>
    g (float[2] x) => (float[2] y) { h = com.acme.Magic<power=3>(x) y = Relu(h) }"""
    path = saved(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    refused(optc("compile", path, "-t", "fake"), "node h (Magic) is of the unknown domain 'com.acme'")
    assert tree(tmp_path) == {"m.onnx"}
    assert optc("opt", path, "-p", "canonicalize", "-o", "o.onnx").exit_code == 0
    node = onnx.load(tmp_path / "o.onnx").graph.node[0]
    assert (node.domain, node.op_type, node.attribute[0].i) == ("com.acme", "Magic", 3)


# External data.


def external(linear: Proto, folder: Path, **entries: Any) -> Path:
    """The linear model with its 48 bytes of weights in another file."""
    tensor = linear.graph.initializer[0]
    (folder / "w.bin").write_bytes(numpy_helper.to_array(tensor).tobytes())
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": "w.bin", "offset": 0, "length": 48} | entries).items():
        tensor.external_data.add(key=key, value=str(value))
    return saved(linear, folder / "m.onnx")


@pytest.mark.parametrize(
    "entries, text",
    [
        ({"location": "none.bin"}, "none.bin is missing; copy it there"),
        ({"location": "../w.bin"}, "external data '../w.bin' lies outside the model's folder"),
        ({"location": "/etc/passwd"}, "external data '/etc/passwd' lies outside the model's folder"),
        ({"location": "link.bin"}, "external data 'link.bin' lies outside the model's folder"),
        ({"location": ""}, "external data '' lies outside the model's folder"),
        ({"offset": 16}, "bytes 16 to 64 lie past the end of"),
        ({"offset": -16}, "lie past the end of"),
        ({"offset": "x"}, "offset or length of its external data is no number"),
        ({"length": 12}, "its external data has 12 bytes where its shape [4, 3] needs 48"),
    ],
)
def test_external_data(optc: Optc, tmp_path: Path, linear: Proto, entries: dict[str, Any], text: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.bin").symlink_to("/etc/passwd")
    path = external(linear, folder, **entries)
    before = tree(tmp_path)
    for verb in VERBS:
        refused(call(optc, verb, path), "tensor 'w'", text)
    assert tree(tmp_path) == before


def test_sound_external_data_is_fine(optc: Optc, tmp_path: Path, linear: Proto) -> None:
    assert optc("inspect", external(linear, tmp_path)).exit_code == 0


# Samples.


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


GOOD = np.ones((8, 4), np.float32)
NAN = np.where(np.arange(32).reshape(8, 4) == 13, np.float32(np.nan), GOOD)

SAMPLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing input": (lambda p: npz(p, image=GOOD), "has no array for the input 'x' (it has image)"),
    "wrong shape": (lambda p: npz(p, x=GOOD[:, :3]), "array 'x' has shape [8, 3], the input takes [N, 4]"),
    "wrong rank": (lambda p: npz(p, x=GOOD[0]), "array 'x' has shape [4], the input takes [N, 4]"),
    "wrong dtype": (lambda p: npz(p, x=GOOD.astype(np.float64)), "'x' is float64, the input takes float32"),
    "NaN": (lambda p: npz(p, x=NAN), "array 'x' holds NaN or infinity in sample 3"),
    "infinity": (lambda p: npz(p, x=GOOD * np.inf), "array 'x' holds NaN or infinity in sample 0"),
    "NaN as label": (lambda p: npz(p, x=GOOD, label=NAN), "'label' holds NaN or infinity in sample 3"),
    "extra": (lambda p: npz(p, x=GOOD, z=GOOD), "array 'z' is no input of the model (it takes x); drop it"),
    "twice": (lambda p: twice(p), "holds the array 'x' twice"),
    "unequal": (lambda p: npz(p, x=GOOD, z=GOOD[:2]), "arrays need the same number of samples first"),
    "none": (lambda p: npz(p, x=GOOD[:0]), "at least one"),
    "no arrays": (lambda p: npz(p), "at least one"),
    "objects": (lambda p: npz(p, x=np.array([{}], object)), "Python objects"),
    "no npz": (lambda p: p.write_bytes(b"hello"), "not an .npz file"),
    "truncated": (lambda p: p.write_bytes(npz(p, x=GOOD).read_bytes()[:-40]), "not an .npz file"),
    "an npy": (lambda p: p.write_bytes(npy()), "not an .npz file"),
}


def twice(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            archive.writestr("x.npy", npy())


def npy() -> bytes:
    import io

    stream = io.BytesIO()
    np.save(stream, GOOD)
    return stream.getvalue()


@pytest.mark.parametrize("option", ["--calib", "--eval"])
@pytest.mark.parametrize("kind", SAMPLES)
def test_samples(optc: Optc, tmp_path: Path, linear_file: Path, kind: str, option: str) -> None:
    make, text = SAMPLES[kind]
    make(tmp_path / "s.npz")
    if (
        option == "--eval"
        and "same number" not in text
        and kind in ("missing input", "NaN", "infinity", "extra")
    ):
        with np.load(tmp_path / "s.npz") as found:
            npz(tmp_path / "s.npz", **found, label=np.zeros(8, int))
    before = tree(tmp_path)
    refused(optc("compile", linear_file, "-t", "fake", "-p", "quantize", option, "s.npz"), "s.npz", text)
    refused(optc("opt", linear_file, "-p", "quantize", option, "s.npz", "-o", "o.onnx"), "s.npz", text)
    assert tree(tmp_path) == before


def test_a_constant_input(optc: Optc, tmp_path: Path, linear_file: Path) -> None:
    npz(tmp_path / "s.npz", x=GOOD, label=np.zeros(8, int))
    before = tree(tmp_path)
    text = "s.npz: array 'x' is 1 everywhere in all samples used; no range can be calibrated from it"
    for pipeline in ("quantize", "canonicalize,quantize{weights=learnt}", "prune{repair=weights}"):
        run = (linear_file, "-p", pipeline, "--calib", "s.npz")
        refused(optc("opt", *run, "-o", "o.onnx"), "failed (", text)
        refused(optc("compile", *run, "-t", "fake", "-o", "a"), text)
    assert tree(tmp_path) == before
    assert optc("opt", linear_file, "-p", "prune", "--eval", "s.npz", "-o", "o.onnx").exit_code == 0


def test_folders_of_samples(optc: Optc, tmp_path: Path, linear_file: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    run = ("opt", linear_file, "-p", "quantize", "--calib", "data", "-o", "o.onnx")
    refused(optc(*run), "data: a folder without .npz files")
    npz(folder / "a.npz", x=GOOD)
    for arrays, text in (
        ({"x": GOOD[:, :3]}, "data/b.npz: array 'x' has shape [8, 3], the input takes [N, 4]"),
        ({"x": NAN}, "data/b.npz: array 'x' holds NaN or infinity in sample 3"),
        ({"x": GOOD[:0]}, "data/b.npz: arrays need the same number of samples first, at least one"),
        ({"x": GOOD, "z": GOOD}, "data/b.npz: has the arrays x, z, a.npz has x"),
        ({"x": GOOD.astype(int)}, "data/b.npz: array 'x' is int64 [8, 4], in a.npz float32"),
    ):
        npz(folder / "b.npz", **arrays)
        refused(optc(*run), text)
        assert "o.onnx" not in tree(tmp_path)
    npz(folder / "b.npz", x=2 * GOOD)
    assert optc(*run).exit_code == 0


def test_no_samples_at_all(optc: Optc, linear_file: Path) -> None:
    missing = optc("opt", linear_file, "-p", "quantize", "--calib", "none.npz", "-o", "o.onnx")
    refused(missing, "none.npz: cannot be read (No such file or directory)")
    without = optc("opt", linear_file, "-p", "canonicalize,quantize", "-o", "o.onnx")
    refused(without, "pass 'quantize' failed", "(after canonicalize)", "needs calibration samples: give")


def test_labels_and_metrics(optc: Optc, tmp_path: Path, linear_file: Path) -> None:
    npz(tmp_path / "s.npz", x=GOOD)
    args = ("opt", linear_file, "-p", "", "-o", "o.onnx", "--eval")
    refused(optc(*args, "s.npz"), "s.npz: has no array 'label'")
    npz(tmp_path / "s.npz", x=GOOD, label=np.zeros(8, int))
    refused(optc(*args, "s.npz", "--metric", "top9"), "unknown metric 'top9'; did you mean 'top")


@pytest.mark.parametrize(
    "arrays, text",
    [
        ({"image": GOOD}, "the model has no input 'image'; it takes x"),
        ({}, "no array for the input 'x'"),
        ({"x": GOOD[:, :2]}, "[8, 2]"),
        ({"x": GOOD.astype(np.int64)}, "int64"),
        ({"x": GOOD, "z": GOOD}, "'z'"),
    ],
)
def test_inputs_of_run_and_verify(
    optc: Optc, tmp_path: Path, linear_file: Path, arrays: dict[str, Any], text: str
) -> None:
    assert optc("compile", linear_file, "-t", "cpu", "-p", "", "-o", "a").exit_code == 0
    npz(tmp_path / "in.npz", **arrays)
    refused(optc("run", "a", "-i", "in.npz", "-o", "out.npz"), text)
    assert "out.npz" not in tree(tmp_path)
    refused(optc("run", "a", "-i", "none.npz"), "none.npz: cannot be read")


# Pipelines.


@pytest.mark.parametrize(
    "pipeline, text",
    [
        ("prune,quantise", "unknown pass 'quantise'; did you mean 'quantize'?"),
        ("prune{sparsty=0.5}", "pass 'prune' has no option 'sparsty'; did you mean 'sparsity'?"),
        ("prune{criterion=luck}", "option 'criterion': 'luck' is unknown; it takes magnitude"),
        ("prune{sparsity=half}", "option 'sparsity': 'half' is not a number"),
        ("prune{sparsity=1}", "sparsity 1.0 is not at least 0 and below 1"),
        ("prune{sparsity=-0.1}", "sparsity -0.1 is not at least 0 and below 1"),
        ("prune{sparsity=nan}", "sparsity nan is not at least 0 and below 1"),
        ("prune{sparsity=0.5", "expected"),
        ("prune{sparsity=0.1,sparsity=0.2}", "option 'sparsity' is given twice"),
        ("prune,,quantize", "expected a pass name"),
        ("bind-shapes", "needs option 'shapes'"),
        ('bind-shapes{shapes=["x=1,b"]}', "shape 'x=1,b' is not of the form"),
        ("quantize{percentile=10}", "percentile 10.0"),
        ('prune{layers=["', "not closed"),
    ],
)
def test_pipelines(optc: Optc, tmp_path: Path, linear_file: Path, pipeline: str, text: str) -> None:
    refused(optc("opt", linear_file, "-p", pipeline, "-o", "o.onnx"), text)
    (tmp_path / "recipe").write_text(pipeline)
    refused(optc("compile", linear_file, "-t", "fake", "--recipe", "recipe"), text)
    assert tree(tmp_path) == {"linear.onnx", "recipe"}


@pytest.mark.parametrize(
    "shape, text",
    [
        ("z=1,4", "the model has no input 'z'; it has x"),
        ("x=1,5", "4 cannot become 5"),
        ("x=1", "has 2 dimensions, not 1"),
        ("x", "shape 'x' is not of the form"),
    ],
)
def test_shapes(optc: Optc, linear_file: Path, shape: str, text: str) -> None:
    refused(optc("opt", linear_file, "-p", "", "--shape", shape, "-o", "o.onnx"), text)


def test_recipes_and_targets(optc: Optc, tmp_path: Path, linear_file: Path) -> None:
    refused(optc("compile", linear_file, "-t", "fake", "--recipe", "none"), "none: cannot be read")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    refused(optc("compile", linear_file, "-t", "fake", "--recipe", "binary"), "binary: not a text file")
    refused(optc("compile", linear_file, "-t", "gpu"), "unknown target 'gpu'")
    refused(optc("compile", linear_file, "-t", "cpu{mcpu=z80}"), "option 'mcpu': 'z80' is unknown")


# Outputs.


def test_places_that_cannot_be_written(optc: Optc, tmp_path: Path, linear_file: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full" / "of").mkdir(parents=True)
    before = tree(tmp_path)
    opt = ("opt", linear_file, "-p", "", "-o")
    refused(optc(*opt, "file/o.onnx"), "file/o.onnx: cannot be written")
    refused(optc(*opt, "full"), "full: is a folder")
    refused(optc(*opt, "/proc/o.onnx"), "/proc/o.onnx: cannot be written")
    compile = ("compile", linear_file, "-t", "fake", "-p", "", "-o")
    refused(optc(*compile, "file/a"), "file/a: cannot be written")
    refused(optc(*compile, "file"), "file: exists and is not an artifact")
    refused(optc(*compile, "full"), "full: exists and is not an artifact")
    assert tree(tmp_path) == before and (tmp_path / "file").read_text() == "mine"


def test_devices_are_written_to_and_stay_devices(optc: Optc, linear_file: Path) -> None:
    refused(
        optc("opt", linear_file, "-p", "", "-o", "/dev/full"), "/dev/full: cannot be written (No space left"
    )
    assert optc("opt", linear_file, "-p", "", "-o", "/dev/null").exit_code == 0
    assert Path("/dev/full").is_char_device() and Path("/dev/null").is_char_device()


@pytest.mark.parametrize("verb", ["opt", "compile"])
def test_a_full_disk(
    optc: Optc, tmp_path: Path, linear_file: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    opened = os.fdopen

    def full(handle: int, *args: Any, **kwargs: Any) -> Any:
        os.close(handle)
        return opened(os.open("/dev/full", os.O_WRONLY), *args, **kwargs)

    before = tree(tmp_path)
    monkeypatch.setattr("optc.models.storage.os.fdopen", full)
    refused(call(optc, verb, linear_file), "cannot be written (No space left on device)")
    assert tree(tmp_path) == before


def test_a_disk_that_fills_up_at_the_last_file(
    optc: Optc, tmp_path: Path, linear_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, *args: Any, **kwargs: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_text", full)
    refused(optc("compile", linear_file, "-t", "fake", "-o", "a"), "a: cannot be written (No space left")
    assert tree(tmp_path) == {"linear.onnx"}


@pytest.mark.parametrize("option", ["--calib", "--eval", "-i"])
def test_the_data_is_not_overwritten(optc: Optc, tmp_path: Path, linear_file: Path, option: str) -> None:
    (tmp_path / "s.npz").write_bytes(b"data")
    os.link(tmp_path / "s.npz", tmp_path / "o.onnx")
    refused(
        optc("opt", linear_file, option, "s.npz", "-o", "o.onnx"), "o.onnx", f"holds the data of {option}"
    )
    assert (tmp_path / "s.npz").read_bytes() == b"data"


def test_a_failed_overwrite_keeps_the_old_artifact(optc: Optc, tmp_path: Path, linear_file: Path) -> None:
    assert optc("compile", linear_file, "-t", "fake", "-o", "a").exit_code == 0
    before = {n: (tmp_path / n).read_bytes() for n in tree(tmp_path) if (tmp_path / n).is_file()}
    assert optc("compile", linear_file, "-t", "fake{error=1}", "--verify", "-o", "a").exit_code == 1
    assert {n: (tmp_path / n).read_bytes() for n in tree(tmp_path) if (tmp_path / n).is_file()} == before


# Damaged artifacts.


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def change(folder: Path, **fields: Any) -> None:
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({k: v for k, v in manifest.items() if v is not None}))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit of the model": (lambda a: flip(a / "model.onnx"), "the file model.onnx is damaged"),
    "a bit of the code": (lambda a: flip(a / "code.bin"), "the file code.bin is damaged"),
    "a lost file": (lambda a: (a / "code.bin").unlink(), "the file code.bin is missing"),
    "no manifest": (lambda a: (a / "manifest.json").unlink(), "not an artifact"),
    "half a manifest": (lambda a: (a / "manifest.json").write_text('{"schema": 1,'), "not JSON"),
    "a list": (lambda a: (a / "manifest.json").write_text("[1]"), "not the manifest of an artifact"),
    "binary": (lambda a: (a / "manifest.json").write_bytes(b"\xff\xff"), "manifest.json"),
    "a later schema": (lambda a: change(a, schema=99), "an artifact of schema 99, this optc reads"),
    "a lost field": (lambda a: change(a, placement=None), "'placement' is missing"),
    "an unknown target": (lambda a: change(a, target="abacus"), "unknown target 'abacus'"),
    "a path that leaves": (lambda a: change(a, files={"model.onnx": "", "../x": ""}), "is damaged"),
}


@pytest.mark.parametrize("verb", ["run", "inspect", "verify", "bench"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_artifacts(optc: Optc, tmp_path: Path, linear_file: Path, kind: str, verb: str) -> None:
    assert optc("compile", linear_file, "-t", "fake", "-o", "a").exit_code == 0
    damage, text = DAMAGE[kind]
    damage(tmp_path / "a")
    before = tree(tmp_path)
    args = {"run": ("-o", "out.npz"), "verify": (linear_file,)}.get(verb, ())
    refused(optc(verb, "a", *args), "a", text)
    assert tree(tmp_path) == before


def test_a_manifest_that_points_elsewhere(optc: Optc, tmp_path: Path, linear_file: Path) -> None:
    assert optc("compile", linear_file, "-t", "fake", "-o", "a").exit_code == 0
    files = json.loads((tmp_path / "a" / "manifest.json").read_text())["files"]
    change(tmp_path / "a", files={"../linear.onnx": "0", **files})
    refused(optc("inspect", "a"), "its manifest names '../linear.onnx', which is no file of it")


def test_the_real_command(tmp_path: Path) -> None:
    """Through a process of its own: nothing but the line reaches stderr."""
    bad, out = tmp_path / "bad.onnx", tmp_path / "out.onnx"
    bad.write_bytes(b"junk")
    command = [sys.executable, "-c", "from optc.cli.main import main; main()", "opt", bad, "-o", out]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"optc: {bad}: not an ONNX file") and done.stderr.count("\n") == 1
    assert tree(tmp_path) == {"bad.onnx"}
