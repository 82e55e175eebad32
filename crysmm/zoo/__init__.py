"""Shipped models: model folders that are installed with the package."""

from __future__ import annotations

from pathlib import Path

ZOO = Path(__file__).parent
GROUPS = ("jarvis",)
"""Groups of shipped models that read the same graphs and can be used together."""


def shipped_names() -> list[str]:
    """Return the names of the shipped models."""
    return sorted(description.parent.name for description in ZOO.glob("*/model.json"))


def resolve(model: Path | str) -> Path:
    """Return the folder at this path or, if there is none, that of the shipped model of this name."""
    folder = Path(model)
    return ZOO / folder if not folder.exists() and str(model) in shipped_names() else folder


def group_members(name: str) -> list[str]:
    """Return the names of the shipped models of a group, those that start with its name; none of another name."""
    return [member for member in shipped_names() if name in GROUPS and member.startswith(f"{name}-")]


def resolve_group(model: Path | str) -> list[Path]:
    """Return the folders of a group of shipped models, or one folder, also where it has the name of a group."""
    members = [] if Path(model).exists() else group_members(str(model))
    return [ZOO / member for member in members] or [resolve(model)]
