"""What the timing models know of each implementation of VTA, in numbers (docs/vta.md, "Cycles")."""

from __future__ import annotations

from dataclasses import dataclass

WORD_BYTES = 8
"""Bytes of a word on the bus: one a cycle."""


@dataclass(frozen=True)
class Timing:
    """An implementation's figures, in cycles unless said otherwise.

    `burst_bytes`: the longest burst, aligned; `fetch_block`: instructions that fetch reads at once;
    `drain`: of GEMM and ALU beyond their steps, until the next instruction can begin; `tensor`: of a step of
    ALU with two operands; `store`: of an element of 16 bytes that is stored.
    """

    name: str
    burst_bytes: int
    fetch_block: int
    drain: int
    tensor: int
    store: int


@dataclass(frozen=True)
class Serial(Timing):
    """Of a machine whose modules do an instruction at a time: the original RTL.

    `launch`: until the first instruction can start; `request`, `close`: of a LOAD before its first word and
    behind its last (a LOAD UOP closes one earlier); `token`: an instruction that moves tokens only; `refill`:
    fetch, between two blocks, beyond 3 an instruction.
    """

    drain: int = 9
    tensor: int = 2
    store: int = 3
    launch: int = 21
    request: int = 20
    close: int = 5
    token: int = 4
    refill: int = 20


@dataclass(frozen=True)
class Overlapped(Timing):
    """Of a machine that asks for words, and begins an instruction, while others are under way: optc's RTL.

    `latency`: from a burst's request to its first word; `outstanding`: bursts under way; `rows`: until the
    first burst of a LOAD or STORE is asked for; `ahead`: instructions behind a module's gate that have not
    begun; `queue`: instructions in front of it; `fetch_room`, `room`: words under way for fetch and for the
    compute module, which asks for `compute_bytes` at most; `buffer`: through a queue in block RAM; `retire`:
    from a step to the tokens that it gives; `hold`: from a step to a write of ACC from DRAM; `answer`: of a
    store beyond its words and its rows; `idle`: a store without words.
    """

    drain: int = 0
    tensor: int = 1
    store: int = 2
    latency: int = 17
    outstanding: int = 16
    rows: int = 2
    ahead: int = 4
    queue: int = 512
    fetch_room: int = 64
    room: int = 128
    compute_bytes: int = 256
    buffer: int = 2
    retire: int = 10
    hold: int = 12
    answer: int = 6
    idle: int = 3


PYNQ = Serial("pynq", burst_bytes=2048, fetch_block=128)
DE10 = Serial("de10", burst_bytes=128, fetch_block=8)
OPTC = Overlapped("optc", burst_bytes=2048, fetch_block=16)

TIMINGS: dict[str, Timing] = {t.name: t for t in (PYNQ, DE10, OPTC)}
