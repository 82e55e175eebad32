"""Shipped models: model folders that are installed with the package."""

from __future__ import annotations

from pathlib import Path

ZOO = Path(__file__).parent


def shipped_names() -> list[str]:
    """Return the names of the shipped models."""
    return sorted(description.parent.name for description in ZOO.glob("*/model.json"))


def resolve(model: Path | str) -> Path:
    """Return the folder at this path or, if there is none, that of the shipped model of this name."""
    folder = Path(model)
    return ZOO / folder if not folder.exists() and str(model) in shipped_names() else folder
