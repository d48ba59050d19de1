"""Speed of the VTA simulators on the convolutions of ResNet-18 (input 224 x 224), one program each.

    python benchmarks/vta_sim.py            measure and write results/vta_sim.json
    python benchmarks/vta_sim.py --check    measure and say which bar holds; write nothing

Each program passes the checker, and its output equals the integer reference. Speeds are multiply-accumulates
that the GEMM unit does a second, beside numpy's float32 matmul of 1024 x 1024 matrices on one thread, taken
in turns of about 20 ms; `useful` leaves out the channels that fill up a block. A simulator decodes a program
when it runs it for the first time; `decode_share` is what that takes beside a run.
Bars: at least 0.12 of numpy's for every program; a timed run, pynq and de10, within 1.5 times the functional
one. Stretch: 12 GMAC/s for every program, double of what the original's C++ simulator does.
Exit status 1 where a result is wrong or a bar fails.
"""

from __future__ import annotations

import os

os.environ |= {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

import argparse  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import partial  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from common import header, write  # noqa: E402
from vta_conv import OUTPUT_AT, STREAM_AT, Convolution, build, result, result_bytes, steps  # noqa: E402

from optc.passes.quantize.integer.compute import compute  # noqa: E402
from optc.passes.quantize.integer.ops import Clamped, Layer, Shifted, Window  # noqa: E402
from optc.passes.quantize.scales import Code  # noqa: E402
from optc.targets.bench import interleaved  # noqa: E402
from optc.targets.vta.check import check  # noqa: E402
from optc.targets.vta.config import Config  # noqa: E402
from optc.targets.vta.isa import decode  # noqa: E402
from optc.targets.vta.program import Program  # noqa: E402
from optc.targets.vta.sim import Fsim  # noqa: E402
from optc.targets.vta.timed import Timed  # noqa: E402
from optc.targets.vta.timing import TIMINGS  # noqa: E402

SEED = 0
MATMUL = 1024
BAR, TIMED_BAR, STRETCH = 0.12, 1.5, 12e9

LAYERS = {
    "conv1": Convolution(3, 64, 224, 7, 2, 3),
    "layer1": Convolution(64, 64, 56, 3, 1, 1),
    "layer2 first": Convolution(64, 128, 56, 3, 2, 1),
    "layer2 shortcut": Convolution(64, 128, 56, 1, 2, 0),
    "layer2": Convolution(128, 128, 28, 3, 1, 1),
    "layer3 first": Convolution(128, 256, 28, 3, 2, 1),
    "layer3 shortcut": Convolution(128, 256, 28, 1, 2, 0),
    "layer3": Convolution(256, 256, 14, 3, 1, 1),
    "layer4 first": Convolution(256, 512, 14, 3, 2, 1),
    "layer4 shortcut": Convolution(256, 512, 14, 1, 2, 0),
    "layer4": Convolution(512, 512, 7, 3, 1, 1),
}

Row = dict[str, Any]


def measure(name: str, conv: Convolution) -> Row:
    """One layer: whether its result is right, speeds, ratios, and cycles of both timings."""
    rng = np.random.default_rng(SEED)
    x = rng.integers(-128, 128, (conv.channels, conv.size, conv.size)).astype(np.int8)
    weight = rng.integers(-127, 128, (conv.outputs, conv.channels, conv.kernel, conv.kernel)).astype(np.int8)
    bias = rng.integers(-1000, 1000, conv.outputs).astype(np.int32)
    shift = _shift(conv)
    program = build(conv, x, weight, bias, shift)
    check(decode(program.instructions, Config()), Config(), program.memory_image())
    devices: dict[str, Fsim | Timed] = {"fsim": Fsim(Config())}
    devices |= {timing: Timed(Config(), TIMINGS[timing]) for timing in TIMINGS}
    for device in devices.values():
        _place(device, program)
    count = len(program.instructions)
    cycles = {n: d.run(STREAM_AT, count) for n, d in devices.items()}
    wanted = _reference(conv, x, weight, bias, shift)
    right = all(
        np.array_equal(result(conv, d.read(OUTPUT_AT, result_bytes(conv))), wanted) for d in devices.values()
    )
    macs = steps(program) * Config().macs_per_cycle
    row: Row = {"layer": name, "right": right, "instructions": count, "macs": macs, "useful_macs": conv.macs}
    return (
        row
        | {"cycles": {n: c for n, c in cycles.items() if n in TIMINGS}}
        | _speeds(devices, count, macs, conv.macs)
    )


def _place(device: Fsim | Timed, program: Program) -> None:
    for address, data in program.inputs:
        device.write(address, data)
    device.write(STREAM_AT, program.instructions.reshape(-1))


def _speeds(devices: dict[str, Fsim | Timed], count: int, macs: int, useful: int) -> Row:
    matrix = np.random.default_rng(SEED).random((MATMUL, MATMUL)).astype(np.float32)
    stream = devices["fsim"].read(STREAM_AT, count * 16).reshape(count, 16)
    turns: dict[str, Callable[[], object]] = {"matmul": lambda: matrix @ matrix}
    turns["decode"] = lambda: decode(stream, Config())
    turns |= {name: partial(device.run, STREAM_AT, count) for name, device in devices.items()}
    repeats = {name: _repeats(turn) for name, turn in turns.items()}
    times = interleaved({name: partial(_repeat, turn, repeats[name]) for name, turn in turns.items()})
    median = {name: float(np.median(t)) / repeats[name] for name, t in times.items()}
    numpy_speed = MATMUL**3 / median["matmul"]
    return {
        "gmac_per_s": macs / median["fsim"] / 1e9,
        "useful_gmac_per_s": useful / median["fsim"] / 1e9,
        "numpy_gmac_per_s": numpy_speed / 1e9,
        "decode_share": median["decode"] / median["fsim"],
        "ratio_to_numpy": macs / median["fsim"] / numpy_speed,
        "timed_ratio": {n: median[n] / median["fsim"] for n in TIMINGS},
        "turns": len(times["fsim"]),
        "runs_a_turn": repeats,
    }


def _repeats(run: Callable[[], object]) -> int:
    """How many runs take about as long as the matmul: a turn of each kind."""
    start = time.perf_counter()
    run()
    return max(1, round(0.02 / (time.perf_counter() - start)))


def _repeat(run: Callable[[], object], count: int) -> None:
    for _ in range(count):
        run()


def _shift(conv: Convolution) -> int:
    """Bits that bring sums of random products to a third of the codes' range."""
    return int(np.log2(74 * 73 * np.sqrt(conv.channels * conv.kernel**2) / 43) + 0.5)


def _reference(conv: Convolution, x: Any, weight: Any, bias: Any, shift: int) -> Any:
    """The layer by the integer reference: int8 codes, power-of-two scales, `half_up`."""
    code = Code(np.float32(1), 0, np.dtype(np.int8))
    window = Window((conv.kernel,) * 2, (conv.stride,) * 2, (1, 1), (conv.pad,) * 4)
    ending = Shifted(Clamped(code, -128, 127), np.array(shift))
    layer = Layer((), ("x",), "y", code, weight, bias.reshape(-1, 1, 1), window, 1, ending, 2**31 - 1)
    return compute(layer, {"x": x[None]}, "half_up")[0]


def main() -> int:
    """Run as the module's docstring says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    rows: list[Row] = []
    for name, conv in LAYERS.items():
        row = measure(name, conv)
        rows.append(row)
        timed = ", ".join(f"{n} {r:.2f}" for n, r in row["timed_ratio"].items())
        print(
            f"{name:16} {'right' if row['right'] else 'WRONG'} {row['gmac_per_s']:6.2f} GMAC/s, "
            f"{row['ratio_to_numpy']:.3f} of numpy; timed / functional: {timed}",
            flush=True,
        )
    bars = {
        "every result right": all(r["right"] for r in rows),
        f"at least {BAR} of numpy": all(r["ratio_to_numpy"] >= BAR for r in rows),
        f"timed within {TIMED_BAR}": all(t <= TIMED_BAR for r in rows for t in r["timed_ratio"].values()),
    }
    stretch = all(r["gmac_per_s"] * 1e9 >= STRETCH for r in rows)
    for name, holds in bars.items():
        print(f"{name}: {'holds' if holds else 'FAILS'}")
    print(f"stretch, {STRETCH / 1e9:g} GMAC/s: {'holds' if stretch else 'fails'}")
    if not options.check:
        packages = ("optc", "numpy", "numba")
        write("vta_sim", header(packages, {"data": SEED}), rows, bars | {"stretch: 12 GMAC/s": stretch})
    return int(not all(bars.values()))


if __name__ == "__main__":
    sys.exit(main())
