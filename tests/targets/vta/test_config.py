"""Configurations: what they derive, and what the fields cannot express."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from optc.models.errors import InputError
from optc.targets.vta.config import Config, Memory

SMALLER = {
    "log_inp_buff_size": 14,
    "log_wgt_buff_size": 15,
    "log_acc_buff_size": 16,
    "log_uop_buff_size": 14,
}


def test_default_is_the_originals() -> None:
    config = Config()
    elements = {m.name: (config.element_bytes(m), config.depth(m)) for m in Memory}
    assert elements == {
        "UOP": (4, 8192),
        "WGT": (256, 1024),
        "INP": (16, 2048),
        "ACC": (64, 2048),
        "OUT": (16, 2048),
        "ACC_8BIT": (16, 2048),
    }
    assert (config.batch, config.block, config.macs_per_cycle) == (1, 16, 256)


@pytest.mark.parametrize("log_batch", [0, 1, 2])
@pytest.mark.parametrize("log_block", [2, 3, 4, 5])
def test_other_shapes(log_batch: int, log_block: int) -> None:
    config = Config(log_batch=log_batch, log_block=log_block, **SMALLER) if log_block != 2 else Config(
        log_batch=log_batch, log_block=2, log_uop_buff_size=14,
        log_inp_buff_size=12, log_wgt_buff_size=12, log_acc_buff_size=14,
    )  # fmt: skip
    batch, block = 1 << log_batch, 1 << log_block
    assert config.element_bytes(Memory.INP) == config.element_bytes(Memory.OUT) == batch * block
    assert config.element_bytes(Memory.ACC) == 4 * batch * block
    assert config.element_bytes(Memory.WGT) == block * block
    for memory in (Memory.UOP, Memory.WGT, Memory.INP, Memory.ACC):
        size = getattr(config, f"log_{memory.name.lower()}_buff_size")
        assert config.depth(memory) * config.element_bytes(memory) == 1 << size
    assert Config.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"log_block": 3},
            "a micro-op has 32 bits for ACC, INP and WGT indices, these buffers need 36; .* by 4",
        ),
        ({"log_uop_buff_size": 16}, "LOG_UOP_BUFF_SIZE 16: the micro-op index has 13 bits, 1 too few"),
        ({"log_inp_buff_size": 21}, "passes the 16-bit SRAM address by 1 bits"),
        ({"log_inp_buff_size": 16, "log_wgt_buff_size": 17}, "22 bits for an ACC and an INP factor"),
        ({"log_wgt_buff_size": 8}, "LOG_WGT_BUFF_SIZE 8: two elements need 9"),
        ({"log_acc_width": 4}, "LOG_ACC_WIDTH 4: this VTA has 5"),
        ({"log_block": -1}, "LOG_BLOCK -1 is not an integer from 0 to 31"),
        ({"log_block": "4"}, "LOG_BLOCK '4' is not an integer"),
    ],
)
def test_what_the_fields_cannot_express(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Config(**values)


def test_json_of_the_original(tmp_path: Path) -> None:
    path = tmp_path / "vta.json"
    path.write_text(json.dumps({"TARGET": "pynq", "LOG_BLOCK": 4, "LOG_BATCH": 1, "LOG_OUT_WIDTH": 3}))
    assert Config.load(path) == Config(log_batch=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[]", "not a JSON object"), ('{"LOG_BLOK": 4}', "unknown key LOG_BLOK")],
)
def test_json_that_is_no_configuration(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "vta.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        Config.load(path)
    with pytest.raises(InputError, match="cannot read it"):
        Config.load(tmp_path / "missing.json")
