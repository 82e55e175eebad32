"""The reference of Python names, from signatures and docstrings, in place of ``<!-- api: NAME NAME ... -->``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from pydantic import BaseModel

MARKER = re.compile(r"<!-- api: (.+?) -->")
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises):$")
ITEM = re.compile(r"^([\w.]+): (.*)")
ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with what it asks for in it."""
    return MARKER.sub(lambda found: "\n".join(line for name in found[1].split() for line in entry(name)), markdown)


def entry(name: str) -> Iterator[str]:
    """Markdown of a name of `crysmm`, or of another module with its path before it."""
    module, _, short = name.rpartition(".")
    thing = getattr(import_module(module or "crysmm"), short)
    yield from (f"### {short}", "", *signature(name if module else f"crysmm.{name}", thing))
    yield from described(inspect.getdoc(thing) or "")
    for member_name, member in vars(thing).items() if inspect.isclass(thing) else ():
        if member_name.startswith("_") or not is_documented(member):
            continue
        yield from (f"#### {short}.{member_name}", "")
        if not isinstance(member, property):
            yield from signature(f"{short}.{member_name}", getattr(thing, member_name))
        yield from described(inspect.getdoc(member) or "")


def is_documented(member: Any) -> bool:
    """Whether a member of a class is a method or a property that was written there."""
    return isinstance(member, property | classmethod) or inspect.isfunction(member)


def signature(name: str, thing: Any) -> Iterator[str]:
    """How a name is called; settings are called with their keys, and errors are raised, not called."""
    if inspect.isclass(thing) and issubclass(thing, BaseModel | Exception):
        return
    shown = inspect.signature(thing)
    parameters = [one.replace(annotation=one.empty) for one in shown.parameters.values() if one.name != "self"]
    call = str(shown.replace(parameters=parameters, return_annotation=shown.empty))
    yield from ("```python", f"{name}{call}", "```", "")


def described(docstring: str) -> Iterator[str]:
    """Markdown of a docstring: paragraphs, and a list for each of its sections."""
    in_section = False
    for line in ROLE.sub(r"`\1`", docstring).splitlines():
        if found := SECTION.match(line):
            in_section = True
            yield from ("", f"**{found[1]}**", "")
        elif in_section and line and not line.startswith(" "):
            in_section = False
            yield from ("", line)
        elif in_section and (item := ITEM.match(line.removeprefix("    "))):
            yield f"- `{item[1]}`: {item[2]}"
        elif in_section and line:
            yield f"  {line.strip()}"
        else:
            yield line
    yield ""
