"""What the timing models know of each implementation of VTA, in numbers (docs/vta.md, "Cycles")."""

from __future__ import annotations

from dataclasses import dataclass

WORD_BYTES = 8
"""Bytes of a word on the bus: one a cycle."""


@dataclass(frozen=True)
class Timing:
    """An implementation's figures, in cycles unless said otherwise.

    `burst_bytes`: the longest burst, aligned; `fetch_block`: instructions that fetch reads at once;
    `drain`: of GEMM and ALU from their last step to their end.
    """

    name: str
    burst_bytes: int
    fetch_block: int
    drain: int = 9


@dataclass(frozen=True)
class Serial(Timing):
    """Of a machine whose modules do an instruction at a time: the original RTL.

    `launch`: until the first instruction can start; `request`, `close`: of a LOAD before its first word and
    behind its last (a LOAD UOP closes one earlier); `token`: an instruction that moves tokens only; `refill`:
    fetch, between two blocks, beyond 3 an instruction.
    """

    launch: int = 21
    request: int = 20
    close: int = 5
    token: int = 4
    refill: int = 20


@dataclass(frozen=True)
class Overlapped(Timing):
    """Of a machine that asks for words, and begins an instruction, while others are under way: optc's RTL.

    The read port: `latency` from a burst's request to its first word (the memory's 16, and a register),
    bursts `outstanding` at most. Fetch: words under way (`fetch_room`), instructions in a module's queue
    (`queue`). Behind a module's gate: instructions that wait until it begins those before (`ahead`), and
    `rows`, until the first burst of a LOAD is asked for. Compute: bytes of a burst, words under way (`room`),
    and `hold`, from the last step to the first write of ACC from DRAM. `buffer`: through a queue in block
    RAM. A STORE: `answer` beyond its words, `empty` without any.
    """

    latency: int = 17
    outstanding: int = 16
    fetch_room: int = 64
    queue: int = 512
    ahead: int = 2
    rows: int = 4
    compute_burst_bytes: int = 256
    room: int = 128
    hold: int = 10
    buffer: int = 3
    answer: int = 8
    empty: int = 4


PYNQ = Serial("pynq", burst_bytes=2048, fetch_block=128)
DE10 = Serial("de10", burst_bytes=128, fetch_block=8)
OPTC = Overlapped("optc", burst_bytes=2048, fetch_block=16, drain=11)
