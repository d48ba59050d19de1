"""parse(print(p)) == p, and every mistake is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context, Contract, Exact, Pass
from optc.passes.registry import parse_passes
from optc.passes.text import from_text, to_text


@dataclass(frozen=True)
class Sample:
    name: ClassVar[str] = "sample"
    contract: ClassVar[Contract] = Exact()
    kind: Literal["a", "b"] = "a"
    share: float = 0.5
    count: int | None = None
    on: bool = False
    words: tuple[str, ...] = ()
    label: str = "x"

    def run(self, model: Model, context: Context) -> bool:
        return False


@dataclass(frozen=True)
class Needs:
    name: ClassVar[str] = "needs"
    contract: ClassVar[Contract] = Exact()
    size: int

    def run(self, model: Model, context: Context) -> bool:
        return False


def lookup(name: str) -> type[Pass]:
    return {"sample": Sample, "needs": Needs}[name]


samples = st.builds(
    Sample,
    kind=st.sampled_from(["a", "b"]),
    share=st.floats(allow_nan=False),
    count=st.none() | st.integers(),
    on=st.booleans(),
    words=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    label=st.text(max_size=8),
)


@given(st.lists(samples | st.builds(Needs, size=st.integers()), max_size=3))
def test_round_trip(passes: list[Pass]) -> None:
    assert from_text(to_text(passes), lookup) == tuple(passes)


def test_defaults_are_not_printed_and_standard_expands() -> None:
    assert to_text([Sample()]) == "sample"
    assert to_text([Sample(words=("a", "b c"))]) == 'sample{words=[a,"b c"]}'
    assert from_text("standard,sample{on=true}", lookup, [Needs(1)]) == (Needs(1), Sample(on=True))
    assert from_text("", lookup) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample{shape=1}", "no option 'shape'; did you mean 'share'"),
        ("sample{kind=c}", "'c' is unknown; it takes a, b"),
        ("sample{share=big}", "'big' is not a number"),
        ("sample{count=1.5}", "'1.5' is not a whole number"),
        ("sample{on=1}", "neither true nor false"),
        ("sample{label=[a,b]}", "takes one value"),
        ("sample{on=true,on=true}", "given twice"),
        ("sample{on=true", "found the end"),
        ("sample sample", "expected ','"),
        ("sample,", "expected a pass name"),
        ('sample{label="x', "is not closed"),
        ("needs", "needs option 'size'"),
        ("standard{a=b}", "takes no options"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_text(text, lookup, [])


def test_an_unknown_pass_gets_the_nearest_name() -> None:
    with pytest.raises(InputError, match="unknown pass 'prun'; did you mean 'prune'"):
        parse_passes("prun")
