"""`optc vta exec` and `optc inspect PROGRAM`, and everything that can be wrong with a program."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

Optc = Callable[..., Result]
Arrays = dict[str, Any]
VECTORS = Path(__file__).parents[1] / "targets" / "vta" / "vectors"
VECTOR = VECTORS / "random-0016.npz"
SMALL = {"LOG_BLOCK": 3, "LOG_UOP_BUFF_SIZE": 14, "LOG_INP_BUFF_SIZE": 14, "LOG_WGT_BUFF_SIZE": 15}
SMALL |= {"LOG_ACC_BUFF_SIZE": 16}


@pytest.fixture
def arrays() -> Arrays:
    """A vector's arrays, to be damaged."""
    with np.load(VECTOR) as file:
        return {name: file[name] for name in file}


def saved(arrays: Arrays) -> Path:
    np.savez("program.npz", **arrays)
    return Path("program.npz")


def refused(result: Result, *texts: str) -> None:
    """Exit status 2 and one line that holds `texts`."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("optc: ") and result.stderr.count("\n") == 1
    assert "internal error" not in result.stderr
    for text in texts:
        assert text in result.stderr


def finish(*flags: int) -> Arrays:
    """A program of one FINISH with these flag bits."""
    insns = np.zeros((1, 16), np.uint8)
    insns[0, 0] = 3 | sum(1 << f for f in flags)
    return {"insns": insns}


def test_match(optc: Optc) -> None:
    result = optc("vta", "exec", VECTOR)
    assert result.exit_code == 0, result.output
    assert "match: 5120 bytes are as expected" in result.stdout


@pytest.mark.parametrize("options", ["--order 5", "--device timed", "--unchecked"])
def test_json(optc: Optc, options: str) -> None:
    result = optc("vta", "exec", VECTOR, "--json", *options.split())
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["match"] is True and found["first"] is None and found["differ"] == 0


@pytest.mark.parametrize("timing", ["pynq", "de10"])
def test_cycles_of_the_rtl(optc: Optc, arrays: Arrays, timing: str) -> None:
    result = optc("vta", "exec", VECTOR, "--device", "timed", "--timing", timing, "--json")
    assert result.exit_code == 0, result.output
    expected = int(arrays[f"cycles_{timing}"])
    assert abs(json.loads(result.stdout)["cycles"] - expected) <= 0.02 * expected


def test_profile_of_timed(optc: Optc) -> None:
    result = optc("vta", "exec", VECTOR, "--device", "timed", "--profile")
    assert result.exit_code == 0, result.output
    for text in ("load", "compute", "store", "busy"):
        assert text in result.stdout


def test_first_differing_byte(optc: Optc, arrays: Arrays) -> None:
    where = int(arrays["out0_addr"]) + 300
    got = int(arrays["out0"][300])
    arrays["out0"][[300, 400]] ^= 1
    result = optc("vta", "exec", saved(arrays))
    assert result.exit_code == 1 and result.stderr == ""
    line = f"2 of 5120 bytes differ, first at {where:#x}: got {got:#04x}, want {got ^ 1:#04x}"
    assert line in result.stdout
    result = optc("vta", "exec", "program.npz", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["match"] is False
    assert found["first"] == {"address": where, "got": got, "want": got ^ 1}


def test_quiet(optc: Optc) -> None:
    result = optc("vta", "exec", VECTOR, "-q")
    assert result.exit_code == 0 and result.output == ""


# Configurations.


@pytest.mark.parametrize(
    ("config", "texts"),
    [
        ({"LOG_BLOCK": 3}, ("36", "32", "4")),
        ({"LOG_UOP_BUFF_SIZE": 16}, ("LOG_UOP_BUFF_SIZE", "13", "1")),
        ({"LOG_INP_WIDTH": 4}, ("LOG_INP_WIDTH",)),
        ({"LOG_BLOCK": "x"}, ("LOG_BLOCK",)),
        ({"LOG_BLOCKS": 4}, ("LOG_BLOCKS",)),
        ([1], ("JSON",)),
        (None, ("JSON",)),
    ],
)
def test_bad_configuration(optc: Optc, config: Any, texts: tuple[str, ...]) -> None:
    Path("vta.json").write_text("{" if config is None else json.dumps(config))
    refused(optc("vta", "exec", VECTOR, "--config", "vta.json"), *texts)


def test_no_configuration(optc: Optc) -> None:
    refused(optc("vta", "exec", VECTOR, "--config", "none.json"), "none.json")


def test_program_of_another_configuration(optc: Optc) -> None:
    Path("vta.json").write_text(json.dumps(SMALL))
    refused(optc("vta", "exec", VECTOR, "--config", "vta.json"), "instruction")
    refused(optc("vta", "exec", VECTOR, "--config", "vta.json", "--unchecked"), "instruction")


# Files.


def without(name: str) -> Callable[[Arrays], Arrays]:
    return lambda a: {k: v for k, v in a.items() if k != name}


ARRAYS: dict[str, Callable[[Arrays], Arrays]] = {
    "no instructions": without("insns"),
    "no address": without("in1_addr"),
    "no bytes": without("in1"),
    "no address of an output": without("out0_addr"),
    "instructions of 8 bytes": lambda a: a | {"insns": a["insns"][:, :8]},
    "flat instructions": lambda a: a | {"insns": a["insns"].reshape(-1)},
    "float instructions": lambda a: a | {"insns": a["insns"].astype(np.float32)},
    "empty": lambda a: {},
    "two addresses": lambda a: a | {"in0_addr": np.array([1, 2])},
    "negative address": lambda a: a | {"in0_addr": np.int64(-4096)},
    "float address": lambda a: a | {"in0_addr": np.float64(4096.5)},
    "huge address": lambda a: a | {"in0_addr": np.uint64(2**63)},
    "huge output address": lambda a: a | {"out0_addr": np.uint64(2**63)},
    "pickled": lambda a: a | {"in0": np.array([{}], object)},
}


@pytest.mark.parametrize("damage", ARRAYS.values(), ids=ARRAYS)
def test_bad_arrays(optc: Optc, arrays: Arrays, damage: Callable[[Arrays], Arrays]) -> None:
    refused(optc("vta", "exec", saved(damage(arrays))), "program.npz")


BYTES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda b: b"",
    "text": lambda b: b"not a program\n",
    "half": lambda b: b[: len(b) // 2],
    "cut at the end": lambda b: b[:-10],
    "damaged": lambda b: b[:2000] + bytes(500) + b[2500:],
    "zeros": lambda b: bytes(100),
}


@pytest.mark.parametrize("damage", BYTES.values(), ids=BYTES)
def test_damaged_file(optc: Optc, damage: Callable[[bytes], bytes]) -> None:
    Path("program.npz").write_bytes(damage(VECTOR.read_bytes()))
    refused(optc("vta", "exec", "program.npz"), "program.npz")


def test_no_file(optc: Optc) -> None:
    refused(optc("vta", "exec", "none.npz"), "none.npz")
    Path("folder.npz").mkdir()
    refused(optc("vta", "exec", "folder.npz"), "folder.npz")


# Programs that break a rule; the simulators stop by themselves too.


def opcode(arrays: Arrays) -> Arrays:
    arrays["insns"][2, 0] |= 7
    return arrays


def stray_bit(arrays: Arrays) -> Arrays:
    arrays["insns"][-1, 15] = 1
    return arrays


def beyond(arrays: Arrays) -> Arrays:
    """The first load reads from the end of the addresses."""
    low = int.from_bytes(bytes(arrays["insns"][0, :8]), "little") | (2**32 - 1) << 26
    arrays["insns"][0, :8] = np.frombuffer(low.to_bytes(8, "little"), np.uint8)
    return arrays


RULES: dict[str, Callable[[Arrays], Arrays]] = {
    "opcode": opcode,
    "a bit of no field": stray_bit,
    "addresses beyond the memory": beyond,
    "deadlock": lambda a: finish(3),
    "deadlock on the store module": lambda a: finish(4),
    "no instruction": lambda a: a | {"insns": a["insns"][:0]},
    "no FINISH": lambda a: a | {"insns": a["insns"][:-1]},
    "FINISH twice": lambda a: a | {"insns": np.concatenate([a["insns"], finish()["insns"]])},
}


@pytest.mark.parametrize(
    "options", ["", "--unchecked", "--unchecked --device timed", "--unchecked --order 3"]
)
@pytest.mark.parametrize("edit", RULES.values(), ids=RULES)
def test_broken_rule(optc: Optc, arrays: Arrays, edit: Callable[[Arrays], Arrays], options: str) -> None:
    refused(optc("vta", "exec", saved(edit(arrays)), *options.split()))


def test_options_of_the_other_device(optc: Optc) -> None:
    refused(optc("vta", "exec", VECTOR, "--timing", "pynq"), "--timing needs --device timed")
    refused(optc("vta", "exec", VECTOR, "--profile"), "--profile needs --device timed")
    refused(optc("vta", "exec", VECTOR, "--device", "timed", "--order", "1"), "--order needs --device fsim")


# inspect


def test_inspect_program(optc: Optc) -> None:
    shutil.copy(VECTOR, "program.npz")
    result = optc("inspect", "program.npz")
    assert result.exit_code == 0 and "GEMM" in result.stdout and "0x1000" in result.stdout
    found = json.loads(optc("inspect", "program.npz", "--json").stdout)
    assert found["instructions"]["FINISH"] == 1
    assert found["memory"][0] == {"kind": "in", "address": 4096, "bytes": 65536}


def test_disassembly(optc: Optc, arrays: Arrays) -> None:
    from optc.targets.vta.config import Config
    from optc.targets.vta.isa import encode
    from optc.targets.vta.text import assemble

    result = optc("inspect", VECTOR, "--disasm")
    assert result.exit_code == 0
    assert np.array_equal(encode(assemble(result.stdout), Config()), arrays["insns"])
    lines = json.loads(optc("inspect", VECTOR, "--disasm", "--json").stdout)["instructions"]
    assert "\n".join(lines) == result.stdout.rstrip("\n")


def test_disassembly_needs_a_program(optc: Optc, linear_file: Path) -> None:
    refused(optc("inspect", linear_file, "--disasm"), "holds no VTA program")
    Path("bad.npz").write_bytes(b"x")
    refused(optc("inspect", "bad.npz", "--disasm"), "bad.npz")


def test_an_artifact(optc: Optc, tmp_path: Path) -> None:
    """Its launches with their size, and every instruction under the name of its layer."""
    import onnx

    text = """<ir_version: 10, opset_import: ["" : 21]> g (float[1,16,4,4] x) => (float[1,16,4,4] y)
    <float s = {1}, int8 z = {0}> {
        q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) wd = DequantizeLinear (w, s, z)
        h = Conv (d, wd) hq = QuantizeLinear (h, s, z) e = DequantizeLinear (hq, s, z)
        k = Conv (e, wd) kq = QuantizeLinear (k, s, z) y = DequantizeLinear (kq, s, z) }"""
    proto = onnx.parser.parse_model(text)
    weight = np.ones((16, 16, 1, 1), np.int8)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(proto, tmp_path / "net.onnx")
    assert optc("compile", tmp_path / "net.onnx", "-t", "vta", "-p", "", "-o", "net.vta").exit_code == 0
    shown = optc("inspect", "net.vta")
    assert shown.exit_code == 0 and "launch" in shown.stdout and "kq" in shown.stdout
    lines = optc("inspect", "net.vta", "--disasm").stdout.split("\n")
    assert lines[0].startswith("# launch 0: optc.region.")
    assert {"# hq", "# kq"} <= {*lines}
    (found,) = json.loads(optc("inspect", "net.vta", "--disasm", "--json").stdout)["launches"].values()
    assert found == [line for line in lines if line and not line.startswith("#")]
    assert found[-1].split()[0] == "finish"
