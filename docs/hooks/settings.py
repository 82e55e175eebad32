"""The reference of the settings, from the models that validate them, in place of ``<!-- settings -->``."""

from __future__ import annotations

import html
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from crysmm.config import RunConfig
from crysmm.config.loading import COMMANDS, SECTIONS, format_value
from crysmm.config.models import BACKBONES
from crysmm.config.run import DEFAULT_CHOICES

MARKER = "<!-- settings -->"
TYPES = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text", "array": "list"}
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with the settings in it, where it asks for them."""
    return markdown.replace(MARKER, "\n".join(lines())) if MARKER in markdown else markdown


def lines() -> Iterator[str]:
    """Markdown: what all runs have, what a kind of run has besides, then the choices by name."""
    yield from ("## Every run", "")
    yield from fields_of(RunConfig, leave_out=SECTIONS)
    for kind, command in COMMANDS.items():
        yield from (f"## {command} alone", "")
        yield from fields_of(kind, leave_out=SECTIONS)
    for section, choices in SECTIONS.items():
        owner = next(kind for kind in COMMANDS if section in kind.model_fields)
        yield from (f"## {section}", "", sentence_of(owner.model_fields[section]), "")
        yield f"`--{section}` is short for `--{section}.name`; by default it is `{DEFAULT_CHOICES[section]}`.\n"
        for name, settings in choices.items():
            yield from (f"### {section}.name {name}", "", inspect.getdoc(settings) or "", "")
            yield from described(settings, [field for field in settings.model_fields if field != "name"], f"{section}.")


def fields_of(kind: type[RunConfig], leave_out: Mapping[str, Any]) -> Iterator[str]:
    """The settings that a class adds, under the comments that group them in its source."""
    groups: dict[str, list[str]] = {}
    group = ""
    for comment, name in re.findall(r"^    (?:# (.+)|(\w+): .*)$", inspect.getsource(kind), re.MULTILINE):
        if comment:
            group = comment
        elif name in kind.__annotations__ and name not in leave_out and name in kind.model_fields:
            groups.setdefault(group, []).append(name)
    for title, names in groups.items():
        yield from ([f"### {title}", ""] if title else [])
        yield from described(kind, names, "")


def described(kind: type[BaseModel], names: list[str], prefix: str) -> Iterator[str]:
    """Settings, their sentences, what they may be and what they are by default, as a definition list."""
    schema = kind.model_json_schema()["properties"]
    for name in names:
        field = kind.model_fields[name]
        anchor = "" if prefix else f"{{#{name}}}"  # keys of a choice can stand in several
        facts = "; ".join(filter(None, [allowed(schema[name]), default_of(kind, name, field)]))
        yield from (f"`{prefix}{name}`{anchor}", f":   {sentence_of(field)}", f"    <small>{facts}</small>", "")


def sentence_of(field: FieldInfo) -> str:
    """What a setting is."""
    return html.escape(field.description or "", quote=False)


def allowed(schema: Mapping[str, Any]) -> str:
    """What a setting may be, from its JSON schema."""
    one = next((option for option in schema.get("anyOf", ()) if option["type"] != "null"), schema)
    if "enum" in one:
        return ", ".join(f"`{value}`" for value in one["enum"])
    bounds = [text.format(f"{one[key]:g}") for key, text in BOUNDS.items() if key in one]
    kind = "path" if one.get("format") == "path" else TYPES[one["type"]]
    return ", ".join([kind, *bounds])


def default_of(kind: type[BaseModel], name: str, field: FieldInfo) -> str:
    """What a setting is where it is not given; of one that depends on the backbone, with each of them."""
    if field.is_required():
        return "needed"
    if field.default_factory is None:
        return "" if field.default is None else f"by default `{format_value(field.default)}`"
    values = {backbone: format_value(getattr(kind(model=backbone), name)) for backbone in BACKBONES}
    if len(set(values.values())) == 1:
        return f"by default `{next(iter(values.values()))}`"
    return "by default " + ", ".join(f"`{value}` for {backbone}" for backbone, value in values.items())
