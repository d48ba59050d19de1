"""Fetching: errors, whole files or none, and what is fetched is right (skipped where it is not)."""

import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from optc.models.errors import InputError, MissingError
from optc.models.zoo import ZooEntry, registry, zoo_entry
from optc.models.zoo.fetch import _write, fetch, main
from optc.models.zoo.npz import write_npz
from optc.models.zoo.sources import SOURCES, Product

TOP1 = {"squeezenet1.1": 14, "efficientnet-lite0": 18, "mnist-tf": 2108}


def fetched(name: str) -> ZooEntry:
    try:
        return zoo_entry(name)
    except MissingError as error:
        pytest.skip(str(error))


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_table_and_sources_agree() -> None:
    assert [row[0] for row in registry._FETCHED] == list(SOURCES)


def test_unknown_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alexnet", "--to", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(
        "error: alexnet: not a network to fetch; there are squeezenet1.1"
    )


def test_package_index_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(MissingError, match=r"cannot download qonnx==1.0.0 \(a package index is needed\)"):
        fetch("mnist-cntk", tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


def test_archive_of_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = "qonnx-1.0.0.dist-info"
    with zipfile.ZipFile(tmp_path / "qonnx-1.0.0-py2.py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{folder}/METADATA", "Metadata-Version: 2.1\nName: qonnx\nVersion: 1.0.0\n")
        wheel.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{folder}/RECORD", "")
        wheel.writestr("qonnx/data/onnx/mnist-conv/model.onnx", "another model")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(MissingError, match=r"qonnx==1.0.0.* DO NOT MATCH THE HASHES"):
        fetch("mnist-cntk", tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to"):
        _write("n", Product(b"model"), tmp_path / "file" / "zoo")


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, arrays: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("optc.models.zoo.fetch.write_npz", full)
    with pytest.raises(InputError, match="No space left on device"):
        _write("n", Product(b"model", test={"x": np.ones(1)}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_written_whole(tmp_path: Path) -> None:
    path = _write("n", Product(b"model", {"x": np.ones(2)}, {"x": np.zeros(2)}), tmp_path)
    assert path.read_bytes() == b"model"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["n.calibration.npz", "n.onnx", "n.test.npz"]
    np.testing.assert_array_equal(np.load(tmp_path / "n.calibration.npz")["x"], [1, 1])


def test_npz_bytes_depend_on_the_arrays_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_npz(tmp_path / "a", {"x": np.arange(5)})
    monkeypatch.setattr("time.localtime", lambda *_: (2001, 2, 3, 4, 5, 6, 0, 0, 0))
    write_npz(tmp_path / "b", {"x": np.arange(5)})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("name", TOP1)
def test_accuracy_of_fetched(name: str) -> None:
    entry = fetched(name)
    assert entry.test and entry.calibration and entry.metric == "top1"
    data = np.load(entry.test)
    inputs = {key: data[key] for key in data.files if key != "label"}
    (scores,) = session(entry.build()).run(None, inputs)
    assert int((scores.argmax(1) == data["label"]).sum()) == TOP1[name]


def test_minilm_agrees_with_the_int8_package() -> None:
    ids = np.array([[101, 2023, 2003, 1037, 7099, 6251, 1012, 102]])
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    models = [fetched(name).build() for name in ("minilm", "minilm-int8")]
    a, b = (session(model).run(None, inputs)[0].mean(axis=1)[0] for model in models)
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.999


@pytest.mark.parametrize("name", ["mnist-cntk", "season", "silero-vad"])
def test_fetched_runs(name: str) -> None:
    model = fetched(name).build()
    run = session(model)
    rng = np.random.default_rng(0)
    shapes = {i.name: [d if isinstance(d, int) else 2 for d in i.shape] for i in run.get_inputs()}
    inputs = {n: rng.random(shape, np.float32) for n, shape in shapes.items()}
    assert all(np.isfinite(array).all() for array in run.run(None, inputs))


def test_espcn_is_not_for_onnxruntime() -> None:
    model = fetched("espcn-quant").build()
    assert "onnx.brevitas" in {opset.domain for opset in model.opset_import}
    with pytest.raises(Exception, match="brevitas"):
        session(model)
