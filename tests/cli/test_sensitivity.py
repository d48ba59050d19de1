"""`optc inspect --sensitivity`: the table, the JSON, the picture, and everything that can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from click.testing import Result

from optc.models.data import Samples
from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.quantize.sensitivity import SETTINGS, sensitivities

Optc = Callable[..., Result]


@pytest.fixture
def calib(tmp_path: Path) -> Path:
    x = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    np.savez(tmp_path / "calib.npz", x=x)
    return tmp_path / "calib.npz"


def refused(result: Result, *texts: str) -> None:
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith("optc: ") and result.stderr.count("\n") == 1
    for text in texts:
        assert text in result.stderr


def test_table_and_json(optc: Optc, linear_file: Path, calib: Path) -> None:
    wanted = sensitivities(Model.load(linear_file), Context(calibration=Samples(calib)), samples=5)
    arguments = ("inspect", linear_file, "--sensitivity", "--calib", calib, "--samples", 5)
    found = json.loads(optc(*arguments, "--json").stdout)
    (layer,) = found["layers"]
    assert (found["model"], found["samples"], layer["layer"], layer["op"]) == ("linear", 5, "h", "MatMul")
    assert layer["weights"] == 12 and list(layer["settings"]) == list(SETTINGS)
    for entry in wanted:
        given = layer["settings"][entry.setting]
        assert given == {"own_db": entry.own_db, "output_db": entry.output_db}
    text = optc(*arguments).stdout
    cells = [f"{e.output_db:.1f}" for e in wanted]
    assert text.splitlines()[-2].split() == ["h", "MatMul", "12", *cells]
    assert f"{cells[0]} ({wanted[0].own_db:.1f})" in optc(*arguments, "-v").stdout
    assert optc(*arguments, "-q").stdout == ""


def test_the_zoo_brings_its_data_and_the_worst_comes_first(optc: Optc) -> None:
    result = optc(
        "inspect", "zoo:fashion-resnet", "--sensitivity", "--samples", 2, "--plot", "out.svg", "--json"
    )
    layers = json.loads(result.stdout)["layers"]
    worst = [layer["settings"]["int8"]["output_db"] for layer in layers]
    assert len(worst) == 12 and worst == sorted(worst)
    picture = ElementTree.parse("out.svg").getroot()
    texts = [e.text for e in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "fashion-resnet: SNR of the outputs in dB, one layer quantized"
    assert [t for t in texts if t in {layer["layer"] for layer in layers}] == [x["layer"] for x in layers]


def test_nothing_to_quantize(optc: Optc, tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[N] x) => (float[N] y) { y = Tanh(x) }'
    (tmp_path / "tanh.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    result = optc("inspect", "tanh.onnx", "--sensitivity", "--plot", "out.svg")
    assert result.exit_code == 0 and "nothing to quantize" in result.stdout
    assert "y (Tanh): Tanh has no integer form here" in result.stdout
    assert not (tmp_path / "out.svg").exists()
    assert json.loads(optc("inspect", "tanh.onnx", "--sensitivity", "--json").stdout)["layers"] == []


def test_no_calibration_data(optc: Optc, linear_file: Path) -> None:
    result = optc("inspect", linear_file, "--sensitivity", "--plot", "out.svg")
    refused(result, f"{linear_file}: --sensitivity needs calibration samples; give them with --calib X.npz")
    assert not Path("out.svg").exists()


def test_what_is_no_float_model(optc: Optc, tmp_path: Path, calib: Path) -> None:
    (tmp_path / "net.vta").mkdir()
    refused(optc("inspect", "net.vta", "--sensitivity"), "net.vta: is an artifact; --sensitivity takes")
    refused(optc("inspect", calib, "--sensitivity"), "calib.npz: is a VTA program; --sensitivity takes")
    refused(optc("inspect", "none.onnx", "--sensitivity"), "none.onnx")


def test_options_that_do_not_go_together(optc: Optc, linear_file: Path, calib: Path) -> None:
    refused(optc("inspect", linear_file, "--calib", calib), "--calib goes with --sensitivity")
    refused(optc("inspect", linear_file, "--samples", 3), "--samples goes with --sensitivity")
    refused(optc("inspect", linear_file, "--plot", "a.svg"), "--plot goes with --sensitivity")
    refused(optc("inspect", linear_file, "--sensitivity", "--disasm"), "--sensitivity or --disasm, not both")
    refused(optc("inspect", linear_file, "--sensitivity", "--samples", 0), "--samples", "0")
    named = optc("inspect", linear_file, "--sensitivity", "--calib", calib, "--plot", "a.png")
    refused(named, "a.png: --plot writes a picture; give it a file name that ends in .svg")
