"""Cycles of optc's own RTL, measured in Verilator with the default memory; the slow tests measure them again.

Programs are text (`optc.targets.vta.text`); a FINISH goes behind them that takes the tokens they leave.
"""

from __future__ import annotations

_GEMM = "gemm uops=0:{} iter={},{} dst=0,0 src=0,0 wgt=0,0"
_ALU = "alu {} uops=0:1 iter=8,32 dst=0,0 src=0,0 {}"
_LOAD = "load {} sram=0 dram=1024 size={},{} stride={}"
_STORE = "store out {} sram=0 dram=1048576 size={},{} stride={}"
_BIG, _LAST = (_LOAD.format(f"wgt{flag}", 1, 64, 64) for flag in ("", " push_next"))
_SMALL = _GEMM.format(1, 4, 4)
_LONG, _LONGEST = _GEMM.format(1, 129, 16), _GEMM.format(2, 100, 100)
_STREAM = _LOAD.format("wgt push_next", 1, 512, 512)
_NOTHING = [f"{kind} sram=0 dram=0 size=0,0 stride=0" for kind in ("load inp", "store out")]

PROGRAMS: dict[str, tuple[list[str], int]] = {
    "finish": ([], 39),
    "a GEMM": ([_GEMM.format(9, 14, 14)], 1805),
    "a reset": (["gemm reset" + _GEMM.format(2, 8, 16)[4:]], 297),
    "ALU with an immediate": ([_ALU.format("max", "imm=0")], 297),
    "ALU of two operands": ([_ALU.format("add", "tensor")], 297),
    "LOAD INP": ([_LOAD.format("inp push_next", 1, 196, 196)], 453),
    "LOAD INP, rows": ([_LOAD.format("inp push_next", 14, 14, 56)], 453),
    "LOAD INP, padded": ([_LOAD.format("inp push_next", 14, 14, 14) + " pad=1,1,1,1"], 496),
    "LOAD WGT": ([_LAST], 2109),
    "LOAD ACC": ([_LOAD.format("acc", 1, 64, 64)], 575),
    "LOAD ACC, padded": ([_LOAD.format("acc", 3, 5, 9) + " pad=2,1,1,3"], 203),
    "LOAD UOP": ([_LOAD.format("uop", 1, 64, 64)], 95),
    "LOAD UOP from an odd place": (["load uop sram=3 dram=1025 size=1,7 stride=7"], 67),
    "STORE": ([_STORE.format("push_prev", 32, 8, 64)], 559),
    "STORE of nothing": (["store out push_prev sram=0 dram=0 size=0,0 stride=0"], 43),
    "two STOREs": ([_STORE.format("", 2, 8, 64), _STORE.format("push_prev", 1, 3, 3)], 93),
    "GEMMs follow each other": ([_GEMM.format(1, 16, 16)] * 8, 2089),
    "LOADs follow each other": ([*[_BIG] * 7, _LAST], 16445),
    "LOADs and GEMMs overlap": ([*[_BIG, _LONG] * 7, _LAST, _LONG], 16555),
    "LOAD ACC waits until a GEMM has drained": ([_SMALL, _LOAD.format("acc", 1, 4, 4)] * 2, 157),
    "LOAD UOP waits until a GEMM has ended": ([_SMALL, _LOAD.format("uop", 1, 4, 4)] * 2, 88),
    "words for ACC come while a GEMM runs": (
        [_GEMM.format(4, 16, 16), _LOAD.format("acc", 1, 256, 256)],
        3122,
    ),
    "two modules share the port": ([_LAST, "load acc sram=0 dram=8192 size=1,256 stride=256"], 4159),
    "a GEMM waits for a LOAD": ([_LAST, "gemm pop_prev" + _GEMM.format(1, 8, 16)[4:]], 2239),
    "a LOAD waits for a GEMM, a STORE for both": (
        [
            "gemm push_prev" + _GEMM.format(1, 8, 16)[4:],
            _LOAD.format("inp pop_next push_next", 1, 16, 16),
            "gemm pop_prev push_next" + _GEMM.format(1, 8, 16)[4:],
            _STORE.format("pop_prev push_prev", 1, 16, 16),
        ],
        415,
    ),
    "a LOAD ACC gives a token while the next waits": (
        [
            _LOAD.format("acc push_prev", 1, 8, 8),
            _LOAD.format("inp pop_next push_next", 1, 4, 4),
            "gemm pop_prev" + _GEMM.format(1, 8, 16)[4:],
            _LOAD.format("acc", 1, 40, 40),
        ],
        627,
    ),
    "instructions of nothing": ([*_NOTHING * 200, _NOTHING[0] + " push_next"], 842),
    "words for ACC come behind bursts under way": (
        [_STREAM, _SMALL, _LOAD.format("acc", 1, 40, 40), _LONGEST],
        28577,
    ),
    "instructions come behind bursts under way": ([_STREAM, *[_SMALL] * 50, _LONGEST], 24505),
    "words are asked for by four that wait": (
        [
            *(_STREAM, _LOAD.format("acc", 1, 4, 4)),
            *[_SMALL] * 4,
            _LONG,
            *[_SMALL] * 3,
            *(_LOAD.format("uop", 1, 64, 64), _LONGEST),
        ],
        27041,
    ),
    "a LOAD comes behind instructions that fill a queue": (
        [*[_LONG] * 6, *[_GEMM.format(1, 1, 1)] * 520, _LOAD.format("wgt push_next", 1, 1000, 1000)],
        44457,
    ),
}
"""Instructions, and cycles from launch to finish."""


def with_finish(lines: list[str]) -> str:
    """The program's text: behind `lines` a FINISH that takes the tokens which they leave."""
    text = "\n".join(lines)
    flags = [""]
    for word, push, pop in (("load", "push_next", "pop_prev"), ("store", "push_prev", "pop_next")):
        given = sum(line.startswith(word) and push in line.split() for line in lines)
        taken = sum(line.startswith(("gemm", "alu")) and pop in line.split() for line in lines)
        flags += [pop] * (given > taken)
    return f"{text}\nfinish{' '.join(flags)}\n"


VECTORS = {
    "conv-CI16-CO64-H10-W12": 11439,
    "conv-CI48-CO48-H12-W12": 19773,
    "conv-CI64-CO128-H10-W10": 46623,
    "conv-H28-W28-CI16-CO16": 19276,
    "conv-K1-P0": 6869,
    "conv-K5-P2-H12-W12-CI16-CO32": 12416,
    "conv-S_2": 5029,
    "conv-default": 13820,
    "random-0000": 7821,
    "random-0002": 7719,
    "random-0003": 7785,
    "random-0004": 7637,
    "random-0005": 8059,
    "random-0006": 7993,
    "random-0007": 7847,
    "random-0009": 7799,
    "random-0010": 7564,
    "random-0011": 7889,
    "random-0012": 7601,
    "random-0014": 7719,
    "random-0015": 7644,
    "random-0016": 7781,
    "random-0017": 7841,
    "random-0018": 8077,
    "random-0019": 7719,
    "random-0021": 7729,
    "random-0022": 7796,
    "random-0023": 7759,
    "random-0024": 7883,
    "random-0025": 7659,
    "random-0026": 7855,
    "random-0027": 8153,
    "random-0028": 7787,
    "random-0029": 7816,
    "random-0030": 7730,
    "random-0031": 7857,
    "random-0033": 7811,
    "random-0034": 7723,
    "random-0035": 7975,
    "random-0036": 7709,
}
"""Cycles of the files in `vectors`."""
