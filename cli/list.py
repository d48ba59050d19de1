"""`optc list`: which passes, targets and networks there are."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import click

from optc.cli.settings import settings_of, verb
from optc.models.errors import OptcError


@verb("list")
@click.argument("what", type=click.Choice(["passes", "targets", "zoo"]))
@click.pass_context
def command(ctx: click.Context, what: str) -> None:
    """List passes, targets or networks.

    Passes and targets with their options and defaults.
    """
    from optc.cli.console import print_json, print_table

    entries = {"passes": _passes, "targets": _targets, "zoo": _zoo}[what]()
    if settings_of(ctx).json:
        print_json({what: entries})
        return
    rows = []
    for entry in entries:
        options = [f"{o['name']}={o['default']} ({o['type']})" for o in entry.get("options", ())]
        rows.append((entry["name"], entry["about"], "\n".join(options)))
    columns = ["network", "what it is", "data"] if what == "zoo" else ["name", "what it does", "options"]
    if what == "zoo":
        rows = [(e["name"], e["about"], e["data"]) for e in entries]
    print_table(columns, rows)


def _passes() -> list[dict[str, Any]]:
    from optc.passes.registry import pass_class, pass_names

    return [_entry(name, pass_class) for name in pass_names()]


def _targets() -> list[dict[str, Any]]:
    from optc.targets.registry import target_class, target_names

    return [_entry(name, target_class) for name in target_names()]


def _entry(name: str, load: Callable[[str], type]) -> dict[str, Any]:
    """One pass or target; one whose package fails to load is listed with the reason."""
    try:
        cls = load(name)
    except (ImportError, AttributeError, OptcError) as error:
        return {"name": name, "about": f"cannot be loaded: {error}", "options": []}
    about = (inspect.getdoc(cls) or "").partition("\n")[0]
    return {"name": name, "about": about, "options": _options(cls)}


def _options(cls: type) -> list[dict[str, str]]:
    hints = get_type_hints(cls)
    return [
        {"name": f.name, "type": _type_text(hints[f.name]), "default": _default(f)}
        for f in dataclasses.fields(cls)
        if f.init
    ]


def _type_text(hint: Any) -> str:
    if hint in (bool, int, float, str):
        return str(hint.__name__)
    text = str(hint).replace("typing.", "").replace("NoneType", "none").replace("None", "none")
    if text.startswith("Literal["):
        return text.removeprefix("Literal[").removesuffix("]").replace("'", "").replace(", ", "|")
    return text


def _default(field: dataclasses.Field[Any]) -> str:
    from optc.passes.text import value_text

    if field.default is not dataclasses.MISSING:
        return value_text(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return value_text(field.default_factory())
    return "needed"


def _zoo() -> list[dict[str, Any]]:
    from optc.models.zoo.registry import zoo_entries

    return [
        {
            "name": f"zoo:{e.name}",
            "about": e.description,
            "licence": e.licence,
            "data": ", ".join(k for k, v in (("calibration", e.calibration), ("test", e.test)) if v),
            "metric": e.metric,
        }
        for e in zoo_entries()
    ]
