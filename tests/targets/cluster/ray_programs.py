"""Small programs of a few ranks, and their artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from optc.models.model import Model
from optc.targets.cluster.program import Collective, Message, Part, Program, Rank
from optc.targets.onnxruntime import OnnxRuntime

HEAD = '<ir_version: 8, opset_import: ["": 17]> '
SPREAD = {
    "all_gather": Collective("h", "g", (0, 1), (0, 1), 96, axis=0, have=((0, 2), (2, 3))),
    "all_reduce": Collective("h", "g", (0, 1), (0, 1), 96, reduce=True),
    "reduce_scatter": Collective(
        "h", "g", (0, 1), (0, 1), 96, reduce=True, need_axis=1, need=((0, 1), (1, 8))
    ),
    "halo": Collective(
        "h", "g", (0, 1), (0, 1), 96, axis=1, have=((0, 4), (4, 8)), need_axis=1, need=((0, 5), (3, 8))
    ),
    "all_to_all": Collective(
        "h", "g", (0, 1), (0, 1), 96, axis=0, have=((0, 2), (2, 3)), need_axis=1, need=((0, 3), (3, 8))
    ),
}
"""A collective of every kind between two ranks, of tensors [3,8]."""


def build(folder: Path, name: str, text: str) -> Part:
    """The artifact of a part in ONNX text."""
    proto = onnx.parser.parse_model(HEAD + text)
    (folder / name).mkdir()
    OnnxRuntime(threads=1, optimize=False).build(Model(proto), folder / name)
    return Part(
        name, tuple(i.name for i in proto.graph.input), tuple(o.name for o in proto.graph.output), 1e-6
    )


def chain(folder: Path, first: str = "h = Abs(x)", second: str = "y = Neg(h)") -> Program:
    """Two stages, x [N,M] to y, by way of h."""
    one = build(folder, "one", f"g (float[N,M] x) => (float[N,M] h) {{ {first} }}")
    two = build(folder, "two", f"g (float[N,M] h) => (float[N,M] y) {{ {second} }}")
    message = Message("h", 0, 1, 64)
    return Program((Rank(0, 0, (one,)), Rank(1, 0, (two,))), (message,), (), ("x",), {"y": 1})


def spread(folder: Path, collective: Collective) -> Program:
    """Two ranks with a collective between their two parts each: x0, x1 to y0, y1, halved and negated."""
    ranks = []
    for rank in (0, 1):
        half = f"c = Constant <value_float = 0.5> () h = Mul(x{rank}, c)"
        before = f"g (float[N,M] x{rank}) => (float[N,M] h) {{ {half} }}"
        after = f"g (float[N,M] g) => (float[N,M] y{rank}) {{ y{rank} = Neg(g) }}"
        parts = build(folder, f"before{rank}", before), build(folder, f"after{rank}", after)
        ranks.append(Rank(0, rank, parts))
    return Program(tuple(ranks), (), (collective,), ("x0", "x1"), {"y0": 0, "y1": 1})


def spread_case(name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs of `spread` for a collective of `SPREAD`, and the outputs, by numpy alone."""
    whole = np.random.default_rng(0).integers(-99, 99, (2, 3, 8)).astype(np.float32) * 2
    one, two = whole
    rows = {"x0": one[:2], "x1": one[2:]}
    columns = {"x0": one[:, :4], "x1": one[:, 4:]}
    terms = {"x0": one, "x1": two}
    total = one + two
    inputs, wanted = {
        "all_gather": (rows, (one, one)),
        "all_reduce": (terms, (total, total)),
        "reduce_scatter": (terms, (total[:, :1], total[:, 1:])),
        "halo": (columns, (one[:, :5], one[:, 3:])),
        "all_to_all": (rows, (one[:, :3], one[:, 3:])),
    }[name]
    return inputs, {f"y{rank}": array * np.float32(-0.5) for rank, array in enumerate(wanted)}


def feeds(count: int, shape: Sequence[int] = (2, 4)) -> list[dict[str, np.ndarray]]:
    """Requests of `chain`, each with its number in it."""
    return [{"x": np.full(shape, number, np.float32)} for number in range(count)]
