"""The one text form of a pipeline: `prune{criterion=magnitude,sparsity=0.5},quantize`.

Options are the fields of the pass's dataclass: bool, int, float, str, Literal, `X | None`, and tuples of
these, written `[a,b]`. A string stands bare, or quoted as in JSON where it holds a character of the grammar.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from optc.models.errors import InputError
from optc.passes.base import Pass

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[{}\[\],=]|[^\s{}\[\],="]+)')
_BARE = re.compile(r'[^\s{}\[\],="]+')

Lookup = Callable[[str], type[Pass]]


def to_text(passes: Iterable[Pass]) -> str:
    """The text of a pipeline; options at their default value are left out."""
    return ",".join(_pass_text(p) for p in passes)


def _pass_text(p: Pass) -> str:
    options = []
    for field in _fields(type(p)):
        value = getattr(p, field.name)
        default = field.default_factory() if callable(field.default_factory) else field.default
        if value != default or type(value) is not type(default):
            options.append(f"{field.name}={value_text(value)}")
    return p.name + (f"{{{','.join(options)}}}" if options else "")


def _fields(cls: type[Pass]) -> list[dataclasses.Field[Any]]:
    return [f for f in dataclasses.fields(cls) if f.init]  # type: ignore[arg-type]


def value_text(value: object) -> str:
    """The text of one option's value, as a pipeline text holds it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return "[" + ",".join(value_text(v) for v in value) + "]"
    if isinstance(value, str) and (not _BARE.fullmatch(value) or value == "none"):
        return json.dumps(value)
    return str(value)


class _Reader:
    """The tokens of a pipeline text, with the position for messages."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, int]] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if not match:
                raise InputError(f"pipeline '{text}': a quote at character {position + 1} is not closed")
            self.tokens.append((match[1], match.start(1)))
            position = match.end()
        self.at = 0

    def peek(self) -> str | None:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else None

    def fail(self, expected: str) -> InputError:
        where = self.tokens[self.at][1] if self.at < len(self.tokens) else len(self.text)
        found = f"'{self.peek()}'" if self.peek() else "the end"
        return InputError(
            f"pipeline '{self.text}': expected {expected}, found {found} at character {where + 1}"
        )

    def take(self, wanted: str) -> None:
        if self.peek() != wanted:
            raise self.fail(f"'{wanted}'")
        self.at += 1

    def word(self, what: str) -> str:
        token = self.peek()
        if token is None or token in "{}[],=":
            raise self.fail(what)
        self.at += 1
        return token


_Raw = Union[str, "list[_Raw]"]


def from_text(text: str, lookup: Lookup, standard: Sequence[Pass] | None = None) -> tuple[Pass, ...]:
    """Parse a pipeline text; `lookup` gives the class of a pass name, `standard` stands for that word.

    Raises `InputError` naming the pass, the option and what would be accepted.
    """
    reader = _Reader(text)
    passes: list[Pass] = []
    while reader.peek() is not None:
        name = reader.word("a pass name")
        options = _options(reader) if reader.peek() == "{" else {}
        if name == "standard" and standard is not None:
            if options:
                raise InputError(f"pipeline '{text}': 'standard' takes no options")
            passes.extend(standard)
        else:
            passes.append(make_pass(lookup(name), options))
        if reader.peek() is not None:
            reader.take(",")
            if reader.peek() is None:
                raise reader.fail("a pass name")
    return tuple(passes)


def _options(reader: _Reader) -> dict[str, _Raw]:
    options: dict[str, _Raw] = {}
    reader.take("{")
    while reader.peek() != "}":
        key = reader.word("an option's name or '}'")
        reader.take("=")
        if key in options:
            raise InputError(f"pipeline '{reader.text}': option '{key}' is given twice")
        options[key] = _raw_value(reader)
        if reader.peek() != "}":
            reader.take(",")
    reader.take("}")
    return options


def _raw_value(reader: _Reader) -> _Raw:
    if reader.peek() != "[":
        return reader.word("a value")
    reader.take("[")
    items: list[_Raw] = []
    while reader.peek() != "]":
        items.append(_raw_value(reader))
        if reader.peek() != "]":
            reader.take(",")
    reader.take("]")
    return items


def make_pass(cls: type[Pass], options: dict[str, _Raw]) -> Pass:
    """An instance of a pass class from option texts; `InputError` on an unknown option or value."""
    hints = get_type_hints(cls)
    known = [f.name for f in _fields(cls)]
    for key in options:
        if key not in known:
            raise InputError(f"pass '{cls.name}' has no option '{key}'{suggest(key, known)}")
    values = {k: _convert(v, hints[k], f"pass '{cls.name}', option '{k}'") for k, v in options.items()}
    missing = [
        f.name
        for f in _fields(cls)
        if f.name not in values and f.default is f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"pass '{cls.name}' needs option '{missing[0]}'; write {cls.name}{{{missing[0]}=…}}")
    return cls(**values)


def suggest(word: str, known: Sequence[str]) -> str:
    """The end of a message about an unknown word: the nearest known one, or all."""
    near = difflib.get_close_matches(word, known, 1)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; it takes {', '.join(known)}" if known else "; it takes none"


def _convert(raw: _Raw, hint: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(raw, hint, where)
    if origin is tuple:
        items = raw if isinstance(raw, list) else [raw]
        return tuple(_convert(item, get_args(hint)[0], where) for item in items)
    if isinstance(raw, list):
        raise InputError(f"{where}: takes one value, not a list")
    word = json.loads(raw) if raw.startswith('"') else raw
    if origin is Literal:
        allowed = [str(a) for a in get_args(hint)]
        if word not in allowed:
            raise InputError(f"{where}: '{word}' is unknown; it takes {', '.join(allowed)}")
        return get_args(hint)[allowed.index(word)]
    return _convert_scalar(word, hint, where)


def _convert_union(raw: _Raw, hint: Any, where: str) -> Any:
    members = [a for a in get_args(hint) if a is not type(None)]
    if raw == "none" and len(members) < len(get_args(hint)):
        return None
    for member in members[:-1]:
        try:
            return _convert(raw, member, where)
        except InputError:
            continue
    return _convert(raw, members[-1], where)


def _convert_scalar(word: str, hint: Any, where: str) -> Any:
    if hint is str:
        return word
    if hint is bool:
        if word not in ("true", "false"):
            raise InputError(f"{where}: '{word}' is neither true nor false")
        return word == "true"
    try:
        return hint(word)
    except ValueError:
        kind = {int: "a whole number", float: "a number"}.get(hint, str(hint))
        raise InputError(f"{where}: '{word}' is not {kind}") from None
