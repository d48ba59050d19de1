"""CUDA code is compiled without a GPU, and refuses to run where it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import tvm_ffi

import optc
from optc.models.errors import InputError, MissingError
from optc.models.model import Model
from optc.targets.cuda import kernels
from optc.targets.cuda.cuda import Cuda, gpu_capability

TEXT = """<ir_version: 10, opset_import: ["": 21]>
g (float[2,8] x, float[8,4] w) => (float[2,4] y) { a = MatMul(x, w)  y = Relu(a) }"""


def model() -> Model:
    return Model(onnx.parser.parse_model(TEXT))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cuda") / "m.cuda"
    optc.compile(model(), Cuda(("sm_90", "sm_80")), "", out=out)
    return out


def test_a_cubin_for_each_architecture_and_ptx_of_the_lowest(artifact: Path) -> None:
    for arch, number in (("sm_80", 80), ("sm_90", 90)):
        cubin = (artifact / kernels.cubin_name(arch)).read_bytes()
        assert cubin[:4] == b"\x7fELF"
        assert int.from_bytes(cubin[48:52], "little") >> 8 & 0xFF == number  # e_flags of NVIDIA's ELF
    ptx = (artifact / kernels.PTX).read_text()
    assert ".target sm_80" in ptx and ".entry" in ptx


def test_the_manifest_tells_target_and_placement(artifact: Path) -> None:
    manifest = json.loads((artifact / "manifest.json").read_text())
    assert manifest["target"] == "cuda{arch=[sm_90,sm_80]}"
    assert {p["where"] for p in manifest["placement"]} == {"cuda"}
    assert optc.load(artifact).target == Cuda(("sm_90", "sm_80"))


def test_same_bytes_again(artifact: Path, tmp_path: Path) -> None:
    optc.compile(model(), Cuda(("sm_90", "sm_80")), "", out=tmp_path / "again.cuda")
    for path in artifact.iterdir():
        assert (tmp_path / "again.cuda" / path.name).read_bytes() == path.read_bytes(), path.name


def test_where_tvm_would_compile_for_the_gpu_it_finds(artifact: Path, tmp_path: Path) -> None:
    """On a machine with a GPU, TVM registers this function and makes cubins of its own."""
    factory = "ffi.Module.create.cuda"
    if tvm_ffi.get_global_func(factory, allow_missing=True) is None:

        def refuse(*_: object) -> None:
            raise AssertionError("TVM compiled the kernels")

        tvm_ffi.register_global_func(factory, refuse)
        try:
            optc.compile(model(), Cuda(("sm_90", "sm_80")), "", out=tmp_path / "again.cuda")
        finally:
            tvm_ffi.registry.remove_global_func(factory)
    else:
        optc.compile(model(), Cuda(("sm_90", "sm_80")), "", out=tmp_path / "again.cuda")
    for path in artifact.iterdir():
        assert (tmp_path / "again.cuda" / path.name).read_bytes() == path.read_bytes(), path.name


def test_without_a_gpu_it_says_so(artifact: Path) -> None:
    try:
        gpu_capability()
    except MissingError:
        with pytest.raises(MissingError, match="no NVIDIA GPU"):
            optc.load(artifact).runner()
    else:
        pytest.skip("this machine has a GPU")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[bytes]]:
    """A folder of made-up kernels, and what is handed to TVM's loader."""
    seen: list[bytes] = []
    monkeypatch.setattr("tvm_ffi.get_global_func", lambda name: seen.append)
    for name in ("kernels.sm_80.cubin", "kernels.sm_86.cubin", "kernels.ptx", "kernels.table"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path, seen


@pytest.mark.parametrize(
    ("card", "code"),
    [(80, "kernels.sm_80.cubin"), (89, "kernels.sm_86.cubin"), (90, "kernels.ptx"), (120, "kernels.ptx")],
)
def test_which_code_a_card_gets(folder: tuple[Path, list[bytes]], card: int, code: str) -> None:
    kernels.load(folder[0], ("sm_80", "sm_86"), card)
    assert folder[1][0].endswith(code.encode())


def test_a_card_that_is_too_old(folder: tuple[Path, list[bytes]]) -> None:
    with pytest.raises(MissingError, match="this GPU is sm_75; compile the model with --arch sm_75"):
        kernels.load(folder[0], ("sm_80", "sm_86"), 75)


@pytest.mark.parametrize("arch", [("sm_1",), ("80",), ()])
def test_architectures_that_are_none(arch: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--arch"):
        optc.compile(model(), Cuda(arch), "", out=tmp_path / "m.cuda")


def test_what_is_missing_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cuda.bindings", None)
    with pytest.raises(MissingError, match=r"pip install 'optc\[cuda\]'"):
        optc.compile(model(), Cuda(), "", out=tmp_path / "m.cuda")
    assert not (tmp_path / "m.cuda").exists()


def test_constants_channel_by_channel_become_kernels(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (float[1,2,8,8] x) => (int8 yq)
        <float one = {1}, int8 z = {0}, int32[2,1,1] k = {-2,300}, int8[2,1,1] l = {1,-1}> {
        q = QuantizeLinear (x, one, z) d = DequantizeLinear (q, one, z)
        kd = DequantizeLinear (k, one) ld = DequantizeLinear (l, one)
        a = Add (d, kd) m = Max (ld, a) yq = QuantizeLinear (m, one, z) }"""
    proto = onnx.parser.parse_model(text)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    artifact = Cuda().build(Model(proto), tmp_path)
    assert {p.where for p in artifact.placement} == {"cuda"} and all(p.integer for p in artifact.placement)
    assert "integer_channelwise" in (tmp_path / kernels.PTX).read_text()


def test_inputs_whose_names_are_no_identifiers(tmp_path: Path) -> None:
    """Kernels get arguments named after them; two of these names differ in nothing that C could spell."""
    named = onnx.parser.parse_model(TEXT)
    names = {"x": "a@whole", "w": "a:whole", "y": "ä"}
    for value in (*named.graph.input, *named.graph.output):
        value.name = names[value.name]
    for node in named.graph.node:
        node.input[:] = [names.get(n, n) for n in node.input]
        node.output[:] = [names.get(n, n) for n in node.output]
    out = tmp_path / "m.cuda"
    artifact = optc.compile(Model(named), Cuda(("sm_90",)), "", out=out).artifact
    assert {p.where for p in artifact.placement} == {"cuda"}
    assert (out / kernels.cubin_name("sm_90")).exists()
