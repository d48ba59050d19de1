"""The shape of a VTA: lane counts, data widths and buffer sizes, as the original's JSON names them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from pathlib import Path

from optc.models.errors import InputError


class Memory(IntEnum):
    """Memory ids of LOAD and STORE; ACC_8BIT is int8 in DRAM, widened into ACC (not portable)."""

    UOP = 0
    WGT = 1
    INP = 2
    ACC = 3
    OUT = 4
    ACC_8BIT = 5


_UOP_BITS = 32
"""Bits of a micro-op, and of what a GEMM's three pairs of factors may take of its high half, halved."""

_LOG_UOP_LIMIT = 13
"""A GEMM's low half has 13 bits for the first micro-op and 14 for the one behind the last."""


@dataclass(frozen=True)
class Config:
    """A configuration: base-2 logarithms of widths in bits, of lanes, and of buffer sizes in bytes.

    Raises `InputError` for one that the instruction fields cannot express.
    """

    log_inp_width: int = 3
    log_wgt_width: int = 3
    log_acc_width: int = 5
    log_batch: int = 0
    log_block: int = 4
    log_uop_buff_size: int = 15
    log_inp_buff_size: int = 15
    log_wgt_buff_size: int = 18
    log_acc_buff_size: int = 17

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_integer(field.name, getattr(self, field.name))
        for name, width in (("log_inp_width", 3), ("log_wgt_width", 3), ("log_acc_width", 5)):
            if getattr(self, name) != width:
                raise InputError(
                    f"{name.upper()} {getattr(self, name)}: this VTA has {width}; set it to that"
                )
        for memory in (Memory.UOP, Memory.WGT, Memory.INP, Memory.ACC):
            self._check_size(memory)
        self._check_fields()

    def _check_size(self, memory: Memory) -> None:
        name = f"LOG_{memory.name}_BUFF_SIZE"
        if self.log_depth(memory) < 1:
            need = self._log_element(memory) + 1
            raise InputError(f"{name} {self._log_size(memory)}: two elements need {need}; raise it")
        if self.log_depth(memory) > 16:
            raise InputError(
                f"{name} {self._log_size(memory)}: its {self.log_depth(memory)}-bit index passes the 16-bit "
                f"SRAM address by {self.log_depth(memory) - 16} bits; lower it"
            )

    def _check_fields(self) -> None:
        over = self.log_depth(Memory.UOP) - _LOG_UOP_LIMIT
        if over > 0:
            raise InputError(
                f"LOG_UOP_BUFF_SIZE {self.log_uop_buff_size}: the micro-op index has {_LOG_UOP_LIMIT} bits, "
                f"{over} too few; lower it by {over}"
            )
        used = sum(self.log_depth(m) for m in (Memory.ACC, Memory.INP, Memory.WGT))
        if used > _UOP_BITS:
            raise InputError(
                f"a micro-op has {_UOP_BITS} bits for ACC, INP and WGT indices, these buffers need {used}; "
                "lower LOG_ACC_BUFF_SIZE, LOG_INP_BUFF_SIZE or LOG_WGT_BUFF_SIZE "
                f"by {used - _UOP_BITS} in all"
            )
        over = self.log_depth(Memory.ACC) + self.log_depth(Memory.INP) - 22
        if over > 0:
            raise InputError(
                f"an ALU instruction has 22 bits for an ACC and an INP factor, these need {over} more; "
                f"lower LOG_ACC_BUFF_SIZE or LOG_INP_BUFF_SIZE by {over}"
            )

    @classmethod
    def from_json(cls, text: str, where: str = "configuration") -> Config:
        """From the original's JSON; missing keys keep their defaults, TARGET and the like are passed over."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InputError(f"{where}: not JSON ({error})") from error
        if not isinstance(values, dict):
            raise InputError(f"{where}: not a JSON object; write one with LOG_BLOCK and the like")
        names = {f.name.upper(): f.name for f in fields(cls)}
        unknown = [k for k in values if k.startswith("LOG_") and k not in names and k != "LOG_OUT_WIDTH"]
        if unknown:
            raise InputError(f"{where}: unknown key {unknown[0]}; there are {', '.join(names)}")
        return cls(**{name: values[key] for key, name in names.items() if key in values})

    @classmethod
    def load(cls, path: Path) -> Config:
        """Read the JSON file at `path`; `InputError` where it cannot be read or is no configuration."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot read it as text: {error}") from error
        return cls.from_json(text, str(path))

    def to_json(self) -> str:
        """As the original's JSON, one key a line."""
        return json.dumps({k.upper(): v for k, v in asdict(self).items()}, indent=1) + "\n"

    @property
    def batch(self) -> int:
        """Rows of an INP, ACC or OUT element."""
        return 1 << self.log_batch

    @property
    def block(self) -> int:
        """Lanes: input channels, and output channels, of one GEMM step."""
        return 1 << self.log_block

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates of one GEMM step."""
        return self.batch * self.block * self.block

    def element_bytes(self, memory: Memory) -> int:
        """Bytes of one element of `memory` in DRAM."""
        return 1 << self._log_element(memory)

    def depth(self, memory: Memory) -> int:
        """Elements that `memory` holds on chip (OUT and ACC_8BIT: those of ACC)."""
        return 1 << self.log_depth(memory)

    def log_depth(self, memory: Memory) -> int:
        """Base-2 logarithm of `depth`: bits of an index."""
        if memory in (Memory.OUT, Memory.ACC_8BIT):
            memory = Memory.ACC
        return self._log_size(memory) - self._log_element(memory)

    def _log_size(self, memory: Memory) -> int:
        size: int = getattr(self, f"log_{memory.name.lower()}_buff_size")
        return size

    def _log_element(self, memory: Memory) -> int:
        """Base-2 logarithm of an element's bytes in DRAM."""
        if memory == Memory.UOP:
            return 2
        if memory == Memory.WGT:
            return 2 * self.log_block + self.log_wgt_width - 3
        width = self.log_acc_width if memory == Memory.ACC else self.log_inp_width
        return self.log_batch + self.log_block + width - 3


def _check_integer(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 31:
        raise InputError(f"{name.upper()} {value!r} is not an integer from 0 to 31; correct it")
