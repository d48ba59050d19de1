"""What is proved of the RTL, and for each property a planted bug that the proof finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from proofs import mutated, needs_prover, verdict

pytestmark = needs_prover
SMALL_QUEUE, LARGE_QUEUE = 3, 17
"""One of registers, one of block RAM."""

PROOFS: dict[str, tuple[str, str, dict[str, int], str, int]] = {
    "tokens": ("Tokens", "counter", {}, "prove", 2),
    "gates": ("Gated", "gate", {}, "prove", 2),
    "level of a small queue": ("Levels", "fifo", {"depth": SMALL_QUEUE}, "prove", 2),
    "level of a large queue": ("Levels", "fifo", {"depth": LARGE_QUEUE}, "prove", 4),
    "order in a small queue": ("Order", "fifo", {"depth": SMALL_QUEUE}, "bmc", 12),
    "order in a large queue": ("Order", "fifo", {"depth": LARGE_QUEUE}, "bmc", 12),
    "arbiter's requests": ("Asked", "arbiter", {}, "prove", 2),
    "writes": ("Writes", "store", {}, "bmc", 12),
    "bus": ("Bus", "axi", {}, "bmc", 12),
    "arbiter's answers": ("Answered", "arbiter", {}, "bmc", 12),
}
"""Which design of `properties`, around which module, how it is checked, over how many cycles."""

BUGS: dict[str, tuple[str, str, str]] = {
    "raised a token early": ("tokens", "level == LIMIT)", "level == LIMIT - 1)"),
    "wraps above": ("tokens", " & ~self.overflow)", ")"),
    "wraps below": ("tokens", " & self.available)", ")"),
    "takes what is not there": ("gates", "given.valid & ~prev_missing", "given.valid"),
    "takes too often": ("gates", "given.ready & flags.pop_prev", "out.valid & flags.pop_prev"),
    "always room": ("level of a small queue", "ready.eq(queue.w_rdy)", "ready.eq(1)"),
    "always something": ("level of a large queue", "valid.eq(queue.r_rdy)", "valid.eq(1)"),
    "writes unasked": ("level of a large queue", "self.write.valid & queue.w_rdy", "queue.w_rdy"),
    "reads unasked": ("order in a small queue", "read.ready & queue.r_rdy", "queue.r_rdy"),
    "reads what comes in": ("order in a large queue", "queue.r_data", "queue.w_data"),
    "changes its mind": ("arbiter's requests", "m.If(~out.valid | out.ready)", "m.If(1)"),
    "answers two": ("arbiter's requests", "request.valid & ~_any(earlier)", "request.valid"),
    "forgets the last": (
        "arbiter's answers",
        "self.beats.ready & self.beats.payload.last",
        "self.beats.ready",
    ),
    "ends early": ("writes", "last = sent == lengths.read.payload", "last = sent == 0"),
    "writes unannounced": ("writes", "words.valid & lengths.read.valid)", "words.valid)"),
    "does not wait": ("writes", "self.requests.ready & lengths.write.ready", "lengths.write.ready"),
    "never waits": ("bus", 'requests.ready.eq(getattr(self, f"{channel}ready"))', "requests.ready.eq(1)"),
    "a word too many": ("bus", "eq(requests.payload.more)", "eq(requests.payload.more + 1)"),
}
LIMIT = ("LIMIT = 255", "LIMIT = 3")
"""A limit that a planted bug can reach in the steps of a search."""
STEPS = 12
"""Of a search for a planted bug."""


def design(name: str, module: Any) -> Any:
    import bus_properties
    import properties

    kind, _, options, _, _ = PROOFS[name]
    return getattr(bus_properties if hasattr(bus_properties, kind) else properties, kind)(module, **options)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in ("bus", "writes") else ()) for n in PROOFS]
)
def test_holds(name: str, tmp_path: Path) -> None:
    import importlib

    _, module, _, mode, depth = PROOFS[name]
    rtl = importlib.import_module(f"optc.targets.fpga.rtl.{module}")
    assert verdict(design(name, rtl), mode, depth, tmp_path) == "PASS"


@pytest.mark.parametrize("bug", BUGS)
def test_finds(bug: str, tmp_path: Path) -> None:
    name, old, new = BUGS[bug]
    module = PROOFS[name][1]
    planted = mutated(module, (old, new), *([LIMIT] if module == "counter" else []))
    assert verdict(design(name, planted), "bmc", STEPS, tmp_path) == "FAIL"


def test_the_smaller_limit_is_no_bug(tmp_path: Path) -> None:
    assert verdict(design("tokens", mutated("counter", LIMIT)), "bmc", STEPS, tmp_path) == "PASS"
