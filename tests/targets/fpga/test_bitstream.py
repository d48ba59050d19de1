"""The way to a bitstream, which takes some ten minutes: slow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from machines import needs_rtl

from optc.models.zoo import zoo_entry
from optc.targets.compiler import compile
from optc.targets.fpga import bitstream
from optc.targets.fpga.fpga import Fpga

pytestmark = [needs_rtl, pytest.mark.slow]
PREAMBLE = b"\xff\xff\xbd\xb3"
"""Of an ECP5's bitstream (Lattice FPGA-TN-02039, "Bitstream format")."""


def test_a_network_and_its_bitstream(tmp_path: Path) -> None:
    artifact = compile("zoo:fashion-resnet", Fpga(), out=tmp_path / "a").artifact
    assert all((artifact.folder / name).stat().st_size for name in bitstream.FILES)
    assert PREAMBLE in (artifact.folder / "board.bit").read_bytes()[:1000]
    report = json.loads((artifact.folder / bitstream.REPORT).read_text())
    assert report["max_mhz"] >= report["target_mhz"] == report["mhz"] == 75
    assert all(0 < report["used"][name] <= report["available"][name] for name in report["used"])
    path = zoo_entry("fashion-resnet").test
    assert path is not None
    feeds = {"image": np.load(path)["image"][:1]}
    scores = [Fpga(device=device).runner(artifact).run(feeds)["logits"] for device in ("fsim", "netlist")]
    np.testing.assert_array_equal(*scores)
