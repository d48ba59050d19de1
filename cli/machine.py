"""What of this machine matters: versions, compiler, GPU, extras, and what each missing thing costs."""

from __future__ import annotations

import ctypes
import platform
import re
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

BASE = (
    "apache-tvm==0.27.0.post1",
    "apache-tvm-ffi==0.1.14.post1",
    "click",
    "numpy",
    "onnx",
    "onnx-graphsurgeon",
    "onnxruntime",
    "platformdirs",
    "rich",
)
"""What is checked where optc is not installed, such as in a source tree; else the package's own list."""

EXTRAS = {
    "cuda": "target cuda: no CUDA code can be compiled",
    "tune": "no schedule search by TVM's MetaSchedule",
    "train": "no distillation, no import from torch",
    "fpga": "target fpga and its simulation",
    "cluster": "no partitioned runs over Ray",
    "nccl": "ranks on GPUs send through the host, not by NCCL",
}
"""What each extra's absence costs."""

_REQUIREMENT = re.compile(r"^([\w.-]+)(?:\[[^\]]*\])?\s*([^;]*)(?:;.*extra\s*==\s*['\"]([\w-]+)['\"])?")
_BOUND = re.compile(r"(==|>=|<=|<|>|!=)\s*([\w.]+)")


@dataclass(frozen=True)
class Finding:
    """One line: `state` is "ok", "missing" (costs something) or "bad" (the base does not work)."""

    what: str
    found: str
    state: str
    cost: str = ""


def examine() -> list[Finding]:
    """All findings, the base first."""
    return [_python(), _platform(), *_base(), _compiler(), _gpu(), *_extras()]


def _python() -> Finding:
    return Finding("Python", platform.python_version(), "ok")  # pip refuses to install optc on older ones


def _platform() -> Finding:
    found = f"{platform.system()} {platform.machine()}"
    tested = found == "Linux x86_64"
    return Finding("platform", found, "ok" if tested else "missing", "" if tested else "not tested here")


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """The base requirements, and those of each extra; from the installed package where there is one."""
    try:
        lines = requires("optc") or []
    except PackageNotFoundError:
        return list(BASE), {}
    base: list[str] = []
    extras: dict[str, list[str]] = {}
    for line in lines:
        match = _REQUIREMENT.match(line)
        if match is None:
            continue
        text = match[1] + match[2].strip(" ()")
        (extras.setdefault(match[3], []) if match[3] else base).append(text)
    return base, extras


def _base() -> list[Finding]:
    return [_package(text) for text in _requirements()[0]]


def _package(text: str) -> Finding:
    match = _REQUIREMENT.match(text)
    assert match is not None
    name, bounds = match[1], match[2]
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, "not installed", "bad", f"pip install '{text}'")
    if fits(found, bounds):
        return Finding(name, found, "ok")
    return Finding(name, found, "bad", f"needs {bounds}: pip install '{text}'")


def fits(found: str, bounds: str) -> bool:
    """Whether version `found` satisfies `bounds`, such as ">=1.23,<2" or "==0.27.0.post1"."""
    for operator, wanted in _BOUND.findall(bounds):
        a, b = _parts(found), _parts(wanted)
        order = (a > b) - (a < b)
        allowed = {"==": (0,), "!=": (-1, 1), ">=": (0, 1), ">": (1,), "<=": (-1, 0), "<": (-1,)}[operator]
        if order not in allowed:
            return False
    return True


def _parts(text: str) -> tuple[int, ...]:
    """A release as numbers: trailing zeros do not count, a post-release comes after its release."""
    release, _, post = text.partition(".post")
    numbers = [int(n) for n in re.findall(r"\d+", release)]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return (*numbers, -1, int(post)) if post else (*numbers,)


def _compiler() -> Finding:
    for name in ("c++", "g++", "clang++", "cc", "gcc", "clang"):
        path = shutil.which(name)
        if path:
            return Finding("C++ compiler", path, "ok")
    return Finding("C++ compiler", "none", "missing", "nothing today: artifacts are linked without one")


def _gpu() -> Finding:
    cost = "artifacts for cuda compile here, but do not run here"
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Finding("GPU", "no driver (libcuda.so.1)", "missing", cost)
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return Finding("GPU", "driver, but no device", "missing", cost)
    return Finding("GPU", f"{count.value} device(s)", "ok")


def _extras() -> list[Finding]:
    extras = _requirements()[1]
    if not extras:
        return [Finding("extras", "not checked", "missing", "optc itself is not installed: pip install .")]
    findings = []
    for name, cost in EXTRAS.items():
        packages = [_package(text) for text in extras.get(name, [])]
        wrong = [f.what for f in packages if f.state != "ok"]
        found = f"without {', '.join(wrong)}" if wrong else "installed"
        lost = f"{cost}; pip install 'optc[{name}]'" if wrong else ""
        findings.append(Finding(f"extra {name}", found, "missing" if wrong else "ok", lost))
    return findings
