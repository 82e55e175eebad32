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


def resolve_group(model: Path | str) -> list[Path]:
    """Return the folders of a group of shipped models, those whose names start with its name, or one folder."""
    is_group = str(model) in GROUPS and not Path(model).exists()
    members = [ZOO / name for name in shipped_names() if is_group and name.startswith(f"{model}-")]
    return members or [resolve(model)]
