"""Short Boolean formulas, as C++, of truth tables of up to four inputs; values are the integers 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

CONSTANTS = ("0", "1")


class Formula(NamedTuple):
    """How many operations, and the text with `{0}`, `{1}`, ... for the inputs."""

    cost: int
    text: str


def lookup(table: int, operands: Sequence[str]) -> str:
    """What a LUT gives: bit i of `table` is its value where the operands, the first lowest, make i.

    Operands are C++ without operators; constants and equal operands make the formula shorter.
    """
    names = sorted({name for name in operands if name not in CONSTANTS})
    reduced = 0
    for row in range(1 << len(names)):
        values = {"0": 0, "1": 1} | {name: row >> i & 1 for i, name in enumerate(names)}
        reduced |= (table >> sum(values[o] << i for i, o in enumerate(operands)) & 1) << row
    return formula(reduced, len(names)).text.format(*names)


@cache
def formula(table: int, inputs: int) -> Formula:
    """The shortest that splitting off one input after the other finds; exact up to two inputs."""
    full = (1 << (1 << inputs)) - 1
    if table in (0, full):
        return Formula(0, "01"[table != 0])
    return min(found for split in range(inputs) for found in _splits(table, inputs, split))


def _splits(table: int, inputs: int, split: int) -> list[Formula]:
    """Formulas with the input `split` on its own and others of the rest."""
    low, high = _cofactor(table, inputs, split, 0), _cofactor(table, inputs, split, 1)
    rest = inputs - 1
    full = (1 << (1 << rest)) - 1

    def some(first: int, last: int) -> Formula:
        return _renamed(_between(first, last, rest), split, rest)

    def one(exact: int) -> Formula:
        return some(exact, exact)

    x, other = Formula(0, f"{{{split}}}"), Formula(1, f"({{{split}}} ^ 1)")
    if low == high:
        return [one(low)]
    either = [
        _join("^", one(low), _join("&", x, one(low ^ high))),
        _join("^", one(high), _join("&", other, one(low ^ high))),
    ]
    for literal, off, on in ((x, low, high), (other, high, low)):
        if not off & ~on:
            either.append(_join("|", one(off), _join("&", literal, some(on & ~off, on))))
            either.append(_join("&", one(on), _join("|", literal, some(off, off | full & ~on))))
    if not low & high:
        either.append(_join("&", one(low | high), _join("^", x, some(low, full & ~high))))
    if low | high == full:
        either.append(_join("|", one(low & high), _join("^", x, some(low & ~high, low | full & ~high))))
    return either


@cache
def _between(first: int, last: int, inputs: int) -> Formula:
    """The shortest of a table that has the ones of `first` and no others than `last` has."""
    tables = {first}
    for bit in range(1 << inputs):
        if (last & ~first) >> bit & 1:
            tables |= {table | 1 << bit for table in tables}
    return min(formula(table, inputs) for table in tables)


def _cofactor(table: int, inputs: int, split: int, value: int) -> int:
    """The table of the other inputs where the input `split` is `value`."""
    rows = [row for row in range(1 << inputs) if row >> split & 1 == value]
    return sum((table >> row & 1) << place for place, row in enumerate(rows))


def _renamed(found: Formula, split: int, rest: int) -> Formula:
    """With the numbers that inputs have where `split` is one of them."""
    names = [f"{{{i + (i >= split)}}}" for i in range(rest)]
    return Formula(found.cost, found.text.format(*names))


def _join(operator: str, a: Formula, b: Formula) -> Formula:
    """`a operator b`, simpler where one of them is a constant."""
    for one, other in ((a, b), (b, a)):
        if one.text in CONSTANTS:
            if operator == "^" and one.text == "1":
                return Formula(other.cost + 1, f"({other.text} ^ 1)")
            if (operator == "&") == (one.text == "0") and operator != "^":
                return one
            return other
    return Formula(a.cost + b.cost + 1, f"({a.text} {operator} {b.text})")
